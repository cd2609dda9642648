"""K_5 of one network as it falls: `python benchmarks/anytime.py NETWORK NORM [seconds ...]`.

NETWORK: the layers of a Gaussian one, such as 784-256-256-256-256-256-256-10, one of those below
(residual, lenet, conv, strided), or a checkpoint of the workflow, such as
results/mnist/large/seed0.pt. The plan of the last budget is printed, then each better proven bound
of that run with its seconds; for each budget the time it took, the value and how it ended, and
whether it is above the least of the other bounds that end within a tenth; then the memory's peak.
Seconds are the processor's: set OMP_NUM_THREADS=1, and what else the machine does is no matter.
"""

import argparse
import math
import resource
import sys

import torch
from torch import nn

import lipbounds as lb
from lipbounds.clock import now, processor_time
from lipbounds.methods.ellipsoidal import measured_speed
from lipbounds.methods.plan import SHARE, plan
from lipbounds.methods.registry import BOUNDS
from lipbounds.networks.rewrite import explicit, merged
from lipbounds.studies.cases import mnist
from lipbounds.studies.cases.random import gaussian

NORMS = {"1": 1.0, "2": 2.0, "inf": math.inf}


def residual() -> lb.Network:
    """y + W relu(V y), eight times, 64 wide: the y of each block are carried by identities."""
    generator = torch.Generator().manual_seed(0)
    eye = torch.eye(64, dtype=torch.float64)

    def gaussian_map() -> torch.Tensor:
        return torch.randn(64, 64, generator=generator, dtype=torch.float64) / 16

    into = [torch.cat([gaussian_map(), eye]) for _ in range(8)]
    out = [torch.cat([gaussian_map(), eye], 1) for _ in range(8)]
    inner = [ahead @ back for back, ahead in zip(out, into[1:], strict=False)]
    functions = ["relu"] * 64 + ["identity"] * 64
    return lb.from_weights([into[0], *inner, out[-1]], activation=[functions] * 8)


def convolutional(shape: tuple[int, ...], *layers: nn.Module) -> lb.Network:
    torch.manual_seed(0)
    module = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))
    module(torch.zeros(1, *shape))
    return lb.from_torch(module.double().eval(), shape)


def lenet() -> lb.Network:
    first = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.AvgPool2d(2)
    second = nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    dense = nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()
    return convolutional((1, 28, 28), *first, *second, *dense)


def conv() -> lb.Network:
    layers = [(nn.Conv2d(c, 4, 3, padding=1), nn.ReLU()) for c in (1, 4, 4)]
    return convolutional((1, 32, 32), *(one for pair in layers for one in pair))


def strided() -> lb.Network:
    widths = (3, 32), (32, 64), (64, 128)
    layers = [(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU()) for a, b in widths]
    return convolutional((3, 32, 32), *(one for pair in layers for one in pair))


NETWORKS = {"residual": residual, "lenet": lenet, "conv": conv, "strided": strided}


def network(name: str) -> lb.Network:
    """Raises LipboundsError where it is none of these."""
    if name in NETWORKS:
        return NETWORKS[name]()
    if name.endswith(".pt"):
        return lb.from_torch(mnist.load(name)[0], mnist.SHAPE)
    sizes = name.split("-")
    if len(sizes) < 2 or not all(size.isdigit() and int(size) > 0 for size in sizes):
        known = ", ".join(NETWORKS)
        raise lb.LipboundsError(f"{name!r} is neither layers such as 8-16-4, {known}, nor a .pt")
    return gaussian([int(size) for size in sizes], 0)


def least(one: lb.Network, norm: float, seconds: float, speed: float) -> tuple[float, str]:
    """The least of the other bounds that end within the seconds, and its name; those that are
    estimated at ten times as long are not tried."""
    found = [(math.inf, "none")]
    for method in BOUNDS.values():
        if norm in method.norms and method.cost(one, norm) <= 10 * seconds * speed:
            try:
                begin, value = now(), lb.bound(one, method.name, norm, seconds=seconds).upper
            except lb.LipboundsError:
                continue
            if now() - begin <= seconds:
                found.append((value, method.name))
    return min(found)


def main(name: str, norm: float, budgets: list[float]) -> None:
    one = network(name)
    form = merged(explicit(one) if one.has_pools else one)
    speed = measured_speed("cpu", torch.get_num_threads())
    print(plan(form, norm, budgets[-1], speed))
    print(f"{speed:.1e} multiply-adds a second, {torch.get_num_threads()} threads")

    def tell(elapsed: float, value: torch.Tensor) -> None:
        print(f"{elapsed:9.2f}  {float(value):.6g}", flush=True)

    for seconds in budgets:
        begin, hear = now(), tell if seconds == budgets[-1] else None
        found = lb.bound(one, "K_5", norm, seconds=seconds, progress=hear)
        taken = now() - begin
        other, who = least(one, norm, SHARE * seconds, speed)
        sign = "<=" if found.upper <= other else "ABOVE"
        print(
            f"{seconds:g} s: {taken:.2f} s, {found.upper:.6g} {sign} {other:.6g} ({who}), ", end=""
        )
        print(f"{found.status} {found.left}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{peak:.2f} GiB at most")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="8-16-4, residual, or results/mnist/small/seed0.pt")
    parser.add_argument("norm", choices=NORMS)
    parser.add_argument("seconds", nargs="*", type=float, default=[60.0])
    given = parser.parse_args()
    try:
        with processor_time():
            main(given.network, NORMS[given.norm], given.seconds)
    except lb.LipboundsError as error:
        sys.exit(f"error: {error}")
