"""K_5 of one network as it falls: `python benchmarks/anytime.py NETWORK NORM [seconds]`.

NETWORK: the layers of a Gaussian one, such as 784-256-256-256-256-256-256-10, or a checkpoint of
the workflow, such as results/mnist/large/seed0.pt. Each better proven bound is printed with the
seconds; at the end the memory's peak. The figures of docs/k5.md are of two cores.
"""

import argparse
import resource
import sys
import time

import torch

import lipbounds as lb
from lipbounds.studies.cases import mnist
from lipbounds.studies.cases.random import gaussian

NORMS = {"1": 1.0, "2": 2.0, "inf": float("inf")}


def network(name: str) -> lb.Network:
    """Raises LipboundsError where it is neither."""
    if name.endswith(".pt"):
        return lb.from_torch(mnist.load(name)[0])
    sizes = name.split("-")
    if len(sizes) < 2 or not all(size.isdigit() and int(size) > 0 for size in sizes):
        raise lb.LipboundsError(f"{name!r} is neither layers such as 8-16-4 nor a checkpoint (.pt)")
    return gaussian([int(size) for size in sizes], 0)


def main(name: str, norm: str, seconds: float) -> None:
    one, begin = network(name), time.monotonic()
    print(f"K_5 in l{norm} of {name}, {seconds:g} s, {torch.get_num_threads()} threads")
    print("seconds  bound")

    def tell(elapsed: float, value: torch.Tensor) -> None:
        print(f"{elapsed:7.1f}  {float(value):.6g}", flush=True)

    value = lb.bound(one, "K_5", NORMS[norm], seconds=seconds, progress=tell).upper
    print(f"{time.monotonic() - begin:7.1f}  {value:.6g}  done")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{peak:.2f} GiB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="8-16-4, or results/mnist/small/seed0.pt")
    parser.add_argument("norm", choices=NORMS)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    given = parser.parse_args()
    try:
        main(given.network, given.norm, given.seconds)
    except lb.LipboundsError as error:
        sys.exit(f"error: {error}")
