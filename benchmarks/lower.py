"""Lower bounds found and seconds taken: `python benchmarks/lower.py` (some minutes on one core).

Against the best of 10,000 Jacobians at random points, which is what they replace.
"""

import math
import time

import torch

import lipbounds as lb
from lipbounds.studies.cases.analytic import sawtooth, square
from lipbounds.studies.cases.mnist import ARCHITECTURES, SHAPE
from lipbounds.studies.cases.random import gaussian
from lipbounds.truth.lower import secant_lower_bound
from lipbounds.truth.sampling import jacobian_norms

NORMS = (1, 2, math.inf)
SIZES = ((6, 16, 16, 3), (20, 40, 20), (2, 10, 10, 10, 10, 1), (10, 32, 32, 32, 5))


def measure(name: str, network: lb.Network, drawn: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (drawn, network.input_size)
    points = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    for norm in NORMS:
        sampled = float(jacobian_norms(network, points, norm).max())
        values, start = [], time.perf_counter()
        for seed in (0, 1):
            values.append(secant_lower_bound(network, norm, seed=seed).lower)
        seconds = (time.perf_counter() - start) / 2
        print(
            f"{name:16s} l{norm:<4g} seeds {values[0]:10.6g} {values[1]:10.6g}   "
            f"sampled {sampled:10.6g} {seconds:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for level in (3, 8):
        measure(f"square({level})", square(level), 10_000)
        measure(f"sawtooth({level})", sawtooth(level), 10_000)
    for sizes in SIZES:
        measure("-".join(map(str, sizes)), gaussian(sizes, 0), 10_000)
    for architecture in ("small", "strided"):
        torch.manual_seed(0)
        cnn = lb.from_torch(ARCHITECTURES[architecture]().eval(), SHAPE)
        measure(f"CNN {architecture}", cnn, 200)
