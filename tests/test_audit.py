"""The short form of `make audit`, its oracles against others, and that it can fail."""

import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from audit import campaign, oracles
from audit.networks import FAMILIES, chain_of

SHORT = 60


def test_no_method_is_wrong(monkeypatch):
    monkeypatch.setitem(campaign.OPTIONS, "seconds", 1)
    total = campaign.Result()
    for index in range(SHORT):
        total.add(campaign.audit(seed=1, index=index, pairs=10, every=3))
    assert not total.violations, "\n".join(total.violations)
    assert total.networks >= SHORT and total.pairs >= 10 * SHORT
    assert all(tally.networks for (name, _), tally in total.tallies.items() if "K_" in name)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("share, wrong", [(0.999, 1), (1 + 1e-15, 0)])
def test_a_method_slightly_too_small_is_found(norm, share, wrong):
    """A false method returns the truth less a thousandth; a right one, the truth rounded up."""
    case, result = FAMILIES[0](np.random.default_rng(0)), campaign.Result()
    truth = campaign.Truth(case, np.random.default_rng(1), 10, result)

    def false(network, method, norm, treatment, radii):
        value = float(truth.of(method, norm)[0]) ** (0.5 if norm == 2 else 1)
        return campaign.lb.Bound(share * value)

    call = campaign.Call("K_4", norm, "implicit", 0, 0, 10, case)
    campaign.one(call, case.build(), truth, result, false)
    assert len(result.violations) == wrong
    for line in result.violations:
        assert "too small" in line and "python -m audit --seed 0 --only 0" in line


@pytest.mark.parametrize(
    "value, word", [(math.inf, "finite"), (math.nan, "finite"), (None, "Error")]
)
def test_infinite_values_and_foreign_errors_are_found(value, word):
    def false(network, method, norm, treatment, radii):
        return campaign.lb.Bound(value + 0.0)

    result = campaign.audit(0, 0, methods=["K_1"], run=false)
    assert len(result.violations) == 3 and all(word in line for line in result.violations)


@pytest.mark.parametrize("index", [60279, 91255])
def test_networks_whose_errors_a_single_trial_does_not_tell_are_imported(index):
    """Of one output: what a few random errors make of it may happen to be next to nothing."""
    campaign.case_of(2026, index)[0].build()


def test_a_network_that_is_refused_is_found(monkeypatch):
    def refused(*_):
        raise campaign.lb.UnsupportedError("no")

    monkeypatch.setattr(campaign.lb.Network, "from_weights", refused)
    monkeypatch.setattr(campaign.lb, "from_torch", refused)
    indices = range(len(FAMILIES))
    found = [campaign.audit(0, index, methods=["K_1"]).violations for index in indices]
    assert any(found) and all(
        "import, linf, implicit: refused: no" in v for one in found for v in one
    )


def test_a_lower_end_above_its_witness_is_found():
    def false(network, method, norm, treatment, radii):
        got = campaign.values(network, method, norm, treatment, radii)
        return replace(got, lower=1.001 * got.lower)

    result = campaign.audit(0, 0, methods=["lower_bound"], run=false)
    assert any("above its witness" in line for line in result.violations)


@pytest.mark.parametrize("index", range(3 * len(FAMILIES)))
def test_chain_and_network_are_the_same_function(index):
    case, rng = campaign.case_of(2, index)
    if case.family == "extreme":
        pytest.skip("doubles cannot evaluate it")
    network = case.build()
    x = rng.standard_normal((5, network.input_size))
    values = network(torch.from_numpy(x)).numpy().reshape(len(case.chains), 5, -1)
    for chain, value in zip(case.chains, values, strict=True):
        own = oracles.forward(oracles.in_doubles(chain), x)
        near = 1e-9 * max(abs(own).max(), 1e-6)  # a cancelling network is zero but for rounding
        near = 1e-6 + near if case.family == "branches" else near  # in doubles, and in layers
        np.testing.assert_allclose(own, value, rtol=1e-9, atol=near)
        exact = [[float(v) for v in oracles.evaluate(chain, point)] for point in x]
        np.testing.assert_allclose(own, exact, rtol=1e-9, atol=near)


def test_the_squares_of_l2_agree_with_mpmath():
    rng = np.random.default_rng(3)
    for _ in range(10):
        numbers, e = oracles.integer(rng.standard_normal((1, 3, 4)) * 10.0 ** rng.integers(-9, 9))
        with mpmath.workdps(50):
            scale = mpmath.mpf(2) ** e
            matrix = mpmath.matrix([[scale * int(v) for v in row] for row in numbers[0]])
            truth = max(mpmath.svd_r(matrix, compute_uv=False)) ** 2
            square = oracles.greatest_square(numbers) * oracles.two_power(2 * e)
            own = mpmath.mpf(square.numerator) / square.denominator
            assert abs(own / truth - 1) < 1e-30


def test_vertices_of_a_saw_are_exact():
    """|x| + |x - 1| written as a network: slopes +-1 twice, so that the optimum is 2."""
    weights, biases = [np.ones((2, 1)), np.ones((1, 2))], [np.array([0.0, -1.0]), np.zeros(1)]
    chain = chain_of(weights, biases, [np.array([-1.0, -1.0])])
    jacobians, e, whole = oracles.vertex_jacobians(chain, np.random.default_rng(0))
    assert whole and len(jacobians) == 4
    squares = {1: 2, 2: 4, math.inf: 2}
    assert all(oracles.vertex_oracle(jacobians, e, p) == v for p, v in squares.items())
    assert oracles.secant(chain, [2.0], [3.0], 1) == 2
    found, tried = oracles.attack(chain, 1, 30, np.random.default_rng(0))
    assert found == 2 and tried >= 30


def test_the_excess_has_the_sign_of_the_exact_difference():
    assert oracles.excess(1.0, Fraction(1) + Fraction(1, 10**40), 1) < 0
    assert oracles.excess(1.0, Fraction(1), 2) == 0
    assert oracles.excess(0.0, Fraction(1, 10**400), 2) == -1
    assert oracles.excess(5e-324, Fraction(1, 10**400), 1) > 0
    assert oracles.excess(0.0, Fraction(0), 1) == math.inf
