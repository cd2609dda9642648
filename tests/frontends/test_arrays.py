"""Weights in files of NumPy and MATLAB."""

import numpy as np
import pytest
import scipy.io
import torch

import lipbounds as lb
from lipbounds.errors import LipboundsError
from lipbounds.frontends.arrays import from_arrays

RNG = np.random.default_rng(0)
WEIGHTS = [RNG.normal(size=(5, 4)), RNG.normal(size=(3, 5))]
BIASES = [RNG.normal(size=5), RNG.normal(size=3)]
X = torch.from_numpy(RNG.normal(size=(7, 4)))


def cells(arrays):
    made = np.empty((1, len(arrays)), object)
    made[0] = arrays
    return made


def named(first):
    pairs = enumerate(zip(WEIGHTS, BIASES, strict=True), first)
    return {f"{kind}{k}": one for k, pair in pairs for kind, one in zip("Wb", pair, strict=True)}


FILES = {
    "0.npz": lambda path: np.savez(path, **named(0)),
    "1.npz": lambda path: np.savez(path, **named(1)),
    "names.mat": lambda path: scipy.io.savemat(path, named(1)),
    "columns.mat": lambda path: scipy.io.savemat(path, named(0), oned_as="column"),
    "cells.mat": lambda path: scipy.io.savemat(
        path, {"weights": cells(WEIGHTS), "biases": cells(BIASES)}
    ),
}


def check_same(network, expected):
    """To the bit in its numbers; products of matrices in another order of memory may round anew."""
    for one, other in zip(network.affines, expected.affines, strict=True):
        assert torch.equal(one.operator.weight, other.operator.weight)
        assert torch.equal(one.offset, other.offset)
    torch.testing.assert_close(network(X), expected(X), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", FILES)
def test_the_same_network_from_each_file(name, tmp_path):
    FILES[name](tmp_path / name)
    network = from_arrays(tmp_path / name, "tanh")
    expected = lb.from_weights(WEIGHTS, BIASES, "tanh")
    check_same(network, expected)


def test_without_biases(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"weights": cells(WEIGHTS)})
    np.save(tmp_path / "b.npy", WEIGHTS[0])
    check_same(from_arrays(tmp_path / "a.mat"), lb.from_weights(WEIGHTS))
    check_same(from_arrays(tmp_path / "b.npy"), lb.from_weights(WEIGHTS[:1]))


def saved_object(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


BAD = {
    "text.mat": (lambda path: path.write_text("nothing"), "no whole .mat file"),
    "empty.mat": (lambda path: path.write_bytes(b""), "no whole .mat file"),
    "new.mat": (lambda path: path.write_bytes(b"MATLAB 7.3".ljust(124) + b"\0\2IM"), "-v7"),
    "pickle.npy": (saved_object, "no whole .npy file"),
    "cut.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01"), "no whole .npy file"),
    "cube.npy": (lambda path: np.save(path, np.zeros((2, 2, 2))), "must be real matrices"),
    "words.mat": (lambda path: scipy.io.savemat(path, {"W0": "text"}), "must be real matrices"),
    "other.mat": (lambda path: scipy.io.savemat(path, {"A": np.eye(2)}), "must hold"),
    "late.npz": (lambda path: np.savez(path, W2=np.eye(2)), "must hold"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_network(name, tmp_path):
    write, words = BAD[name]
    write(tmp_path / name)
    with pytest.raises(LipboundsError, match=words):
        from_arrays(tmp_path / name)
