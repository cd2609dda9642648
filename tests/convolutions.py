"""Small chains of convolutions, with every option that these have, for the tests."""

import numpy as np
import torch
from torch import nn

import lipbounds as lb

SIDE = 9


def conv(i, o, taps=3, **options):
    return nn.Conv2d(i, o, taps, **options)


def normed(channels):
    norm = nn.BatchNorm2d(channels)
    norm.running_var.uniform_(0.5, 2.0)
    norm.weight.data.uniform_(-1.0, 1.0)
    return norm


class Residual(nn.Module):
    """What some layers make of x, added to x itself, or to what `past` makes of it."""

    def __init__(self, *layers, past=None):
        super().__init__()
        self.layers, self.past = nn.Sequential(*layers), nn.Identity() if past is None else past

    def forward(self, x):
        return self.past(x) + self.layers(x)


class Beside(nn.Module):
    """x, and beside it what some layers make of it."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return torch.cat([x, self.layers(x)], 1)


RELU, LEAKY, FLAT = nn.ReLU(), nn.LeakyReLU(0.25), nn.Flatten()
torch.manual_seed(0)
WITHOUT_PADDING = {  # and how many stages, with the output, convolutions alone lead to
    "chain": (3, [conv(2, 3), RELU, conv(3, 3), LEAKY, conv(3, 2)]),
    "strided": (2, [conv(2, 3, stride=2), RELU, conv(3, 4, 2), RELU, FLAT, nn.Linear(36, 3)]),
    "dilated": (
        3,
        [conv(2, 4, dilation=(2, 1)), nn.Sigmoid(), conv(4, 4, groups=2), RELU, conv(4, 2, 1)],
    ),
    "averaged": (  # average pooling has no kernel here
        1,
        [conv(2, 3), RELU, nn.AvgPool2d(2), normed(3), LEAKY, FLAT, nn.Linear(27, 2)],
    ),
    "pooled": (
        4,
        [conv(2, 3), RELU, nn.MaxPool2d(2), conv(3, 3, 2), RELU, conv(3, 3, 1), RELU, FLAT]
        + [nn.Linear(12, 4), RELU, nn.Linear(4, 2)],
    ),
}
PADDED = {
    "padded": (
        3,
        [conv(2, 3, padding=1), RELU, conv(3, 3, padding=1), LEAKY, conv(3, 2, padding=1)],
    ),
    "widened": (
        3,
        [conv(2, 3), nn.LeakyReLU(0.5), conv(3, 3, padding=(0, 2)), RELU]
        + [conv(3, 3, padding=2, stride=2), LEAKY, FLAT, nn.Linear(72, 3)],
    ),
    "depthwise": (  # nor has batch norm alone
        3,
        [conv(2, 2, groups=2, padding=1), nn.PReLU(2, 0.3), conv(2, 4, 1), nn.Tanh()]
        + [nn.MaxPool2d(3, 2, 1), normed(4), LEAKY, conv(4, 4, padding=1, stride=2), RELU, FLAT]
        + [nn.Linear(36, 3), RELU, nn.Linear(3, 3)],
    ),
}
MODULES = WITHOUT_PADDING | PADDED


RESIDUAL = {
    "residual": (
        4,
        [conv(2, 3, padding=1), RELU]
        + [Residual(conv(3, 2, padding=1), LEAKY, conv(2, 3, padding=1)), RELU, conv(3, 2)],
    ),
    "halved": (
        3,
        [conv(2, 2, 1), RELU]
        + [Residual(conv(2, 3, padding=1, stride=2), normed(3), RELU, conv(3, 3, padding=1),
                    past=nn.Sequential(conv(2, 3, 1, stride=2), normed(3)))]
        + [RELU, nn.AvgPool2d(5), FLAT, nn.Linear(3, 2), RELU, nn.Linear(2, 2)],
    ),
    "activations first": (
        5,
        [conv(2, 3), Residual(normed(3), RELU, conv(3, 3, padding=1))]
        + [Residual(normed(3), LEAKY, conv(3, 3, 1), RELU, conv(3, 3, padding=1)), RELU]
        + [conv(3, 2, padding=1, stride=2)],
    ),
    "beside": (
        4,
        [conv(2, 2, padding=1), RELU, Beside(conv(2, 2, (1, 3), padding=(0, 1)), RELU)]
        + [conv(4, 3, 3, padding=1, dilation=1), nn.Tanh(), conv(3, 2, 2)],
    ),
    "carried over an edge": (  # values that are not 0 beyond the image, and are read there
        4,
        [conv(2, 2, padding=1), LEAKY, Beside(conv(2, 2, 1), RELU), conv(4, 2, padding=1), RELU]
        + [conv(2, 2, 1)],
    ),
    "behind": (  # the torus
        2,
        [conv(2, 3, padding=1), LEAKY, conv(3, 2, stride=3), RELU, FLAT]
        + [Residual(nn.Linear(18, 5), RELU, nn.Linear(5, 18)), RELU, nn.Linear(18, 3)],
    ),
}  # fmt: skip


def network_of(name):
    return of_layers((MODULES | RESIDUAL)[name][1])


def of_layers(layers):
    return lb.from_torch(nn.Sequential(*layers).double().eval(), (2, SIDE, SIDE))


def circulant(kernel, shape, stride, dilation, groups):
    """The matrix of a circular convolution, from its definition."""
    outputs, inputs, height, width = kernel.shape
    channels, rows, columns = shape
    result = np.zeros((outputs, rows // stride[0], columns // stride[1], channels, rows, columns))
    for o in range(outputs):
        for i in range(inputs):
            source = (o // (outputs // groups)) * inputs + i
            for a, b in np.ndindex(height, width):
                for y, x in np.ndindex(*result.shape[1:3]):
                    at = (
                        (y * stride[0] + a * dilation[0]) % rows,
                        (x * stride[1] + b * dilation[1]) % columns,
                    )
                    result[o, y, x, source, *at] += kernel[o, i, a, b]
    return result.reshape(outputs * result.shape[1] * result.shape[2], -1)  # fmt: skip
