"""A network from a file, whatever kind of file it is."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import LipboundsError, first_line, out_of_memory
from ..frontends import modules, onnx_files, programs
from ..frontends.arrays import from_arrays
from ..frontends.equality import Imported

KINDS = (
    ".onnx, .npz, .npy and .mat (matrices W0, W1, ...), or, with --trust, .pt2 (a program of "
    "torch.export), .pt and .pth (a whole module)"
)
TRUST = "pass --trust if you know where it comes from, or export the network to ONNX"


def loaded(
    path: Path,
    shape: Sequence[int] | None = None,
    logits: bool = False,
    activation: str = "relu",
    trust: bool = False,
) -> Imported:
    """The network in the file. shape: of one input; logits: without a softmax at the end of an ONNX
    file; activation: between matrices; trust: whether a file is read that may run any code then.
    Raises LipboundsError in one sentence for what cannot be read, UnsupportedError for what no
    bound covers."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return onnx_files.imported(path, shape, logits)
    if not path.is_file():
        raise LipboundsError(f"{path} does not exist, or is no file; give one of {KINDS}")
    if suffix in (".npz", ".npy", ".mat"):
        return Imported(from_arrays(path, activation))
    if suffix == ".pt2":
        return _from_program(path, shape, trust)
    if suffix in (".pt", ".pth"):
        return _from_pickle(path, shape, trust)
    raise LipboundsError(f"{path}: {suffix or 'no suffix'} is not known; give one of {KINDS}")


def _from_program(path: Path, shape: Sequence[int] | None, trust: bool) -> Imported:
    if not trust:
        raise LipboundsError(f"{path} may hold pickles, which can run any code; {TRUST}")
    try:
        program = torch.export.load(path)
    except Exception as error:  # whatever a file that is none raises
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"{path} is no whole file of torch.export.save, or of another version of torch "
            f"({first_line(error)})"
        ) from None
    return programs.imported(program, shape)


def _from_pickle(path: Path, shape: Sequence[int] | None, trust: bool) -> Imported:
    try:
        found = torch.load(path, weights_only=not trust, map_location="cpu")
    except pickle.UnpicklingError as error:
        if trust:
            raise LipboundsError(f"{path} is no whole file of torch.save ({error})") from None
        raise LipboundsError(
            f"{path} holds more than weights, and loading it may run any code in it; {TRUST}"
        ) from None
    except Exception as error:  # whatever a file that is none raises
        if out_of_memory(error):
            raise
        raise LipboundsError(
            f"{path} is no whole file of torch.save ({first_line(error)})"
        ) from None
    if not isinstance(found, nn.Module):
        raise LipboundsError(
            f"{path} holds weights, but not the network that they are of; build it in Python and "
            "call lipbounds.from_torch, or export it to ONNX or by torch.export"
        )
    if shape is None:
        raise LipboundsError(f"{path}: say what shape one input has, for instance --shape 3,32,32")
    return modules.imported(found.eval(), shape)
