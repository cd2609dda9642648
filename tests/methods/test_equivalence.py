"""Bounds in one norm from another: formulas on dense matrices, soundness, refusals."""

import math
import re
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NORMS
from strategies import IMAGE, pooled_networks, quick, slope_networks, small_cnns

import lipbounds as lb
from lipbounds.methods import between_norms
from lipbounds.methods.equivalence import norm_equivalence
from lipbounds.results import Status
from lipbounds.studies.cases.random import gaussian


def converted(weights, stages, norm):
    """The conversions by their formulas, from the oracles of K_1 and K_4."""
    rows, columns = weights[-1].shape[0], weights[0].shape[1]
    if norm == 2:
        one, infinity = (oracles.bound("K_4", weights, stages, p) for p in (1, math.inf))
        return min(math.sqrt(one * infinity), math.sqrt(columns) * one, math.sqrt(rows) * infinity)
    if norm == math.inf:
        parts = [[*weights[:-1], weights[-1][[i]]] for i in range(rows)]
        if len(weights) == 1:
            parts = [[weights[0][[i]]] for i in range(rows)]
        return math.sqrt(columns) * max(oracles.bound("K_1", w, stages, 2) for w in parts)
    parts = [[weights[0][:, [k]], *weights[1:]] for k in range(columns)]
    return math.sqrt(rows) * max(oracles.bound("K_1", w, stages, 2) for w in parts)


@quick
@given(st.one_of(slope_networks(), pooled_networks()), st.sampled_from(NORMS))
def test_formula_and_soundness(sample, norm):
    value = lb.bound(sample.network, "norm_equivalence", norm).upper
    wanted = converted(sample.weights, sample.stages, norm)
    assert value == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    assert oracles.norms_of(jacobians, norm).max() <= value * (1 + 1e-12)


def test_many_inputs_take_the_whole_matrix(monkeypatch):
    rng = np.random.default_rng(0)
    network = lb.from_weights([rng.standard_normal((3, 5)), rng.standard_normal((2, 3))])
    by_columns = lb.bound(network, "norm_equivalence", 1).upper
    monkeypatch.setattr(between_norms, "COLUMNS", 4)
    whole = lb.bound(network, "norm_equivalence", 1).upper
    assert whole == pytest.approx(math.sqrt(2) * lb.bound(network, "K_1", 2).upper)
    assert by_columns < whole


@pytest.mark.parametrize("treatment", ["explicit", "implicit"])
@pytest.mark.parametrize("cnn", small_cnns())
def test_convolutional_networks(cnn, treatment):
    network = lb.from_torch(small_cnns()[cnn], IMAGE)
    points = torch.randn(200, network.input_size, dtype=torch.float64)
    for norm in NORMS:
        sampled = torch.linalg.matrix_norm(network.jacobian(points), norm).max()
        assert sampled <= lb.bound(network, "norm_equivalence", norm, treatment).upper


def test_base_is_an_option():
    network = lb.from_weights([np.eye(2), np.ones((3, 2))])
    value = lb.bound(network, "norm_equivalence", math.inf, base="K_star").upper
    assert value == pytest.approx(2.0)  # each row of ones: l2 norm sqrt(2), times sqrt(2)
    for base in ("liplt", "no such bound", "norm_equivalence", "", ["K_4"]):
        with pytest.raises(lb.UnsupportedError, match=f"base {re.escape(repr(base))}"):
            lb.bound(network, "norm_equivalence", 2, base=base)


@pytest.mark.parametrize("norm", NORMS)
def test_the_least_of_several_may_be_the_base(norm):
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal((3, 3, 2)), rng.standard_normal((3, 2, 3))]
    for network in (lb.from_weights(weights), lb.from_weights([w[0] for w in weights])):
        found = lb.bound(network, "norm_equivalence", norm, base="best").upper
        for base in ("K_1", "K_4"):
            other = lb.bound(network, "norm_equivalence", norm, base=base).upper
            assert np.all(found <= other)


def test_ensemble_is_each_network():
    rng = np.random.default_rng(1)
    weights = [rng.standard_normal((4, 3, 2)), rng.standard_normal((4, 2, 3))]
    for norm in NORMS:
        together = lb.bound(lb.from_weights(weights), "norm_equivalence", norm).upper
        apart = [
            lb.bound(lb.from_weights([w[i] for w in weights]), "norm_equivalence", norm).upper
            for i in range(4)
        ]
        np.testing.assert_allclose(together, apart, rtol=1e-9)


def test_what_stopped_its_base_is_said(monkeypatch):
    network = gaussian([3, 6, 6, 2], 0)
    assert lb.bound(network, "norm_equivalence", 2).status is Status.CONVERGED
    stopped = replace(lb.BOUNDS["K_1"].run(network, 2.0), status=Status.TIME)
    monkeypatch.setattr(type(lb.BOUNDS["K_1"]), "run", lambda *a, **o: stopped)
    found = norm_equivalence(network, 1.0, "K_1")
    assert found.status is Status.TIME and "values of K_1 not solved" in found.reason
