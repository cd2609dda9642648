"""The networks of test 5 as the configuration describes them."""

import pytest
import torch

from lipbounds.errors import LipboundsError
from lipbounds.linear.operators import dense
from lipbounds.studies.cases.comparison import build
from lipbounds.studies.cases.random import gaussian


def test_analytical_networks_have_their_function():
    x = torch.tensor([[0.25], [0.5]])
    torch.testing.assert_close(build({"family": "square", "level": 3}, 0)(x), x.double() ** 2)


def test_gaussian_networks_have_their_sizes():
    network = build({"sizes": [6, 16, 16, 3]}, 0)
    assert [a.operator.shape for a in network.affines] == [(16, 6), (16, 16), (3, 16)]


def test_gaussian_moments_and_seed():
    network = gaussian([50, 400, 300], 1)
    for affine in network.affines:
        assert dense(affine.operator).std() * affine.operator.shape[1] ** 0.5 == pytest.approx(
            1, abs=0.02
        )
        assert affine.offset.std() == pytest.approx(0.5, abs=0.05)
    again, other = gaussian([50, 400, 300], 1), gaussian([50, 400, 300], 2)
    first = dense(network.affines[0].operator)
    assert torch.equal(first, dense(again.affines[0].operator))
    assert not torch.equal(first, dense(other.affines[0].operator))


@pytest.mark.parametrize(
    "described",
    [
        {"sizes": [6]},
        {"sizes": [6, 0, 1]},
        {"sizes": [6, 1], "level": 2},
        {"family": "circle", "level": 2},
        {"family": "square"},
        {},
    ],
)
def test_unknown_descriptions_raise(described):
    with pytest.raises(LipboundsError):
        build(described, 0)
