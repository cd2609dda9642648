"""K_5's plan: what it leaves out and why, without a clock."""

import math

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.clock import now
from lipbounds.methods import costs as methods
from lipbounds.methods import ellipsoidal
from lipbounds.methods.plan import CAUTIOUS, LEAST_SPEED, MEMORY, SHARE, Phase, _ahead, plan
from lipbounds.networks.rewrite import merged
from lipbounds.quadratic import costs
from lipbounds.quadratic.newton.forms import chain_forms
from lipbounds.quadratic.newton.programs import _forms
from lipbounds.quadratic.order import Pieces
from lipbounds.quadratic.structured.links import links
from lipbounds.results import Status
from lipbounds.studies.cases.random import gaussian

NORMS = (1.0, 2.0, math.inf)
SPEED = 1e10
BUDGETS = (0.0, 0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, math.inf)


def convolutional(*layers, size=28, channels=1):
    module = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    module(torch.zeros(1, channels, size, size))
    return merged(lb.from_torch(module.double().eval(), (channels, size, size)))


def lenet():
    first = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)
    return convolutional(*first, nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2))


def three_convolutions():
    pairs = [(nn.Conv2d(c, 4, 3, padding=1), nn.ReLU()) for c in (1, 4, 4)]
    return convolutional(*(layer for pair in pairs for layer in pair), size=32)


def mlp():
    return gaussian([784, *[256] * 6, 10], 0)


NETWORKS = {
    "small": lambda: gaussian([6, 16, 16, 3], 0),
    "mlp": mlp,
    "lenet": lenet,
    "conv": three_convolutions,
}


def phases(made):
    return [*made.cheap, made.descent, made.newton, made.alone]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_more_time_does_the_same_and_more(name, norm):
    """The order is the same, and no phase that is carried out is left out for a longer time."""
    network, before = NETWORKS[name](), None
    for seconds in BUDGETS:
        made = phases(plan(network, norm, seconds, SPEED))
        names = [phase.name for phase in made]
        chosen = {phase.name for phase in made if not phase.omitted}
        if before is not None:
            assert names == before[0] and chosen >= before[1]
        before = names, chosen


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_carried_out_is_estimated_to_fit(name, norm):
    network = NETWORKS[name]()
    for seconds in BUDGETS[1:]:
        made = plan(network, norm, seconds, SPEED)
        first, *others = made.cheap
        assert not first.omitted and first.seconds < 1
        assert all(phase.omitted or phase.seconds <= CAUTIOUS * SHARE * seconds for phase in others)
        rest = [made.descent, made.newton, made.alone]
        assert sum(phase.seconds for phase in rest if not phase.omitted) <= seconds
        assert all(phase.short is Status.TIME for phase in rest if "more than" in phase.omitted)


def test_the_slow_machine_does_less_in_the_same_time():
    made = {speed: plan(mlp(), math.inf, 10.0, speed) for speed in (1e8, 1e10)}
    assert not made[1e10].descent.omitted and made[1e10].newton.short is not Status.MEMORY
    assert made[1e8].descent.short is made[1e8].newton.short is Status.TIME


@pytest.mark.parametrize("norm", NORMS)
def test_a_speed_measured_beside_other_work_leaves_no_cheap_bound_out(norm):
    made = plan(mlp(), norm, 5.0, 1e6)
    kept = {phase.name for phase in made.cheap if not phase.omitted}
    assert kept >= {"K_star", "K_4"} and made.newton.omitted


def test_less_memory_leaves_phases_out():
    made = {memory: plan(lenet(), 1.0, math.inf, SPEED, memory=memory) for memory in (0.0, 4.0)}
    assert made[0.0].newton.short is made[0.0].descent.short is Status.MEMORY
    assert made[4.0].newton.short is not Status.MEMORY
    found = lb.bound(gaussian([6, 12, 12, 3], 0), "K_5", 2, memory=0.0)
    assert found.status is Status.MEMORY and "GiB" in found.reason
    with pytest.raises(lb.LipboundsError, match="number of GiB"):
        lb.bound(gaussian([2, 2], 0), "K_5", 2, memory=-1)


