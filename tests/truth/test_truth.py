"""The truth by the package's own names: results, witnesses, known values, refusals."""

import math

import numpy as np
import pytest
import torch
from strategies import IMAGE, small_cnns

import lipbounds as lb
from lipbounds.studies.cases.analytic import sawtooth, square
from lipbounds.truth import run

NORMS = [1, 2, math.inf]


def small(seed=0):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((m, n)) for n, m in ((2, 4), (4, 3), (3, 2))]
    return lb.from_weights(weights, [rng.standard_normal(len(w)) for w in weights])


@pytest.mark.parametrize("norm", NORMS)
def test_known_constants(norm):
    for network, wanted in ((square(3), 1.875), (sawtooth(3), 8.0)):
        assert lb.lower_bound(network, norm).lower == pytest.approx(wanted, rel=1e-3)
        optimum = lb.relaxation_optimum(network, norm)
        assert optimum.lower <= wanted * (1 + 1e-12) <= optimum.upper * (1 + 2e-12)
        assert optimum.upper == pytest.approx(wanted, rel=1e-9)
        if norm != 2:
            found = lb.exact(network, norm, radius=0.5, center=[0.5])
            assert found.upper == pytest.approx(wanted, rel=1e-5)
            assert found.lower == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_lower_bound_is_the_quotient_of_its_witness(norm):
    found = lb.lower_bound(small(), norm, seed=3)
    x, y = found.witness
    rise = torch.linalg.vector_norm(small()(x) - small()(y), norm)
    quotient = float(rise / torch.linalg.vector_norm(x - y, norm))
    assert (found.name, found.norm) == ("lower_bound", float(norm))
    assert 0.99 * quotient < found.lower <= quotient * (1 + 1e-12)
    assert lb.lower_bound(small(), norm, seed=3).lower == found.lower


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("norm", [1, math.inf])
def test_order_of_the_truths(seed, norm):
    """lower <= exact <= D* <= K_4, and the box below the whole space."""
    network = small(seed)
    lower = lb.lower_bound(network, norm, seed)
    found, box = lb.exact(network, norm), lb.exact(network, norm, radius=0.3)
    optimum = lb.relaxation_optimum(network, norm)
    assert lower.lower <= found.upper and box.lower <= found.upper * (1 + 1e-9)
    assert found.lower <= found.upper <= optimum.upper * (1 + 1e-9)
    assert optimum.upper <= lb.bound(network, "K_4", norm).upper * (1 + 1e-9)
    assert found.lower >= lower.lower * (1 - 1e-5), "the search starts at the lower bound"


def test_the_witness_of_the_exact_constant_lies_in_its_box():
    found = lb.exact(small(), 1, radius=[0.1, 0.2], center=[1.0, -1.0])
    for point in found.witness:
        assert (abs(point - torch.tensor([1.0, -1.0])) <= torch.tensor([0.1, 0.2])).all()


@pytest.mark.parametrize("cnn", ["plain", "overlap"])
def test_networks_with_pools_are_made_explicit(cnn):
    network = lb.from_torch(small_cnns()[cnn], IMAGE)
    optimum = lb.relaxation_optimum(network, math.inf, seconds=1)
    assert lb.lower_bound(network, math.inf, seconds=1).lower <= optimum.upper
    assert optimum.lower <= lb.bound(network, "K_4", math.inf, "explicit").upper


def test_a_short_budget_still_gives_valid_ends():
    network = small()
    truth = lb.relaxation_optimum(network, 1)
    for seconds in (0.0, 1e-3):
        hasty = lb.relaxation_optimum(network, 1, seconds=seconds)
        assert hasty.lower <= truth.upper * (1 + 1e-9) and truth.lower <= hasty.upper * (1 + 1e-9)
        found = lb.exact(network, 1, seconds=seconds)
        assert found.lower <= found.upper


def test_refusals():
    with pytest.raises(lb.UnsupportedError, match="norm 1 and inf, not for 2"):
        lb.exact(small(), 2)
    with pytest.raises(lb.UnsupportedError):
        lb.lower_bound(small(), 3)
    with pytest.raises(lb.UnsupportedError, match="no option 'second'; it has seconds"):
        lb.lower_bound(small(), 1, second=3)
    ensemble = lb.from_weights([np.ones((2, 1, 1))])
    with pytest.raises(lb.LipboundsError, match="ensemble"):
        lb.lower_bound(ensemble, 1)
    tanh = lb.from_weights([[[1.0]], [[1.0]]], activation="tanh")
    with pytest.raises(lb.UnsupportedError, match="tanh|kink"):
        lb.exact(tanh, 1)
    with pytest.raises(lb.LipboundsError, match="radii"):
        lb.exact(small(), 1, radius=-1)
    for cap in (None, math.nan, -1, "1"):
        with pytest.raises(lb.LipboundsError, match="cap = .* must be a known upper bound"):
            lb.exact(small(), 1, cap=cap)


def test_arithmetic_that_breaks_down_is_reported(monkeypatch):
    def breaks(*args, **options):
        raise torch.linalg.LinAlgError("at 1e308")

    for name in ("secant_lower_bound", "_relaxation_optimum", "solved"):
        monkeypatch.setattr(run, name, breaks)
    for truth in (lb.lower_bound, lb.relaxation_optimum, lb.exact):
        with pytest.raises(lb.LipboundsError, match=r"in norm 1 .*\(at 1e308\); rescale"):
            truth(small(), 1)
