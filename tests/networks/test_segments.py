"""Segments A_{k<-j} against dense products; their rows, sparse or dense, in blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from oracles import segment as dense_segment
from strategies import IMAGE, between_sample, pooled_networks, quick, slope_networks, small_cnns

import lipbounds as lb
from lipbounds.linear import operators, rows
from lipbounds.linear.operators import Identity
from lipbounds.linear.rows import DenseRows, SparseRows
from lipbounds.networks import segments


def pulled(network, k):
    """{j: A_{k<-j}} from all its row blocks."""
    found = {}
    for block in segments.row_blocks(network, k):
        for j, part in segments.pulled_back(network, k, block):
            array = part.rows.toarray() if isinstance(part, SparseRows) else part.rows.numpy()
            assert part.shape == array.shape
            found.setdefault(j, []).append(array)
    return {j: np.concatenate(parts) for j, parts in found.items()}


def check_all_segments(sample):
    pairs = [stage.pair for stage in sample.stages]
    for k in range(1, sample.network.depth + 2):
        computed = pulled(sample.network, k)
        assert sorted(computed) == list(range(k))
        for j, array in computed.items():
            expected = dense_segment(sample.weights, pairs, k, j)
            scale = 1e-300 + abs(expected).max()
            bound = math.prod(abs(w).sum() + 1 for w in sample.weights)
            np.testing.assert_allclose(array, expected, rtol=0, atol=1e-15 * bound + 1e-13 * scale)


@quick
@given(slope_networks())
def test_segments_of_slope_stages(sample):
    check_all_segments(sample)


@quick
@given(pooled_networks())
def test_segments_of_between_stages(sample):
    check_all_segments(between_sample(sample))


@quick
@given(pooled_networks())
def test_pools_cut_segments(sample):
    network = sample.network
    cuts = [0] + [i for i, stage in enumerate(network.stages, 1) if stage.center is None]
    for k in range(1, network.depth + 2):
        last = max(cut for cut in cuts if cut < k)
        assert sorted(pulled(network, k)) == list(range(last, k))


@pytest.mark.parametrize("entries", [1, 200])
@pytest.mark.parametrize("treatment", ["implicit", "explicit"])
@pytest.mark.parametrize("name", small_cnns())
def test_blocks_and_sparsity_do_not_matter(monkeypatch, name, treatment, entries):
    network = lb.from_torch(small_cnns()[name], IMAGE)
    network = lb.explicit(network) if treatment == "explicit" else network
    whole = [pulled(network, k) for k in range(1, network.depth + 2)]
    monkeypatch.setattr(operators, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(rows, "FILLED", 0.0 if entries == 1 else 1.0)
    stages = range(1, network.depth + 2)
    assert any(len(list(segments.row_blocks(network, k))) > 1 for k in stages)
    for k, expected in enumerate(whole, start=1):
        for j, array in pulled(network, k).items():
            np.testing.assert_allclose(array, expected[j], rtol=0, atol=1e-13)


def test_ensembles_pull_back_all_members():
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((3, m, n)) for m, n in ((4, 2), (5, 4), (1, 5))]
    network = lb.from_weights(weights, activation=["relu", "abs"])
    for s in range(3):
        member = lb.from_weights([w[s] for w in weights], activation=["relu", "abs"])
        for k in (1, 2, 3):
            for j, array in pulled(member, k).items():
                parts = dict(segments.pulled_back(network, k, slice(0, len(array))))
                np.testing.assert_allclose(parts[j].rows[s], array, rtol=0, atol=1e-14)


def test_dense_and_sparse_rows_agree():
    import scipy.sparse as sp

    rng = np.random.default_rng(1)
    array = rng.standard_normal((6, 8)) * (rng.random((6, 8)) < 0.3)
    dense_rows, sparse_rows = DenseRows(torch.from_numpy(array)), SparseRows(sp.csr_array(array))
    r, s = torch.rand(3, 8, dtype=torch.float64), torch.rand(3, 6, dtype=torch.float64)
    for one in (dense_rows, sparse_rows):
        np.testing.assert_allclose(one.sums(-1), abs(array).sum(1))
        np.testing.assert_allclose(one.sums(-2), abs(array).sum(0))
        np.testing.assert_allclose(one.times(r), r.numpy() @ abs(array).T)
        np.testing.assert_allclose(one.transposed_times(s), s.numpy() @ abs(array))


def test_the_radius_at_the_output_is_the_identity():
    network = lb.from_weights([np.ones((2, 3)), np.ones((4, 2))])
    last = segments.radius(network, 2)
    assert isinstance(last, Identity) and last.shape == (4, 4)
    assert segments.radius(network, 1) is network.stages[0].radius
