"""K_5: agreement with conic solvers, soundness of every iterate, derivatives, proofs, edges."""

import itertools
import math
from fractions import Fraction

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SLOPES, between_sample, pooled_networks, quick, slope_networks, slope_sample
from torch import nn

import lipbounds as lb
from lipbounds import clock
from lipbounds.linear.operators import Dense, dense
from lipbounds.methods import costs
from lipbounds.methods import ellipsoidal as module
from lipbounds.methods import plan as planning
from lipbounds.methods.registry import BOUNDS
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.rewrite import merged
from lipbounds.networks.stages import PoolStage, SlopeStage
from lipbounds.quadratic import costs as quadratic_costs
from lipbounds.quadratic.layered import layered_start
from lipbounds.quadratic.newton import barrier, programs
from lipbounds.quadratic.newton.barrier import Barrier, minimised
from lipbounds.quadratic.newton.feasibility import certified, feasible
from lipbounds.quadratic.newton.forms import chain_forms
from lipbounds.quadratic.newton.mixed_forms import MixedForms, has_linear_neurons
from lipbounds.quadratic.newton.programs import _forms, _theta
from lipbounds.results import Status
from lipbounds.studies.cases.analytic import sawtooth, square
from lipbounds.studies.cases.random import gaussian

NORMS = (1.0, 2.0, math.inf)
few = settings(quick, max_examples=15)


def ellipsoidal(*arguments, **options):
    return module.ellipsoidal(*arguments, **options).upper


def program(network, norm, piece=0):
    """The form of one piece and a start."""
    network = merged(network)
    chain = None if has_linear_neurons(network) else chain_forms(network)
    forms = _forms(network, chain, norm, torch.tensor([0]), torch.tensor([piece]))
    return forms, _theta(layered_start(network, 0.25), forms, torch.tensor([0]))


def whole(forms, theta):
    """Q(theta) of one program as a matrix, in order of elimination."""
    diagonal, below = forms.blocks(theta)
    rows = [
        torch.cat([torch.zeros(len(b[0]), w) if j != k else b[0] for j, w in enumerate(widths)], 1)
        for k, b in enumerate(diagonal)
        for widths in [[len(d[0]) for d in diagonal]]
    ]
    matrix = torch.cat(rows).to(torch.float64)
    ends = list(itertools.accumulate((len(d[0]) for d in diagonal), initial=0))
    for k, b in enumerate(below):
        matrix[ends[k + 1] : ends[k + 2], ends[k] : ends[k + 1]] = b[0]
        matrix[ends[k] : ends[k + 1], ends[k + 1] : ends[k + 2]] = b[0].mT
    return matrix


@few
@given(slope_networks(), st.sampled_from(NORMS))
def test_agrees_with_a_conic_solver(sample, norm):
    """LipSDP-Neuron in l2, GeoLIP in l1 and l-infinity, by Clarabel, for mixed slopes."""
    other = lb.bound(sample.network, "lipsdp_neuron" if norm == 2 else "geolip", norm).upper
    assert ellipsoidal(sample.network, norm) == pytest.approx(other, rel=1e-4)


