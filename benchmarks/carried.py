"""What values carried past a layer cost K_5: `python benchmarks/carried.py steps | blocks`.

steps: processor seconds of a Newton step of a network of ReLUs, of the same with one linear neuron
in each stage, and with half of them linear. blocks: K_5 of 8 residual blocks of 64, beside what
ECLipsE-Fast gives, and the seconds of a Newton step and of one of the descent, beside those of a
plain network of width 128. Run with OMP_NUM_THREADS=1.
"""

import sys
import time

import torch

import lipbounds as lb
from lipbounds.networks.rewrite import merged
from lipbounds.quadratic.layered import layered_start
from lipbounds.quadratic.newton.barrier import Barrier
from lipbounds.quadratic.newton.forms import chain_forms
from lipbounds.quadratic.newton.mixed_forms import has_linear_neurons
from lipbounds.quadratic.newton.programs import _forms, _theta
from lipbounds.quadratic.structured.descent import descend

SEED, WIDTH, BLOCKS = 0, 64, 8
NORMS = {"1": 1.0, "2": 2.0, "inf": float("inf")}


def plain(sizes: list[int], linear: int = 0) -> lb.Network:
    """A Gaussian network, `linear` neurons of each stage being identities."""
    generator = torch.Generator().manual_seed(SEED)
    weights = [
        torch.randn(m, n, dtype=torch.float64, generator=generator) * (2 / n) ** 0.5
        for n, m in zip(sizes, sizes[1:], strict=False)
    ]
    names = [["identity"] * linear + ["relu"] * (size - linear) for size in sizes[1:-1]]
    return lb.from_weights(weights, activation=names)


def residual(blocks: int, width: int, outputs: int = 10) -> lb.Network:
    """x + V relu(W x), `blocks` times, then a linear layer: the trunk is carried by identities."""
    generator = torch.Generator().manual_seed(SEED)

    def gaussian(m: int, n: int) -> torch.Tensor:
        return torch.randn(m, n, dtype=torch.float64, generator=generator) / n**0.5

    unit = trunk = torch.eye(width, dtype=torch.float64)
    weights = []
    for _ in range(blocks):
        weights.append(torch.cat([unit, gaussian(width, width)]) @ trunk)
        trunk = torch.cat([unit, gaussian(width, width) / 2], 1)
    weights.append(gaussian(outputs, width) @ trunk)
    return lb.from_weights(weights, activation=[["identity"] * width + ["relu"] * width] * blocks)


def newton_seconds(network: lb.Network, norm: float, steps: int = 6) -> float:
    """Processor seconds of a Newton step of the first piece, line search included."""
    network, first = merged(network), torch.tensor([0])
    chain = None if has_linear_neurons(network) else chain_forms(network)
    forms = _forms(network, chain, norm, first, first)
    barrier = Barrier(forms)
    start = barrier.first(_theta(layered_start(network, 0.25), forms, first))
    point = barrier.advance(start)[0]
    begin = time.process_time()
    for _ in range(steps):
        point = barrier.advance(point)[0]
    return (time.process_time() - begin) / steps


def descent_seconds(network: lb.Network, norm: float, steps: int = 10) -> float:
    network, begin = merged(network), time.process_time()
    descend(network, norm, layered_start(network), seconds=1e9, steps=steps)
    return (time.process_time() - begin) / steps


def steps() -> None:
    sizes = [100, *[200] * 6, 10]
    print("norm  plain, s  one linear, s  half linear, s")
    for name, norm in NORMS.items():
        times = [newton_seconds(plain(sizes, linear), norm) for linear in (0, 1, 100)]
        print(f"{name:4}  " + "  ".join(f"{t:.3g}" for t in times), flush=True)


def blocks() -> None:
    network, wide = residual(BLOCKS, WIDTH), plain([WIDTH, *[2 * WIDTH] * BLOCKS, 10])
    print(f"eclipse_fast {lb.bound(network, 'eclipse_fast', 2).upper:.5g} in l2")
    print("norm  K_5  processor s  Newton step, plain's  descent step, plain's")
    for name, norm in NORMS.items():
        begin = time.process_time()
        value = lb.bound(network, "K_5", norm, seconds=10).upper
        spent = time.process_time() - begin
        times = [f(n, norm) for f in (newton_seconds, descent_seconds) for n in (network, wide)]
        each = "  ".join(f"{t:.3g}" for t in times)
        print(f"{name:4}  {value:.5g}  {spent:.1f}  {each}", flush=True)


if __name__ == "__main__":
    commands = {"steps": steps, "blocks": blocks}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
