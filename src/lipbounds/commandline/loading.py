"""A network from a file, whatever kind of file it is."""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import LipboundsError
from ..frontends.modules import from_torch
from ..frontends.onnx_files import from_onnx
from ..networks.network import Network

KINDS = ".onnx, .npz (arrays W0, b0, W1, b1, ...), or .pt and .pth (a whole module, with --trust)"


def loaded(
    path: Path,
    shape: Sequence[int] | None = None,
    logits: bool = False,
    activation: str = "relu",
    trust: bool = False,
) -> Network:
    """The network in the file. shape: of one input; logits: without a softmax at the end of an ONNX
    file; activation: between the weights of an .npz; trust: whether a pickled module, which may run
    any code when it is loaded, is loaded. Raises LipboundsError in one sentence for what cannot be
    read, UnsupportedError for what no bound covers."""
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return from_onnx(path, shape, logits)
    if not path.is_file():
        raise LipboundsError(f"{path} does not exist, or is no file; give one of {KINDS}")
    if suffix == ".npz":
        return _from_arrays(path, activation)
    if suffix in (".pt", ".pth"):
        return _from_pickle(path, shape, trust)
    raise LipboundsError(f"{path}: {suffix or 'no suffix'} is not known; give one of {KINDS}")


def _from_arrays(path: Path, activation: str) -> Network:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise LipboundsError(f"{path} is no whole .npz file ({error})") from None
    numbers = sorted(int(name[1:]) for name in arrays if re.fullmatch(r"W\d+", name))
    wanted = {f"W{k}" for k in numbers}
    unknown = set(arrays) - wanted - {f"b{k}" for k in numbers}
    if not numbers or unknown or numbers != list(range(len(numbers))):
        raise LipboundsError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}; it must hold W0, W1, ... "
            "(matrices, first layer first), and b0, b1, ... where layers have biases"
        )
    weights = [arrays[f"W{k}"] for k in numbers]
    biases = [arrays.get(f"b{k}") for k in numbers]
    return Network.from_weights(weights, biases, activation)


def _from_pickle(path: Path, shape: Sequence[int] | None, trust: bool) -> Network:
    try:
        found = torch.load(path, weights_only=not trust, map_location="cpu")
    except pickle.UnpicklingError:
        raise LipboundsError(
            f"{path} holds more than weights, and loading it may run any code that is in it; pass "
            "--trust if you know where it comes from, or export the network to ONNX"
        ) from None
    except Exception as error:  # whatever a file that is none raises
        reason = str(error).partition("\n")[0]
        raise LipboundsError(f"{path} is no whole file of torch.save ({reason})") from None
    if not isinstance(found, nn.Module):
        raise LipboundsError(
            f"{path} holds weights, but not the network that they are of; build it in Python and "
            "call lipbounds.from_torch, or export it to ONNX"
        )
    if shape is None:
        raise LipboundsError(f"{path}: say what shape one input has, for instance --shape 3,32,32")
    return from_torch(found.eval(), shape)