def test_newton_needs_no_descent_where_it_is_fast_and_no_memory_where_there_is_none():
    small = plan(gaussian([6, 16, 16, 3], 0), 2.0, 10.0, SPEED)
    assert small.descent.omitted and not small.newton.omitted
    large = plan(three_convolutions(), 2.0, math.inf, SPEED)
    assert large.newton.short is large.descent.short is Status.MEMORY


def test_an_ensemble_has_newton_alone():
    weights = [torch.randn(5, *shape, dtype=torch.float64) for shape in ((600, 4), (2, 600))]
    made = plan(lb.from_weights(weights), 2.0, 100.0, SPEED)
    omitted = {phase.name: phase.omitted for phase in phases(made)}
    assert omitted["descent"] == omitted["eclipse_fast"] == "takes one network"
    assert not made.newton.omitted


def test_it_prints_as_a_table():
    lines = str(plan(three_convolutions(), math.inf, 15.0, SPEED)).splitlines()
    assert lines[0].split() == ["phase", "seconds", "share"]
    assert lines[1].startswith("path norm") and any("GiB" in line for line in lines)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["small", "maxima", "carried"])
def test_sizes_are_those_of_the_forms_and_of_the_trunk(name, norm):
    """Counted from the stages' sizes alone, without a matrix."""
    network = NETWORKS["small"]()
    if name == "maxima":
        network = lb.explicit(
            lb.from_torch(
                nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                              nn.Linear(18, 3)).double(),
                (1, 8, 8),
            )
        )  # fmt: skip
    if name == "carried":
        weights = [torch.randn(4, 3), torch.randn(4, 4), torch.randn(2, 4)]
        network = lb.from_weights(weights, activation=[["relu", "relu", "identity", "relu"]] * 2)
    network = merged(network)
    chain = None if name == "carried" else chain_forms(network)
    one = torch.tensor([0])
    piece = torch.tensor([36 if norm == 1 and name == "maxima" else 0])  # the pixel in the middle
    assert costs.side(network, norm) == _forms(network, chain, norm, one, piece).side
    blocks, ends = costs.trunk(network, norm)
    sizes = [len(link.outer) for link in links(network)]
    if norm == 1:
        assert (blocks, ends) == (sizes[::-1], network.input_size)
    else:
        assert (blocks, ends) == ([network.input_size, *sizes], network.output_size)


def test_newton_goes_ahead_of_a_descent_that_is_slow_to_begin():
    """Where a batch of its programs takes a fiftieth of that, and the descent some seconds: for
    twice as long, whatever the time."""
    descent, newton = Phase("descent", 6.0), Phase("Newton", 0.1)
    ahead = _ahead(descent, newton, 1e10)
    assert not ahead.omitted and ahead.seconds == 12.0
    for other in (Phase("Newton", 1.0), Phase("Newton", 0.1, omitted="too large")):
        assert _ahead(descent, other, 1e10).omitted
    assert _ahead(Phase("descent", 2.0), newton, 1e10).omitted
    assert _ahead(Phase("descent", 6.0, omitted="no"), newton, 1e10).omitted


def test_what_is_too_large_to_be_a_matrix_is_left_out():
    """K_2 would write out a convolution of 64 x 64 pixels as a matrix; K_* does not."""
    made = plan(convolutional(nn.Conv2d(3, 8, 3), nn.ReLU(), size=64, channels=3), 2, 1e6, SPEED)
    omitted = {phase.name: phase.short for phase in made.cheap if phase.omitted}
    assert omitted.get("K_2") is Status.MEMORY and "K_star" not in omitted


def test_cheap_bounds_are_judged_by_the_network_with_pools():
    """K_* is computed of it, not of what its pools and convolutions are written out as."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    network = lb.from_torch(module.double(), (3, 48, 48))
    run = ellipsoidal._Run(network, 2.0, Pieces, now(), 10.0, None, None, MEMORY)
    speed = max(ellipsoidal.measured_speed("cpu", torch.get_num_threads()), LEAST_SPEED)
    (phase,) = [phase for phase in run.plan.cheap if phase.name == "K_star"]
    assert phase.seconds == methods.product(network, 2.0) / speed
    assert methods.product(network, 2.0) < methods.product(run.plain, 2.0) / 2
