"""Random networks for the tests, each with the dense parts that the oracles take."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from oracles import Pool, Slope
from torch import nn

import lipbounds as lb
from lipbounds.linear.operators import Dense
from lipbounds.networks import activations as act
from lipbounds.networks.network import Affine, Network
from lipbounds.networks.stages import PoolStage, SlopeStage

quick = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# name -> ([alpha, beta] written out, the activation)
SLOPES = {
    "relu": (0.0, 1.0, act.relu()),
    "abs": (-1.0, 1.0, act.absolute()),
    "identity": (1.0, 1.0, act.identity()),
    "tanh": (0.0, 1.0, act.tanh()),
    "sigmoid": (0.0, 0.25, act.sigmoid()),
    "leaky": (0.25, 1.0, act.leaky_relu(0.25)),
    "steep": (1.0, 2.5, act.leaky_relu(2.5)),
    "negative": (-0.5, 1.0, act.leaky_relu(-0.5)),
    "hardswish": (-0.5, 1.5, act.hardswish()),
}


@dataclass(frozen=True)
class Sample:
    """A network and, independently of it, its matrices and stages."""

    network: Network
    weights: list[np.ndarray]
    stages: list


def matrix(rng, m, n):
    """Gaussian, small integers with zeros, or badly scaled."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.standard_normal((m, n))
    if kind == 1:
        return rng.integers(-2, 3, (m, n)).astype(float)
    return rng.standard_normal((m, n)) * 10.0 ** rng.integers(-3, 4, (m, 1))


def slope_sample(rng, sizes, names):
    """names: per hidden stage one name for all neurons, or a list of names."""
    weights = [matrix(rng, m, n) for n, m in itertools.pairwise(sizes)]
    biases = [rng.standard_normal(m) for m in sizes[1:]]
    per_neuron = [
        [item] * size if isinstance(item, str) else item
        for item, size in zip(names, sizes[1:-1], strict=True)
    ]
    functions = [
        SLOPES[item][2] if isinstance(item, str) else [SLOPES[name][2] for name in item]
        for item in names
    ]
    stages = [
        Slope(*(np.array([SLOPES[name][end] for name in stage]) for end in (0, 1)))
        for stage in per_neuron
    ]
    return Sample(Network.from_weights(weights, biases, functions), weights, stages)


@st.composite
def slope_networks(draw, uniform=False, depths=(0, 3), width=3):
    """Fully-connected networks; `uniform`: one interval per stage."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth = draw(st.integers(*depths))
    sizes = draw(st.lists(st.integers(1, width), min_size=depth + 2, max_size=depth + 2))
    name = st.sampled_from(sorted(SLOPES))
    names = [
        draw(name if uniform else st.lists(name, min_size=size, max_size=size))
        for size in sizes[1:-1]
    ]
    return slope_sample(rng, sizes, names)


def random_windows(rng, size):
    """Windows over `size` inputs that overlap and may repeat an index, covering some of them."""
    shape = rng.integers(1, 4), rng.integers(1, 4)
    return rng.integers(0, size, shape)


@st.composite
def pooled_networks(draw, uniform=False):
    """Networks with slope stages and at least one implicit pool, in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = draw(
        st.lists(st.sampled_from(["slope", "pool"]), min_size=1, max_size=3).filter(
            lambda kinds: "pool" in kinds
        )
    )
    return pooled_sample(rng, kinds, uniform)


def pooled_sample(rng, kinds, uniform=False):
    affines, weights, stages, oracles = [], [], [], []
    current = int(rng.integers(1, 4))
    for kind in [*kinds, None]:
        size = int(rng.integers(2, 5))
        weights.append(matrix(rng, size, current))
        offset = torch.from_numpy(rng.standard_normal(size))
        affines.append(Affine(Dense(torch.from_numpy(weights[-1])), offset))
        if kind == "pool":
            windows = random_windows(rng, size)
            stages.append(PoolStage(torch.from_numpy(windows), size))
            oracles.append(Pool.over(windows.tolist(), size))
            size = len(windows)
        elif kind == "slope":
            names = rng.choice(sorted(SLOPES), size)
            names = [names[0]] * size if uniform else names
            stages.append(SlopeStage.mixed([SLOPES[name][2] for name in names]))
            ends = (np.array([SLOPES[name][end] for name in names]) for end in (0, 1))
            oracles.append(Slope(*ends))
        current = size
    return Sample(Network(tuple(affines), tuple(stages)), weights, oracles)


def between_sample(sample):
    """The explicit treatment of a pooled sample, and the oracles' own tree of maxima."""
    weights, stages = [sample.weights[0]], []
    for stage, weight in zip(sample.stages, sample.weights[1:], strict=True):
        tree = stage.tree() if isinstance(stage, Pool) else [stage]
        weights += [np.eye(len(one.p)) for one in tree[:-1]] + [weight]
        stages += tree
    return Sample(lb.explicit(sample.network), weights, stages)


def small_cnns():
    """Seeded CNNs: overlapping, padded and plain max-pooling, average pooling, batch norm."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    cnns = {
        "plain": nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
        ),
        "overlap": nn.Sequential(
            nn.Conv2d(1, 2, 2, padding=1), nn.MaxPool2d(3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(2, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3),
        ),
        "average": nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2, 1),
            nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(3, 4), nn.ReLU(),
            nn.Linear(4, 2),
        ),
        "two pools": nn.Sequential(
            nn.MaxPool2d(2, 1), nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 2),
        ),
    }  # fmt: skip
    return {name: cnn.double().eval() for name, cnn in cnns.items()}


IMAGE = (1, 6, 6)
