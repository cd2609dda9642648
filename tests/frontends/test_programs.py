"""Programs of torch.export against the modules they were made of."""

import pytest
import torch
from torch import nn

import lipbounds as lb
from lipbounds.errors import LipboundsError, UnsupportedError


class Viewed(nn.Module):
    """Writes the size of its batch into the program."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(1, 2, 3), nn.Linear(2 * 16, 3)

    def forward(self, x):
        return self.outer(torch.relu(self.inner(x)).view(x.size(0), -1))


MODULES = {
    "linear": (nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), (3,)),
    "pools": (
        nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(3)
        ),
        (1, 8, 8),
    ),
    "transposed": (
        nn.Sequential(nn.ConvTranspose1d(1, 2, 3, stride=2), nn.GELU(), nn.Flatten()),
        (1, 4),
    ),
    "view": (Viewed(), (1, 6, 6)),
}


def program(module, shape, batch=2, dynamic=False):
    shapes = ({0: torch.export.Dim.AUTO},) if dynamic else None
    return torch.export.export(module.eval(), (torch.randn(batch, *shape),), dynamic_shapes=shapes)


@pytest.mark.parametrize("batch", (1, 2, 3, None))
@pytest.mark.parametrize("name", MODULES)
def test_computes_what_the_module_computes(name, batch):
    module, shape = MODULES[name]
    made = program(module, shape, batch or 2, batch is None)
    network = lb.from_exported(made)
    assert network.input_shape == shape
    x = torch.randn(5, *shape)
    expected = module.double()(x.double()).flatten(1)
    module.float()
    torch.testing.assert_close(network(x.double()), expected, rtol=1e-6, atol=1e-6)


def test_open_dimensions_must_be_said():
    module = nn.Sequential(nn.Conv1d(1, 1, 3), nn.ReLU())
    shapes = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO},)
    made = torch.export.export(module, (torch.randn(2, 1, 8),), dynamic_shapes=shapes)
    with pytest.raises(LipboundsError, match="leaves the shape of one input open"):
        lb.from_exported(made)
    assert lb.from_exported(made, (1, 9)).output_size == 7
    with pytest.raises(LipboundsError, match="takes inputs of shape"):
        lb.from_exported(made, (2, 9))


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


def test_what_is_refused():
    with pytest.raises(LipboundsError, match="torch.export.load"):
        lb.from_exported("network.pt2")
    x = torch.randn(2, 3)
    with pytest.raises(UnsupportedError, match="takes 2 inputs"):
        lb.from_exported(torch.export.export(Two(), (x, x)))
    with pytest.raises(UnsupportedError, match="that of a batch"):
        lb.from_exported(torch.export.export(nn.ReLU(), (torch.randn(3),)))
    with pytest.raises(UnsupportedError, match="normalises"):
        lb.from_exported(program(nn.LayerNorm(3), (3,)))


class Batched(nn.Module):
    """Of four rows that are no batch."""

    def forward(self, x):
        return x.reshape(4, -1).reshape(2, 2, -1).flatten(1)


def test_what_mixes_the_batch_is_refused():
    with pytest.raises(LipboundsError):
        lb.from_exported(torch.export.export(Batched(), (torch.randn(4, 6),)))
