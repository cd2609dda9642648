"""Sign chains against a dense product of the network's vertices, and coordinate ascent on them."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NORMS, norms_of, vertex_jacobians
from strategies import between_sample, pooled_networks, quick, slope_networks

from lipbounds.networks.network import Network
from lipbounds.truth.sign_ascent import _best_signs, ascended_signs, backward, forward, path
from lipbounds.truth.sign_chain import sign_chains


def all_signs(chain):
    """(2^N, N_g) per group."""
    vertices = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=sum(chain.signs))))
    return list(vertices.double().split(chain.signs, 1))


def norms_at(chain, signs):
    start = torch.eye(chain.start, dtype=torch.float64).expand(len(signs[0]), -1, -1)
    return torch.linalg.matrix_norm(forward(chain, [t[:, None] for t in signs], start)[-1], 2)


def greatest(network, norm):
    """The greatest norm over all chains and signs."""
    family = sign_chains(network, norm)
    chains = [family[i] for i in range(len(family))]
    return max(chain.unscaled(float(norms_at(chain, all_signs(chain)).max())) for chain in chains)


def check(sample, norm):
    value = greatest(sample.network, norm)
    optimum = norms_of(vertex_jacobians(sample.weights, sample.stages), norm).max()
    assert value == pytest.approx(optimum, rel=1e-9, abs=1e-9)


@quick
@given(slope_networks(depths=(0, 2)), st.sampled_from(NORMS))
def test_all_signs_are_all_vertices(sample, norm):
    check(sample, norm)


@quick
@given(pooled_networks(), st.sampled_from(NORMS))
def test_all_signs_are_all_vertices_of_between_stages(sample, norm):
    explicit = between_sample(sample)
    if sum(len(stage.linearisations()) for stage in explicit.stages) < 64:
        check(explicit, norm)


def gaussian(sizes, seed=0, activation="relu"):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    return Network.from_weights(weights, activation=activation)


@pytest.mark.parametrize("norm", NORMS)
def test_scale_keeps_everything_at_most_one(norm):
    rng = np.random.default_rng(0)
    weights = [
        rng.standard_normal((m, n)) * 10.0 ** rng.integers(-9, 9, (m, 1))
        for n, m in itertools.pairwise((3, 8, 8, 2))
    ]
    chain = sign_chains(Network.from_weights(weights), norm)[1 if norm != 2 else 0]
    signs = [2.0 * torch.randint(0, 2, (100, n)).double() - 1 for n in chain.signs]
    states = forward(chain, signs, torch.ones(100, chain.start, dtype=torch.float64))
    for group, x in zip(chain.groups, states[:-1], strict=True):
        assert x.abs().max() <= 1 and (x @ group.radius.mT).abs().max() <= 1
    assert states[-1].abs().max() <= 1


def test_signs_that_change_nothing_are_dropped():
    names = [["identity"] * 4 + ["relu"] * 2, "identity", ["relu"] * 5 + ["abs"]]
    chain = sign_chains(gaussian((2, 6, 4, 6, 3), 0, names), 2)[0]
    assert chain.signs == [2, 6]
    first = gaussian((2, 6, 3))
    weights = [a.operator.weight.clone() for a in first.affines]
    weights[0][1], weights[1][:, 4] = 0.0, 0.0
    assert sign_chains(Network.from_weights(weights), 2)[0].signs == [4]


def test_direction_leaves_the_largest_group_or_the_fewest_columns():
    assert sign_chains(gaussian((9, 4, 2)), math.inf)[0].signs == [4, 9]
    assert sign_chains(gaussian((2, 4, 9)), math.inf)[0].signs == [2, 4]
    assert sign_chains(gaussian((9, 4, 2)), 2)[0].start == 2


@pytest.mark.parametrize("norm", NORMS)
def test_adjoint_is_the_transposed_map(norm):
    chain = sign_chains(gaussian((3, 5, 4, 2)), norm)[0]
    signs = [t[0] for t in ascended_signs(chain, 3)]
    x, y = (torch.randn(n, dtype=torch.float64) for n in (chain.start, chain.end))
    forth, back = forward(chain, signs, x), backward(chain, signs, y)
    assert float(forth[-1] @ y) == pytest.approx(float(x @ back[0]), rel=1e-12)
    x, y = path(chain, signs)
    for state, costate in zip(x, y, strict=True):
        assert float(state @ costate) == pytest.approx(float(x[-1].norm()), rel=1e-9)


def test_best_signs_of_a_group_by_brute_force():
    chain = sign_chains(gaussian((3, 5, 6, 4)), 2)[0]
    group = chain.groups[-1]
    vertices = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6))).double()
    x = torch.randn(50, group.center.shape[1], dtype=torch.float64)
    y = torch.randn(50, group.center.shape[0], dtype=torch.float64)
    found = (y * group.apply(x, _best_signs(group, x, y))).sum(-1).abs()
    every = (y[:, None] * group.apply(x[:, None], vertices)).sum(-1).abs()
    torch.testing.assert_close(found, every.amax(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_ascent_finds_the_optimum_of_small_chains(norm, seed):
    network = gaussian((3, 5, 4, 2), seed)
    family = sign_chains(network, norm)
    for chain in map(family.__getitem__, range(len(family))):
        values = norms_at(chain, ascended_signs(chain, 64))
        optimum = float(norms_at(chain, all_signs(chain)).max())
        assert float(values.max()) == pytest.approx(optimum, rel=1e-12)
        assert float(values[0]) == pytest.approx(optimum, rel=1e-9)


def test_ascent_stops_when_the_time_is_up():
    chain = sign_chains(gaussian((5, 9, 9, 4), 3), 2.0)[0]
    calls = iter([False, True])
    random, swept, whole = (
        ascended_signs(chain, 8, expired=expired)
        for expired in (lambda: True, lambda: next(calls), lambda: False)
    )
    assert [t.shape for t in random] == [(8, n) for n in chain.signs]
    best = [norms_at(chain, signs).max() for signs in (random, swept, whole)]
    assert best[0] < best[1] <= best[2] * (1 + 1e-12)
