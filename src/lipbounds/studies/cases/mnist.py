"""Small networks for MNIST: architectures, training, checkpoints.

Images enter as pixel/255, with no other normalisation; so a Lipschitz constant of these networks is
the change of the outputs (the ten logits) per unit of pixel in [0, 1].
"""

import io
import math
import pickle
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import LipboundsError
from ..files import write_bytes


class CheckpointError(LipboundsError):
    """A file is not a checkpoint that `save` wrote, or is missing."""


def _mlp() -> nn.Sequential:
    return nn.Sequential(*_classifier(784, 64, 32))


def _small() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(1, 4), nn.MaxPool2d(2),
        *_convolution(4, 8), nn.MaxPool2d(2),
        *_classifier(128, 32),
    )  # fmt: skip


def _strided() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(1, 8, stride=2), *_convolution(8, 8, stride=2), *_classifier(128, 32)
    )


def _avgpool() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(1, 4), nn.AvgPool2d(2),
        *_convolution(4, 8), nn.AvgPool2d(2),
        *_classifier(128, 32),
    )  # fmt: skip


def _two_fc() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(1, 4), nn.MaxPool2d(2),
        *_convolution(4, 8), nn.MaxPool2d(2),
        *_classifier(128, 64, 32),
    )  # fmt: skip


def _large() -> nn.Sequential:
    return nn.Sequential(
        *_convolution(1, 16), nn.MaxPool2d(2),
        *_convolution(16, 32), nn.MaxPool2d(2),
        *_classifier(512, 128),
    )  # fmt: skip


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel_size=5, stride=stride), nn.ReLU()]


def _classifier(*widths: int) -> list[nn.Module]:
    """Fully connected layers of these widths, with ReLU after each, and ten outputs."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return [*layers, nn.Linear(widths[-1], 10)]


SHAPE = (1, 28, 28)  # of one image
ARCHITECTURES: dict[str, Callable[[], nn.Sequential]] = {
    "mlp": _mlp,
    "small": _small,
    "strided": _strided,
    "avgpool": _avgpool,
    "two_fc": _two_fc,
    "large": _large,
}


def build(architecture: str) -> nn.Sequential:
    """A network of that architecture, (B, 1, 28, 28) -> (B, 10), with torch's initial weights."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise LipboundsError(f"unknown architecture {architecture!r}; the known ones are {known}.")
    return ARCHITECTURES[architecture]()


def train(
    architecture: str,
    seed: int,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    progress: Callable[[int, int, float], None] | None = None,
) -> nn.Sequential:
    """A network of that architecture trained on images (N, 28, 28), uint8, and labels (N,), int64.

    Minimises the mean cross-entropy by AdamW (Loshchilov and Hutter 2019), whose learning rate
    rises to `learning_rate` and falls to nearly 0 in one cycle (Smith and Topin 2019). An epoch is
    floor(N / batch_size) batches of a fresh permutation (a single batch if N < batch_size). After
    each, progress(epoch, epochs, its mean loss) is called.

    The same seed, machine and number of threads give the same weights; torch's global generator and
    settings are left as they were. Returns the network in eval mode. Raises LipboundsError for an
    unknown architecture, images or labels of another kind, and a loss that is not finite.
    """
    _check_data(images, labels)
    with _deterministic(seed):
        module = build(architecture)
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        batches = max(len(images) // batch_size, 1)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, learning_rate, epochs=epochs, steps_per_epoch=batches
        )
        for epoch in range(1, epochs + 1):
            permutation = torch.randperm(len(images), generator=generator)
            total = 0.0
            for batch in permutation[: batches * batch_size].split(batch_size):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(module(_scale(images[batch])), labels[batch])
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            if not math.isfinite(total):
                raise LipboundsError(
                    f"training {architecture}, seed {seed}: the loss of epoch {epoch} is not "
                    f"finite; lower the learning rate, {learning_rate:g}."
                )
            if progress:
                progress(epoch, epochs, total / batches)
    return module.eval()


@torch.no_grad()
def accuracy(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of the images (N, 28, 28), uint8, whose largest output is at their label (N,)."""
    _check_data(images, labels)
    dtype = next(module.parameters()).dtype
    hits = 0
    for batch, truth in zip(images.split(500), labels.split(500), strict=True):
        hits += int((module(_scale(batch).to(dtype)).argmax(dim=1) == truth).sum())
    return hits / len(images)


def parameters(module: nn.Module) -> int:
    """The number of trained numbers of a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def save(path: str | Path, module: nn.Module, metadata: dict) -> None:
    """Writes the weights and metadata (plain numbers and strings) so that `load` gives them back.

    metadata["architecture"] names the entry of ARCHITECTURES. The file appears only when whole.
    Raises LipboundsError, and writes nothing, if the network is not of that architecture.
    """
    architecture = metadata["architecture"]
    try:
        build(architecture).load_state_dict(module.state_dict())
    except RuntimeError as error:
        raise LipboundsError(f"{path}: not of architecture {architecture!r}: {error}") from error
    content = io.BytesIO()
    torch.save({"weights": module.state_dict(), "metadata": metadata}, content)
    write_bytes(content.getvalue(), path)


def load(path: str | Path) -> tuple[nn.Sequential, dict]:
    """The network, in eval mode, and the metadata that `save` wrote.

    Raises CheckpointError, naming the file, if it is missing, damaged, or not of `save`'s making.
    Nothing in the file is executed (weights_only).
    """
    content = _read_checkpoint(path)
    try:
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        metadata = content["metadata"]
        module = build(metadata["architecture"])
        module.load_state_dict(content["weights"])
    except (LookupError, TypeError, RuntimeError, LipboundsError) as error:
        raise CheckpointError(
            f"checkpoint {path} does not hold one of these MNIST networks: {error}"
        ) from error
    return module.eval(), metadata


def _read_checkpoint(path: str | Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:  # torch's format, whose checksums torch ignores
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} is missing; train the network first.") from error
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"checkpoint {path} is damaged or no checkpoint ({reason}); delete it and train again."
        ) from error


def _scale(images: Tensor) -> Tensor:
    """(B, 28, 28), uint8 -> (B, 1, 28, 28) in [0, 1], single precision."""
    return images.unsqueeze(1).float().div_(255)


def _check_data(images: Tensor, labels: Tensor) -> None:
    if images.dtype != torch.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise LipboundsError(
            f"images: (N, 28, 28) of uint8 wanted, {tuple(images.shape)} of {images.dtype} given."
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise LipboundsError(
            f"labels: ({len(images)},) of int64 wanted, one for each image, "
            f"{tuple(labels.shape)} of {labels.dtype} given."
        )


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed` and picks repeatable algorithms; after, all is as before."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
