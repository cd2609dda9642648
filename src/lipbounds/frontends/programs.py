"""From a program of torch.export, which a .pt2 file holds."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from ..arguments import check_device
from ..errors import LipboundsError, UnsupportedError, first_line
from ..networks.network import Network
from .equality import Imported, Source, checked
from .exported import BATCH, aten, graph_of
from .lowering import lowered
from .modules import number_type, roundoff
from .pieces import Shape, checked_shape

DIFFERS = "report it as a fault of the conversion, with the program"
REMEDY = "export it from what it was made of: torch.export.export(module.eval(), (x,))"
FIXED = (
    "the program was exported for one size of batch, which is written into its operations; export "
    "it with dynamic_shapes=({0: torch.export.Dim.AUTO},) and a batch of two"
)
SHAPED = (aten.view.default, aten.reshape.default, aten.expand.default)


def from_exported(program: ExportedProgram, input_shape: Sequence[int] | None = None) -> Network:
    """The network that a program of torch.export computes, in float64.

    program: as torch.export.export gives it, or torch.export.load of a .pt2 file, which may run any
    code that is in the file. input_shape: of one input, without the batch dimension; needed where
    the program leaves other dimensions open than the batch.
    The Network equals the program up to rounding, which is checked on a few inputs. Raises
    LipboundsError for shapes that do not fit, and UnsupportedError for a program of several inputs
    and what `from_torch` does not cover either, naming the place.
    """
    return imported(program, input_shape).network


def imported(program: ExportedProgram, input_shape: Sequence[int] | None = None) -> Imported:
    """As `from_exported`, with the largest difference to the program that was found."""
    check_device("from_exported")
    if not isinstance(program, ExportedProgram):
        kind = type(program).__name__
        raise LipboundsError(
            f"program must be a torch.export.ExportedProgram, not of type {kind}; read a .pt2 file "
            "with torch.export.load, and pass modules to from_torch"
        )
    batch, *sizes = _input_sizes(program)
    shape = checked_shape(_agreed(sizes, input_shape))
    module = _unguarded(program)
    traced = module if batch is None else _for_two(_unguarded(program), batch)
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    with torch.inference_mode(False), torch.no_grad():
        network = lowered(_graph(traced, shape, device, batch))
        dtype = number_type(module)
        source = Source("program", partial(_outputs, module, batch), dtype, DIFFERS)
        return checked(network, source, roundoff(dtype, network.device))


def _unguarded(program: ExportedProgram) -> nn.Module:
    """Without the checks of the batch's size, as the conversion takes two inputs."""
    module = program.module(check_guards=False)
    return fx.GraphModule(module, module.graph)  # a copy has no hooks


def _for_two(module: fx.GraphModule, batch: int) -> fx.GraphModule:
    """With two in the place of the batch in what its operations say of shapes; where that is not
    what they mean, the comparison with the program finds it."""
    moving = set()  # what depends on the input
    for node in module.graph.nodes:
        if node.op != "placeholder" and moving.isdisjoint(node.all_input_nodes):
            continue
        moving.add(node)
        if node.target in SHAPED and node.args[1][0] == batch:
            node.args = (node.args[0], [BATCH, *node.args[1][1:]], *node.args[2:])
    module.recompile()
    return module


def _input_sizes(program: ExportedProgram) -> list[int | None]:
    """Those of its one input, the batch first; None for what it leaves open."""
    specs = program.graph_signature.input_specs
    names = {spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT}
    given = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(given) != 1 or not isinstance(given[0].meta.get("val"), Tensor):
        raise UnsupportedError(
            f"the program takes {len(names)} inputs; it must take one tensor, with a batch first"
        )
    value = given[0].meta["val"]
    if value.ndim < 2:
        raise UnsupportedError(
            f"the program's input has shape {tuple(value.shape)}; its first dimension must be that "
            "of a batch"
        )
    return [size if isinstance(size, int) else None for size in value.shape]


def _agreed(sizes: list[int | None], shape: Sequence[int] | None) -> Sequence[int]:
    if shape is None:
        if None in sizes:
            shown = tuple("?" if size is None else size for size in sizes)
            raise LipboundsError(
                f"the program leaves the shape of one input open: {shown}; say it, by input_shape"
            )
        return sizes
    shape = checked_shape(shape)
    fits = len(shape) == len(sizes) and all(
        size in (None, given) for size, given in zip(sizes, shape, strict=True)
    )
    if not fits:
        raise LipboundsError(f"the program takes inputs of shape {tuple(sizes)}, not {shape}")
    return shape


def _graph(module: nn.Module, shape: Shape, device: torch.device, batch: int | None):
    try:
        return graph_of(module, shape, device)
    except LipboundsError as error:
        if batch in (None, BATCH):
            raise
        raise type(error)(f"{error}. Perhaps {FIXED}") from None


def _outputs(module: nn.Module, batch: int | None, x: Tensor) -> Tensor:
    """By batches of the program's size, the last one filled up."""
    size = batch or len(x)
    filled = torch.cat([x, x[:1].expand(-len(x) % size, *x.shape[1:])])
    try:
        found = torch.cat([module(part).flatten(1) for part in filled.split(size)])
    except Exception as error:  # whatever the program does
        raise LipboundsError(f"the program itself fails ({first_line(error)}); {REMEDY}") from None
    return found[: len(x)].double()
