"""The two bounds of what is left of a chain, against all completions of random nodes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import NORMS
from strategies import quick, slope_networks

from lipbounds.networks.network import Network
from lipbounds.truth import tail_quadratic
from lipbounds.truth.sign_ascent import ascended_signs, forward
from lipbounds.truth.sign_chain import sign_chains
from lipbounds.truth.tail_averaged import averaged_tail
from lipbounds.truth.tail_quadratic import quadratic_tail


def gaussian(sizes, seed=0, activation="relu"):
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    return Network.from_weights(weights, activation=activation)


def node(chain, signs, g, m):
    """The state (a, z) of the node that fixes the first m signs of group g, and all before."""
    x = forward(chain, signs, torch.eye(chain.start, dtype=torch.float64))[g]
    group = chain.groups[g]
    z = x @ group.radius.mT
    fixed = (signs[g] * z)[:, :m] @ group.spread[:, :m].mT
    return (x @ group.center.mT + fixed)[None], z[None]


def best_completion(chain, signs, g, m):
    """The greatest norm over the signs that are free at the node."""
    fixed = sum(chain.signs[:g]) + m
    free = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=sum(chain.signs) - fixed)))
    known = torch.cat(signs)[:fixed].expand(len(free), -1)
    vertices = torch.cat([known, free.double().reshape(len(free), -1)], 1)
    start = torch.eye(chain.start, dtype=torch.float64).expand(len(free), -1, -1)
    states = forward(chain, [t[:, None] for t in vertices.split(chain.signs, 1)], start)
    return float(torch.linalg.matrix_norm(states[-1], 2).max())


def check(chain, tails, seed):
    generator = torch.Generator().manual_seed(seed)
    for g, count in enumerate(chain.signs):
        for m in range(1 if chain.scalar and g == len(chain.signs) - 1 else count):
            signs = [
                2.0 * torch.randint(0, 2, (n,), generator=generator) - 1.0 for n in chain.signs
            ]
            signs = [t.double() for t in signs]
            best = best_completion(chain, signs, g, m)
            for tail in tails:
                assert best <= float(tail.bound(g, m, *node(chain, signs, g, m)))


def tails_of(chain, steps=math.inf):
    signs, seen = [t[0] for t in ascended_signs(chain, 4)], itertools.count(1)
    quadratic = quadratic_tail(chain, signs, lambda root: next(seen) >= steps)
    return [averaged_tail(chain), *([] if quadratic is None else [quadratic])]


@quick
@given(slope_networks(depths=(1, 2)), st.sampled_from(NORMS), st.integers(0, 9))
def test_no_completion_of_a_node_exceeds_its_bounds(sample, norm, seed):
    chain = sign_chains(sample.network, norm)[0]
    if 0 < sum(chain.signs) <= 10:
        check(chain, tails_of(chain, steps=10), seed)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ["relu", "abs", "hardswish"])
def test_gaussian_networks_have_both_bounds(norm, activation):
    chain = sign_chains(gaussian((3, 4, 4, 2), 1, activation), norm)[0]
    tails = tails_of(chain)
    assert len(tails) == 2
    for seed in range(5):
        check(chain, tails, seed)


def test_last_group_of_scalar_chains_is_exact():
    chain = sign_chains(gaussian((3, 5, 6, 2), 2), math.inf)[1]
    signs = [torch.ones(n, dtype=torch.float64) for n in chain.signs]
    best = best_completion(chain, signs, 2, 0)
    value = float(averaged_tail(chain).bound(2, 0, *node(chain, signs, 2, 0)))
    assert value == pytest.approx(best, rel=1e-10)


@pytest.mark.parametrize("norm, most", [(1, 1.1), (2, 1.05), (math.inf, 1.1)])
def test_root_is_a_few_per_cent_above_the_optimum(norm, most):
    """As the semidefinite relaxation is (shared/spec/k5.md), where K_4 is twice the optimum."""
    chain = sign_chains(gaussian((6, 16, 16, 3)), norm)[0]
    signs = [t[0] for t in ascended_signs(chain, 64)]
    start = torch.eye(chain.start, dtype=torch.float64)
    found = float(torch.linalg.matrix_norm(forward(chain, signs, start)[-1], 2))
    root = node(chain, signs, 0, 0)
    quadratic = quadratic_tail(chain, signs, lambda root: False)
    assert found <= float(quadratic.bound(0, 0, *root)) <= most * found
    assert float(averaged_tail(chain).bound(0, 0, *root)) > 1.5 * found


def test_children_are_not_above_their_parent():
    chain = sign_chains(gaussian((3, 6, 6, 2), 3), math.inf)[0]
    signs = [t[0] for t in ascended_signs(chain, 4)]
    tail = quadratic_tail(chain, signs, lambda root: False)
    bounds = [
        float(tail.bound(g, m, *node(chain, signs, g, m)))
        for g, count in enumerate(chain.signs)
        for m in range(1 if g == len(chain.signs) - 1 else count)
    ]
    assert all(child <= parent * (1 + 1e-6) for parent, child in itertools.pairwise(bounds))


@pytest.mark.parametrize("less", [1e-3, 1e-6, 1e-8])
def test_a_form_that_is_too_small_is_not_proven(less):
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(4, 6, generator=rng, dtype=torch.float64)
    factor = torch.randn(4, 4, generator=rng, dtype=torch.float64)
    s = factor @ factor.mT
    multiplier = 2 * (q.mT @ s @ q).abs().sum(1)
    coupling, inner = (s @ q)[None], (torch.diag(multiplier) - q.mT @ s @ q)[None]
    form = s + coupling @ torch.linalg.solve(inner, coupling.mT)
    size = torch.eye(4, dtype=torch.float64) * form.diagonal(dim1=-2, dim2=-1).mean()
    arguments = s, coupling, inner, q, multiplier
    assert tail_quadratic._proven(form + 1e-9 * size, *arguments).all()
    assert not tail_quadratic._proven(form - less * size, *arguments).any()
    edge = torch.linalg.eigvalsh(q.mT @ s @ q)[-1] * (1 - less)
    inner = (edge * torch.eye(6, dtype=torch.float64) - q.mT @ s @ q)[None]
    outside = s, coupling, inner, q, edge.expand(6)
    assert not tail_quadratic._proven(1e9 * size[None], *outside).any()


def test_the_search_for_multipliers_stops_when_told():
    chain = sign_chains(gaussian((4, 8, 8, 2), 0), math.inf)[0]
    signs = [t[0] for t in ascended_signs(chain, 16)]
    seen = []

    def enough(root):
        seen.append(root)
        return len(seen) == 5

    quadratic_tail(chain, signs, enough)
    assert len(seen) == 5 and seen[-1] < seen[0]


def test_large_groups_have_no_quadratic_bound(monkeypatch):
    chain = sign_chains(gaussian((4, 8, 8, 2), 0), math.inf)[0]
    signs = [torch.ones(n, dtype=torch.float64) for n in chain.signs]
    assert quadratic_tail(chain, signs, lambda root: True) is not None
    monkeypatch.setattr(tail_quadratic, "LARGEST_COST", 1e4)
    assert quadratic_tail(chain, signs, lambda root: True) is None
