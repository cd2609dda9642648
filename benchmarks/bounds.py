"""Seconds and memory of the bounds: `python benchmarks/bounds.py` (about two minutes on two cores).

Each case runs in a process of its own, so that its peak memory is its own. Networks have PyTorch's
initial weights, which cost as much as trained ones.
"""

import resource
import subprocess
import sys
import time

import torch

import lipbounds as lb
from lipbounds.studies.cases.mnist import ARCHITECTURES, SHAPE
from lipbounds.studies.cases.random import ensemble


def cnn(architecture: str) -> None:
    """All bounds, norms and treatments of a CNN of test 4."""
    torch.manual_seed(0)
    network = lb.from_torch(ARCHITECTURES[architecture]().eval(), SHAPE)
    start = time.perf_counter()
    table = lb.bounds(network)
    seconds = time.perf_counter() - start
    slowest = table.loc[table.seconds.idxmax()]
    _line(
        f"CNN {architecture}: {len(table)} bounds", seconds,
        f"slowest {slowest.bound} l{slowest.norm:g} {slowest.treatment} {slowest.seconds:.1f} s",
    )  # fmt: skip


def deep(name: str) -> None:
    """One bound, in all norms, of a 50-stage network of width 32."""
    weights = [a.operator.weight[0] for a in ensemble("gaussian", 32, 50, 1, 0).affines]
    network = lb.from_weights(weights)
    start = time.perf_counter()
    table = lb.bounds(network, [name])
    _line(f"50 stages of width 32: {name}", time.perf_counter() - start, f"{len(table)} norms")


def random(width: str) -> None:
    """All bounds of 200 random networks with four hidden stages, as test 3 has them."""
    network = ensemble("gaussian", int(width), 4, 200, 0)
    start = time.perf_counter()
    lb.bounds(network, options={"K_2": {"budget": 4e5}})
    _line(f"200 networks, 4 stages of width {width}", time.perf_counter() - start, "")


def _line(case: str, seconds: float, note: str) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{case:45s} {seconds:7.2f} s {memory:6.2f} GiB  {note}", flush=True)


CASES = {"cnn": cnn, "deep": deep, "random": random}
RUNS = [
    *(("cnn", architecture) for architecture in ARCHITECTURES),
    *(("deep", name) for name in ("K_1", "K_3", "K_4")),
    *(("random", width) for width in ("8", "32", "128")),
]

if __name__ == "__main__":
    if len(sys.argv) == 3:
        CASES[sys.argv[1]](sys.argv[2])
    else:
        print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
        for case, argument in RUNS:
            subprocess.run([sys.executable, __file__, case, argument], check=True)
