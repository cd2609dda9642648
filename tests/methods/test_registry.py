"""What the registry says of its methods is so."""

import math

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.errors import UnsupportedError
from lipbounds.linear.norms import NORMS
from lipbounds.methods.registry import BOUNDS, registered

CASES = [(name, norm) for name, method in BOUNDS.items() for norm in method.norms]


def convolutional(pooled):
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 2, 2), nn.ReLU(), nn.MaxPool1d(2) if pooled else nn.AvgPool1d(2)]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2))
    return lb.from_torch(module, (1, 5))


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_each_method_takes_the_treatments_and_norms_it_is_listed_with(name, norm):
    """And no other norm; those listed with the explicit treatment alone take no pool kept whole."""
    method = registered(name)
    network = convolutional(pooled=name != "lipopt")  # which takes no maxima at all
    for treatment in method.worth(network):
        found = lb.bound(network, name, norm, treatment)
        assert 0 < found.upper < math.inf and found.status is lb.Status.CONVERGED
    if method.treatments == ("explicit",):
        with pytest.raises(UnsupportedError, match="kept whole|no slopes"):
            lb.bound(convolutional(pooled=True), name, norm, "implicit")
    for other in set(NORMS) - set(method.norms):
        with pytest.raises(UnsupportedError, match="norm"):
            lb.bound(network, name, other, "explicit")
