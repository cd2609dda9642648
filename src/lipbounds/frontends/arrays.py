"""From a file of weight matrices: NumPy's .npz and .npy, MATLAB's .mat."""

import re
from pathlib import Path

import numpy as np

from ..errors import LipboundsError, first_line, out_of_memory
from ..networks.activations import Activation
from ..networks.network import Network

LAYOUT = (
    "matrices W0, W1, ..., the first layer's first, and vectors b0, b1, ... where layers have "
    "biases (counted from 0 or from 1), or cell arrays `weights` and `biases`"
)
HEADER = "__"  # with which MATLAB's own entries begin


def from_arrays(path: Path, activation: Activation | str = "relu") -> Network:
    """The network of the matrices in a .npz, .npy (one matrix) or .mat file, with the activation
    between them. Raises LipboundsError for what is no such file, or does not hold LAYOUT."""
    if path.suffix.lower() == ".npy":
        found = _read(path, lambda: np.load(path, allow_pickle=False))
        if not isinstance(found, np.ndarray):
            raise LipboundsError(f"{path} is no .npy file; is it an .npz?")
        weights, biases = [found], None
    else:
        read = _matlab if path.suffix.lower() == ".mat" else _numpy
        weights, biases = _ordered(path, read(path))
    for weight in weights:
        if weight.ndim != 2 or weight.dtype.kind not in "fiu":
            kind = f"shape {weight.shape} and type {weight.dtype}"
            raise LipboundsError(f"{path} holds weights of {kind}; they must be real matrices")
    return Network.from_weights(weights, biases, activation)


def _read(path: Path, function):
    try:
        return function()
    except NotImplementedError:
        raise LipboundsError(f"{path} is of MATLAB 7.3; save it by save(..., '-v7')") from None
    except Exception as error:  # whatever a file that is none raises
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"{path} is no whole {path.suffix} file ({first_line(error)})"
        ) from None


def _numpy(path: Path) -> dict[str, np.ndarray]:
    def whole() -> dict[str, np.ndarray]:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    return _read(path, whole)


def _matlab(path: Path) -> dict[str, np.ndarray]:
    """Its arrays; cell arrays entry by entry, and vectors, which MATLAB saves as matrices."""
    from scipy.io import loadmat

    found = {}
    for name, value in _read(path, lambda: loadmat(path)).items():
        if name.startswith(HEADER):
            continue
        if value.dtype == object and name in ("weights", "biases"):
            parts = {f"{name[0].upper()}{k}": one for k, one in enumerate(value.flat)}
            found |= {part: one for part, one in parts.items() if one.size or name == "weights"}
        else:
            found[name] = value
    found = {name: v.toarray() if hasattr(v, "toarray") else v for name, v in found.items()}
    lower = {f"b{name[1:]}" if name.startswith("B") else name: v for name, v in found.items()}
    return {name: v.reshape(-1) if name.startswith("b") else v for name, v in lower.items()}


def _ordered(path: Path, arrays: dict[str, np.ndarray]) -> tuple[list, list]:
    """Weights and biases, None where there is none."""
    numbers = sorted(int(name[1:]) for name in arrays if re.fullmatch(r"W\d+", name))
    first = min(numbers, default=0)
    unknown = set(arrays) - {f"{kind}{k}" for kind in "Wb" for k in numbers}
    if not numbers or unknown or first > 1 or numbers != list(range(first, first + len(numbers))):
        raise LipboundsError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; it must hold {LAYOUT}"
        )
    return [arrays[f"W{k}"] for k in numbers], [arrays.get(f"b{k}") for k in numbers]
