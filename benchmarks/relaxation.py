"""The relaxation optimum D*: `python benchmarks/relaxation.py [seconds]`, 60 by default.

Both ends, their relative gap and the seconds taken, per network and norm; at most `seconds` each.
Networks have Gaussian weights of variance 1 / fan-in and ReLU, but for the analytical ones.
"""

import itertools
import math
import sys
import time

import numpy as np
import torch

import lipbounds as lb
from lipbounds.networks.network import Network
from lipbounds.studies.cases import analytic
from lipbounds.truth.relaxation import relaxation_optimum

SIZES = [
    (4, 8, 1),
    (6, 16, 16, 3),
    (2, 10, 10, 10, 10, 1),
    (20, 40, 20),
    (6, 20, 20, 20, 2),
    (8, 64, 64, 4),
    (10, 32, 32, 32, 5),
]


def gaussian(sizes: tuple[int, ...]) -> Network:
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((m, n)) / math.sqrt(n) for n, m in itertools.pairwise(sizes)]
    return lb.from_weights(weights)


NETWORKS = {"-".join(map(str, sizes)): gaussian(sizes) for sizes in SIZES} | {
    "saw-tooth, level 6": analytic.sawtooth(6),
    "x^2, level 3": analytic.square(3),
    "x^2, written with a split carry, level 3": analytic.square_split_carry(3),
}


def main(seconds: float) -> None:
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {seconds:g} s each")
    for name, network in NETWORKS.items():
        for norm in (1, 2, math.inf):
            start = time.perf_counter()
            found = relaxation_optimum(network, norm, seconds)
            upper, lower = found.upper, found.lower
            elapsed = time.perf_counter() - start
            print(
                f"{name:42s} l{norm:<4g} {lower:11.6f} {upper:11.6f} "
                f"{upper / lower - 1:9.1e} {elapsed:7.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
