"""`best`: the least of what was asked for, and who gave it."""

import math

import numpy as np
import pytest

import lipbounds as lb
from lipbounds.methods.best import QUICK
from lipbounds.methods.registry import BOUNDS, Method
from lipbounds.results import Status
from lipbounds.studies.cases.random import gaussian


def network():
    rng = np.random.default_rng(0)
    return lb.from_weights(
        [rng.standard_normal((8, 4)), rng.standard_normal((8, 8)), rng.standard_normal((2, 8))]
    )


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_is_the_least_with_its_name(norm):
    values = {name: lb.bound(network(), name, norm).upper for name in QUICK}
    found = lb.bound(network(), "best", norm)
    assert found.upper == min(values.values())
    assert values[found.winner] == found.upper


def test_names_and_options_are_the_users():
    found = lb.bound(network(), "best", 2, names=["K_2", "K_3"], options={"K_2": {"budget": 1.0}})
    assert found.winner == "K_2"
    assert found.upper == lb.bound(network(), "K_2", 2, budget=1.0).upper


def test_methods_that_do_not_apply_are_passed_over(monkeypatch):
    def refuses(network, norm):
        raise lb.LipboundsError("too large")

    monkeypatch.setitem(BOUNDS, "refuses", Method("refuses", refuses, ""))
    assert lb.bound(network(), "best", 1, names=["refuses", "K_2", "K_3"]).winner == "K_3"
    with pytest.raises(lb.LipboundsError, match="refuses: too large; K_2 is not defined in norm 1"):
        lb.bound(network(), "best", 1, names=["refuses", "K_2"])


def test_ensemble_has_a_winner_each():
    """K_4 wins on the saw-tooth's tent, K_* on a rotation behind dead weights, in l2."""
    angle = np.array([[1.0, 1], [1, -1]])
    weights = [np.stack([angle, [[2, 0], [-2, 0]]]), np.stack([angle, [[-1, -1], [0, 0]]])]
    found = lb.bound(lb.from_weights(weights), "best", 2, names=["K_star", "K_4"])
    each = [
        lb.bound(lb.from_weights([w[i] for w in weights]), "best", 2, names=["K_star", "K_4"])
        for i in range(2)
    ]
    np.testing.assert_allclose(found.upper, [one.upper for one in each])
    assert list(found.winner) == [one.winner for one in each] == ["K_star", "K_4"]


@pytest.mark.parametrize("name", ["best", "K_5000"])
def test_unknown_names_raise(name):
    with pytest.raises(lb.UnsupportedError, match=name):
        lb.bound(network(), "best", 2, names=[name])


def test_names_are_a_list():
    with pytest.raises(lb.LipboundsError, match=r"best: names = 'K_4' must be a list"):
        lb.bound(network(), "best", 2, names="K_4")


def test_the_registry_entry_gives_the_least_alone():
    value = BOUNDS["best"].upper(network(), 2.0)
    assert float(value) == lb.bound(network(), "best", 2).upper


def test_what_stopped_a_method_is_said():
    network = gaussian([6, 16, 16, 3], 0)
    alone = lb.bound(network, "K_2", 2, budget=1.0)
    assert alone.status is not Status.CONVERGED
    found = lb.bound(network, "best", 2, names=["K_1", "K_2"], options={"K_2": {"budget": 1.0}})
    assert found.status is alone.status and "K_2" in found.reason
    assert lb.bound(network, "best", 2).status is Status.CONVERGED