@few
@given(pooled_networks(), st.sampled_from(NORMS))
def test_agrees_with_a_conic_solver_on_maxima(sample, norm):
    network = between_sample(sample).network
    other = lb.bound(network, "lipsdp_neuron" if norm == 2 else "geolip", norm).upper
    value = float(ellipsoidal(network, norm))
    # Badly scaled maxima are hard for the solver: there ours may be less.
    assert value <= other * (1 + 1e-4)
    optimum = oracles.norms_of(oracles.vertex_jacobians(sample.weights, sample.stages), norm).max()
    assert value >= optimum * (1 - 1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("family, level", [(sawtooth, 6), (square, 3), (square, 6)])
def test_is_exact_on_the_analytic_networks(family, level, norm):
    network = family(level)
    exact = 2.0**level if family is sawtooth else 2 - 2.0**-level
    assert exact * (1 - 1e-12) <= float(ellipsoidal(network, norm)) <= exact * (1 + 1e-6)


@few
@given(slope_networks(depths=(1, 3)), st.sampled_from(NORMS))
def test_every_iterate_is_above_every_vertex(sample, norm):
    """Certified at each step, row by row and column by column."""
    jacobians = oracles.vertex_jacobians(sample.weights, sample.stages)
    pieces = {1: sample.network.input_size, 2: 1}.get(norm, sample.network.output_size)
    for piece in range(pieces):
        parts = jacobians
        if norm != 2:
            parts = jacobians[:, [piece]] if norm == math.inf else jacobians[:, :, [piece]]
        optimum = oracles.norms_of(parts, norm).max()
        forms, theta = program(sample.network, norm, piece)
        barrier = Barrier(forms)
        point = barrier.first(theta)
        for _ in range(12):
            value = certified(forms, point.theta, (theta,))
            assert value >= optimum * (1 - 1e-12)
            if not float(point.value) > 0:
                break
            point, _, stuck = barrier.advance(point)
            if stuck:
                break


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("names", [["relu", "tanh"], ["hardswish", "abs"], ["leaky", "steep"]])
@pytest.mark.parametrize("linear", [False, True])
def test_newton_step_is_that_of_automatic_differentiation(names, norm, linear):
    rng = np.random.default_rng(3)
    stages = [names * 2, [*names, "identity", names[0]] if linear else names * 2]
    sample = slope_sample(rng, [3, 4, 4, 2], stages)
    forms, theta = program(sample.network, norm)
    assert isinstance(forms, MixedForms) == linear
    barrier = Barrier(forms)
    point = barrier.first(theta)

    def phi(relative):
        moved = point.theta * (1 + forms.untie(relative))
        return point.t[0] * (moved[0] @ forms.cost) - torch.logdet(whole(forms, moved))

    zero = torch.zeros(1, forms.tie(forms.cost).shape[-1], dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(phi, zero)[0]
    hessian = torch.autograd.functional.hessian(phi, zero)[0, :, 0, :]
    step, decrement, lower = barrier.newton(point)
    expected = torch.linalg.solve(hessian, -slope)
    assert torch.allclose(step[0], forms.untie(expected), rtol=1e-6, atol=1e-9)
    assert float(decrement) == pytest.approx(float(-slope @ expected), rel=1e-6)
    assert float(lower) <= float(ellipsoidal(sample.network, norm))


@pytest.mark.parametrize("norm", NORMS)
def test_settling_minimises_over_the_scale_and_the_last_multiplier(norm):
    forms, theta = program(gaussian([3, 5, 4, 2], 0), norm)
    barrier = Barrier(forms)
    point = barrier.first(theta)

    def phi(a, last):
        moved = forms.scaled(point.theta, torch.tensor([a], dtype=torch.float64))
        moved[:, forms.end] = point.theta[:, forms.end] * last
        return float(point.t[0] * (moved[0] @ forms.cost) - torch.logdet(whole(forms, moved)))

    assert phi(1.0, 1.0) == pytest.approx(float(point.phi), rel=1e-9)
    for a, last in ((1.01, 1.0), (0.99, 1.0), (1.0, 1.001), (1.01, 1.01), (0.99, 0.995)):
        value = phi(a, last)
        assert math.isnan(value) or value > phi(1.0, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_proofs_hold_in_rational_arithmetic(seed):
    """On badly scaled networks, near the edge of the cone: what is called feasible is."""
    rng = np.random.default_rng(seed)
    names = [list(rng.choice(sorted(SLOPES), 3)) for _ in range(2)]
    sample = slope_sample(rng, [2, 3, 3, 2], names)
    norm = NORMS[seed % 3]
    forms, theta = program(sample.network, norm)
    start = Barrier(forms).first(theta)
    path = minimised(forms, start, 1e-9, lambda i, v, b: torch.zeros_like(v).bool(), 100)
    found = path.least
    points = [found, path.inside, path.first, theta, found * (1 - 1e-3), found * (1 + 1e-12)]
    for point in points:
        claim = bool(feasible(forms, point))
        if claim:
            assert positive_semidefinite(exact_matrix(forms, point))
    assert bool(feasible(forms, theta))


def exact_matrix(forms, theta):
    """Q(theta) in fractions, from the float maps of the form (exact but for `terms`)."""
    parts = [[Fraction(float(v)) for v in row] for row in whole(forms, theta)]
    return parts


def positive_semidefinite(matrix):
    """Symmetric elimination in exact arithmetic."""
    rows = [list(row) for row in matrix]
    for k in range(len(rows)):
        pivot = rows[k][k]
        if pivot < 0 or (pivot == 0 and any(rows[k][j] != 0 for j in range(k, len(rows)))):
            return False
        for i in range(k + 1, len(rows)):
            if pivot:
                factor = rows[i][k] / pivot
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    return True


def test_a_proof_fails_outside_the_cone():
    forms, theta = program(gaussian([3, 5, 4, 2], 0), math.inf)
    outside = theta.clone()
    outside[:, -1] *= 1e-6
    assert bool(feasible(forms, theta)) and not bool(feasible(forms, outside))
    assert float(certified(forms, outside, (theta,))) < math.inf
    assert float(certified(forms, outside, (outside,))) == math.inf


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "weights",
    [
        [[[0.0, 0.0], [1.0, 2.0]], [[1.0, 1.0]]],  # a zero row: a neuron that never moves
        [[[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], [[1.0, -1.0, 1.0]]],  # duplicated rows
        [[[1.0, 0.0], [2.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]],  # a dead input and output
        [[[3.0]], [[-2.0]], [[0.5]]],  # width 1
        [[[1.0, 1.0]], [[1.0], [0.0]], [[1.0, 1.0]]],
        [[[0.0, 0.0]], [[1.0]]],  # nothing moves
        [[[1e-30, 2e-30]], [[1e30]]],
        [[[2.0, 1.0]]],  # no stage at all
        [[[-2.0, 1.0], [-2.0, 1.0]], [[-1.0, 1.0], [2.0, 1.0]]],  # rows that cancel if linear
        [[[-2.0, 1.0], [-2.0, 1.0]], [[-1.0, 1.0]]],  # the same for all of them
    ],
)
@pytest.mark.parametrize("activation", ["relu", "abs", "identity"])
def test_degenerate_networks(weights, norm, activation):
    network = lb.from_weights(weights, activation=activation)
    slopes = [oracles.Slope(*(np.full(len(w), SLOPES[activation][e]) for e in (0, 1)))
              for w in weights[:-1]]  # fmt: skip
    jacobians = oracles.vertex_jacobians([np.array(w) for w in weights], slopes)
    optimum = oracles.norms_of(jacobians, norm).max()
    value = float(ellipsoidal(network, norm))
    assert optimum * (1 - 1e-12) <= value
    assert value <= float(lb.bound(network, "K_4" if norm != 2 else "K_1", norm).upper) * (1 + 1e-6)
    if len(weights) <= 1 or activation == "identity":
        assert value == pytest.approx(optimum, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_prelu_before_overlapping_maxima(norm):
    """The first of three maxima is of neuron 1 alone, whose slope is 100."""
    prelu = nn.PReLU(3)
    prelu.weight.data = torch.tensor([1.0, 100.0, 1.0])
    pool = nn.MaxPool1d(2, stride=1, padding=1, dilation=2)
    module = nn.Sequential(prelu, nn.Unflatten(-1, (1, 3)), pool, nn.Flatten(), nn.Linear(3, 1))
    module[-1].weight.data = torch.tensor([[1.0, 0.0, 0.0]])
    network = lb.from_torch(module.eval(), (3,))
    assert 100 <= lb.bound(network, "K_5", norm).upper <= 100 * (1 + 1e-6)
    if norm == math.inf:
        assert float(lb.sensitivity(network, [1.0, 1.0, 1.0], "K_5").max()) >= 100


@pytest.mark.parametrize("norm", NORMS)
def test_positive_rescaling_of_neurons_changes_nothing(norm):
    rng = np.random.default_rng(0)
    w = [rng.standard_normal(s) for s in ((4, 3), (4, 4), (2, 4))]
    d, e = 10.0 ** rng.integers(-4, 5, 4), 10.0 ** rng.integers(-4, 5, 4)
    scaled = [d[:, None] * w[0], e[:, None] * w[1] / d, w[2] / e]
    values = [float(ellipsoidal(lb.from_weights(x), norm)) for x in (w, scaled)]
    assert values[1] == pytest.approx(values[0], rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_an_ensemble_has_the_values_of_its_networks(norm):
    rng = np.random.default_rng(1)
    w = [rng.standard_normal((5, *s)) for s in ((4, 3), (4, 4), (2, 4))]
    together = ellipsoidal(lb.from_weights(w), norm)
    assert together.shape == (5,)
    single = [float(ellipsoidal(lb.from_weights([x[i] for x in w]), norm)) for i in range(5)]
    assert together.tolist() == pytest.approx(single, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "activation",
    [
        "identity",
        ["identity", "relu"],
        ["relu", "identity"],
        [["relu", "identity", "abs", "identity"], "identity"],
    ],
)
def test_an_ensemble_with_identities_has_the_values_of_its_networks(activation, norm):
    rng = np.random.default_rng(1)
    w = [rng.standard_normal((3, *s)) for s in ((4, 3), (4, 4), (2, 4))]
    together = lb.bound(lb.from_weights(w, activation=activation), "K_5", norm).upper
    each = [lb.from_weights([x[i] for x in w], activation=activation) for i in range(3)]
    single = [lb.bound(one, "K_5", norm).upper for one in each]
    assert together.tolist() == pytest.approx(single, rel=1e-5)
    if norm == math.inf:
        rows = lb.sensitivity(lb.from_weights(w, activation=activation), [1.0] * 3, "K_5")
        assert rows.amax(-1).tolist() == pytest.approx(single, rel=1e-5)


def test_neurons_that_are_linear_in_one_piece_only():
    """Maxima of two entries that are equal for the third input alone, before a linear neuron."""
    first = torch.tensor([[-1, -1, -2], [-2, -2, -2], [2, 1, 2]], dtype=torch.float64)
    second = torch.tensor([[-1.2, -0.7], [-0.5, -0.3], [0.4, 1.0]], dtype=torch.float64)
    last = torch.tensor([[-0.7, -0.9, -0.5], [0.2, -1.0, -0.2]], dtype=torch.float64)
    affines = [Affine(Dense(w), w.new_zeros(len(w))) for w in (first, second, last)]
    pool = PoolStage(torch.tensor([[0, 2, 2], [0, 1, 2]]), 3)
    stages = pool, SlopeStage.mixed(["relu", "leaky_relu", "identity"])
    network = lb.explicit(Network(tuple(affines), stages))
    other = lb.bound(network, "geolip", 1).upper
    assert ellipsoidal(network, 1.0) == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("norm", [1.0, math.inf])
def test_pieces_one_by_one_have_the_value_of_one_batch(monkeypatch, norm):
    """From the first one's central path, columns without the neurons that they do not reach."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s) for s in ((9, 6), (8, 9), (5, 8))]
    weights[0][:5, :3] = weights[1][:4, 5:] = 0.0
    network = lb.from_weights(weights, activation=["relu", "leaky_relu"])
    together = float(ellipsoidal(network, norm))
    monkeypatch.setattr(programs, "MEMORY", 1)
    assert float(ellipsoidal(network, norm)) == pytest.approx(together, rel=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_is_no_worse_than_any_bound_of_known_cost(norm):
    """Whatever little it does itself, of networks that K_2 or ECLipsE-Fast know more of."""
    rng = np.random.default_rng(0)
    deep = lb.from_weights([rng.standard_normal((8, 8)) for _ in range(7)])
    for network in (gaussian([6, 16, 16, 3], 0), deep):
        value = BOUNDS["K_5"].run(network, norm, steps=1).upper
        known = [m for m in BOUNDS.values() if norm in m.norms and m.cost is not costs.unknown]
        assert value <= min(m.run(network, norm).upper for m in known)


@pytest.mark.parametrize("norm", NORMS)
def test_networks_too_large_for_newton(monkeypatch, norm):
    """Shared multipliers, then each piece's own: sound, and near what Newton's method gives."""
    network = gaussian([6, 8, 8, 3], 0)
    truth = float(ellipsoidal(network, norm))
    monkeypatch.setattr(quadratic_costs, "newton_bytes", lambda *_: math.inf)
    told = []
    value = float(ellipsoidal(network, norm, 60.0, lambda s, v: told.append(float(v)), steps=100))
    assert truth * (1 - 1e-6) <= value <= truth * (1.5 if norm == 1 else 1.1)
    assert told[-1] == value


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e30])
def test_newton_steps_in_single_precision_lead_as_far(monkeypatch, norm, size):
    """At 1e30 and 1e-12 some do not exist in single precision: double takes over."""
    network = gaussian([6, 12, 12, 3], 0)
    weights = [dense(affine.operator) for affine in network.affines]
    network = lb.from_weights([size * weights[0], *weights[1:]])
    double = float(ellipsoidal(network, norm))
    monkeypatch.setattr(barrier, "SINGLE_SIDE", 0)
    assert float(ellipsoidal(network, norm)) == pytest.approx(double, rel=1e-5)


@pytest.mark.parametrize("hopeful", [planning.HOPEFUL, 0.0])
@pytest.mark.parametrize("norm", NORMS)
def test_cheap_bounds_that_seemed_too_long_are_tried_at_last(norm, hopeful, monkeypatch):
    """As on a busy machine; here with no memory for more. K_1 and K_4 have something to give for
    any time, so that they are tried whatever they seemed to take."""
    network = gaussian([6, 16, 16, 3], 0)
    name = "K_1" if norm == 2 else "K_4"
    speed = planning.COSTS[name](network, norm) / 100.0  # an estimate of 100 s
    monkeypatch.setattr(planning, "LEAST_SPEED", 0.0)
    monkeypatch.setattr(module, "measured_speed", lambda *_: speed)
    monkeypatch.setattr(module, "HOPEFUL", hopeful)
    found = module.ellipsoidal(network, norm, seconds=60.0, memory=0.0)
    assert found.status is Status.MEMORY
    cheaper = float(lb.bound(network, name, norm).upper)
    assert float(found.upper) <= cheaper * (1 + 1e-9)


def test_what_cannot_be_stopped_is_not_begun_where_it_takes_more_than_is_left(monkeypatch):
    network = gaussian([6, 16, 16, 3], 0)
    speed = planning.COSTS["K_2"](network, 2.0) / 100.0  # an estimate of 100 s
    monkeypatch.setattr(planning, "LEAST_SPEED", 0.0)
    monkeypatch.setattr(module, "measured_speed", lambda *_: speed)
    monkeypatch.setitem(module.CHEAP, "K_2", lambda *_: pytest.fail("begun"))
    assert module.ellipsoidal(network, 2.0, seconds=60.0, memory=0.01).status is not None


@pytest.mark.parametrize("norm", [1.0, math.inf])
def test_k_3_is_known_where_k_4_takes_too_long(norm, monkeypatch):
    def too_long(*_):
        raise clock.OutOfTime("too long")

    for name in ("averaged_sums", "averaged", "averaged_within"):
        monkeypatch.setattr(module, name, too_long)
    network = gaussian([6, 32, 32, 32, 3], 0)
    k_3 = float(lb.bound(network, "K_3", norm).upper)
    assert k_3 < float(lb.bound(network, "K_star", norm).upper)
    assert float(ellipsoidal(network, norm, seconds=60.0, memory=0.0)) <= k_3 * (1 + 1e-9)


@pytest.fixture
def counted(monkeypatch):
    """A clock that goes on by a thousandth of a second whenever it is looked at."""
    ticks = itertools.count()
    monkeypatch.setattr(module, "measured_speed", lambda *_: 1e12)
    token = clock._now.set(lambda: 1e-3 * next(ticks))
    yield
    clock._now.reset(token)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("engine", ["newton", "descent", "both"])
def test_more_time_gives_no_greater_value(counted, monkeypatch, norm, engine):
    network = gaussian([6, 16, 16, 3], 0)
    monkeypatch.setattr(planning, "EASY", 0.0 if engine == "both" else math.inf)
    if engine == "both":
        monkeypatch.setattr(quadratic_costs, "newton_step", lambda *_: 1e9)
    if engine == "descent":
        monkeypatch.setattr(quadratic_costs, "newton_bytes", lambda *_: math.inf)
    values = []
    for seconds in (0.0, 0.01, 0.03, 0.1, 0.2, 0.4):
        begin = clock.now()
        values.append(float(ellipsoidal(network, norm, seconds=seconds)))
        assert clock.now() - begin <= 1.2 * seconds + 0.03
    # But for the last digits: the batches' sizes choose the order of sums.
    assert all(b <= a * (1 + 1e-12) for a, b in itertools.pairwise(values))
    assert values[0] > 1.5 * values[-1]


def test_steps_are_a_budget_too():
    network = gaussian([10, 32, 32, 5], 0)
    values = [float(ellipsoidal(network, math.inf, steps=steps)) for steps in (1, 10, 20, 60)]
    assert values == sorted(values, reverse=True) and values[0] > 1.5 * values[-1]


@pytest.mark.parametrize("norm", NORMS)
def test_no_steps_leave_the_cheap_bound(monkeypatch, norm):
    network = gaussian([6, 12, 12, 3], 0)
    cheap = float(ellipsoidal(network, norm, steps=0))
    monkeypatch.setattr(quadratic_costs, "newton_bytes", lambda *_: math.inf)
    assert float(ellipsoidal(network, norm, steps=0)) == cheap
    moved = lb.sensitivity(network, [1.0] * 6, "K_5", steps=0)
    assert (moved <= lb.sensitivity(network, [1.0] * 6)).all()


@pytest.mark.parametrize("steps", [-1, 1.5, 2.0, True, "3", math.nan])
def test_steps_are_a_whole_number(steps):
    network = gaussian([2, 2, 1], 0)
    with pytest.raises(lb.LipboundsError, match="K_5: steps = .* whole number"):
        lb.bound(network, "K_5", 2, steps=steps)
    with pytest.raises(lb.LipboundsError, match="K_5: steps = .* whole number"):
        lb.sensitivity(network, [1.0, 1.0], "K_5", steps=steps)


def test_no_time_leaves_the_first_bound_and_progress_is_told():
    network = gaussian([6, 12, 12, 3], 0)
    for norm in NORMS:
        told = []
        none = float(ellipsoidal(network, norm, seconds=0.0))
        first = lb.bound(network, "path_norm", norm).upper
        assert none == pytest.approx(first, rel=1e-12)

        def tell(seconds, bound, told=told):
            told.append((seconds, float(bound)))

        value = float(ellipsoidal(network, norm, progress=tell))
        assert value < none == told[0][1] and told[-1][1] == value
        assert all(a >= b for (_, a), (_, b) in itertools.pairwise(told))


def test_pools_kept_whole_are_taken_as_trees_with_K_4_known():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    module_ = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(8, 2)).double()
    network = lb.from_torch(module_, (1, 6, 6))
    for norm in NORMS:
        both = {t: lb.bound(network, "K_5", norm, t).upper for t in ("explicit", "implicit")}
        assert both["implicit"] <= both["explicit"] * (1 + 1e-6)
        for treatment, value in both.items():
            least = lb.bound(network, "K_4" if norm != 2 else "K_1", norm, treatment).upper
            assert lb.lower_bound(network, norm, seconds=0.5).lower <= value <= least * (1 + 1e-6)


@few
@given(st.one_of(slope_networks(), pooled_networks()), st.integers(0, 2**32 - 1))
def test_sensitivity_by_K_5_is_between_every_pair_and_K_4(sample, seed):
    rng = np.random.default_rng(seed)
    network = sample.network
    eps = rng.random(network.input_size) * rng.integers(0, 2, network.input_size)
    moved = lb.sensitivity(network, eps, "K_5", seconds=5)
    assert (moved <= lb.sensitivity(network, eps) * (1 + 1e-9)).all()
    x = torch.from_numpy(rng.standard_normal((200, network.input_size)) * 3)
    sign = torch.from_numpy(rng.choice([-1.0, 1.0, 0.3], x.shape))
    difference = (network(x + sign * torch.from_numpy(eps)) - network(x)).abs()
    assert (difference <= moved + 1e-12 * (1 + network(x).abs().max())).all()


def test_sensitivity_by_K_5_is_K_5_of_every_output_alone(monkeypatch):
    network = gaussian([6, 12, 12, 3], 0)
    eps = torch.tensor([1.0, 0.5, 0.0, 2.0, 1e-3, 1.0], dtype=torch.float64)
    first = network.affines[0]
    scaled = [dense(first.operator) * eps, *(dense(a.operator) for a in network.affines[1:])]
    alone = [
        lb.bound(lb.from_weights([*scaled[:-1], row[None]]), "K_5", math.inf).upper
        for row in scaled[-1]
    ]
    told = []

    def tell(seconds, bounds):
        told.append(bounds)

    moved = lb.sensitivity(network, eps, "K_5", progress=tell)
    assert moved.tolist() == pytest.approx(alone, rel=1e-6)
    assert told[-1].tolist() == moved.tolist()
    monkeypatch.setattr(programs, "MEMORY", 1)  # one by one, after a shared descent
    assert lb.sensitivity(network, eps, "K_5").tolist() == pytest.approx(alone, rel=1e-5)
    monkeypatch.setattr(quadratic_costs, "newton_bytes", lambda *_: math.inf)
    assert (lb.sensitivity(network, eps, "K_5", steps=200) <= 1.2 * moved).all()
    assert lb.sensitivity(network, 0 * eps, "K_5").tolist() == [0.0] * 3


def test_sensitivity_of_an_ensemble_by_K_5():
    networks = [gaussian([4, 6, 3], seed) for seed in range(3)]
    weights = [
        torch.stack([dense(a.operator) for a in layers])
        for layers in zip(*(network.affines for network in networks), strict=True)
    ]
    eps = [0.1, 0.0, 2.0, 1.0]
    together = lb.sensitivity(lb.from_weights(weights), eps, "K_5")
    for network, moved in zip(networks, together, strict=True):
        torch.testing.assert_close(moved, lb.sensitivity(network, eps, "K_5"), rtol=1e-6, atol=0)


def test_a_program_that_gains_no_more_is_not_called_converged(monkeypatch):
    network = gaussian([6, 12, 12, 3], 0)
    assert lb.bound(network, "K_5", 2).status is Status.CONVERGED
    monkeypatch.setattr(barrier, "PATIENCE", 0)
    monkeypatch.setattr(barrier, "CENTRING", math.inf)
    for norm in (1, 2):  # in l-infinity the first steps close the few pieces that matter
        found = lb.bound(network, "K_5", norm)
        assert found.status is Status.PRECISION and "gain no more" in found.reason
        assert found.upper >= lb.lower_bound(network, norm, seconds=0.5).lower


def test_its_own_limit_of_steps_is_not_called_converged(monkeypatch):
    monkeypatch.setattr(programs, "STEPS", 3)
    found = lb.bound(gaussian([6, 12, 12, 3], 0), "K_5", math.inf)
    assert found.status is Status.PRECISION


def test_a_limit_within_a_phase_loses_no_bound(monkeypatch):
    def late(*arguments):
        raise clock.OutOfTime("the limit of seconds is over")

    network = gaussian([6, 12, 12, 3], 0)
    monkeypatch.setattr(programs, "improved", late)
    found = lb.bound(network, "K_5", 2)
    assert found.status is Status.TIME
    assert found.upper <= lb.bound(network, "K_1", 2).upper


@pytest.mark.parametrize("norm", (1, math.inf))
def test_each_piece_alone_is_not_called_converged(monkeypatch, norm):
    monkeypatch.setattr(quadratic_costs, "newton_bytes", lambda *_: math.inf)
    network = gaussian([6, 12, 12, 3], 0)
    found = lb.bound(network, "K_5", norm, seconds=60, steps=30)
    assert found.status in (Status.STEPS, Status.MEMORY)
    found = lb.bound(network, "K_5", norm, seconds=60)
    assert found.status is Status.MEMORY and "Newton holds" in found.reason
    assert lb.bound(network, "K_5", norm, steps=0).status is Status.STEPS
