"""Imports torchvision beside a torch built for another device.

PyPI's torchvision is built for CUDA. Beside a CPU-only torch its compiled extension cannot load,
and `import torchvision` then fails with "operator torchvision::nms does not exist": the package
registers shape rules for two operators which only the extension declares. Reading data sets needs
neither operator, so declaring the two is enough. Where the extension does load it declares them
itself, and a second declaration would crash; hence the trial below.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

import torch

# torch drops the declarations of a Library that is garbage collected.
_LIBRARIES: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Returns the module torchvision, imported so that its data sets work; may be called again.

    Raises ModuleNotFoundError where torchvision is not installed.
    """
    if not (hasattr(torch.ops.torchvision, "nms") or _extension_loads()):
        _declare_operators()
    import torchvision

    return torchvision


def _extension_loads() -> bool:
    package = find_spec("torchvision")
    if package is None:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    extension = PathFinder.find_spec("_C", package.submodule_search_locations)
    if extension is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _LIBRARIES.append(library)
