"""Three convolutions of the same channels on larger and larger images: `python benchmarks/growth.py
[seconds=60]`, then `python benchmarks/growth.py figure`.

Processor seconds, on one thread, until K_5 by Fourier and K_5 pixel by pixel are within one per
cent of where they end, and of K_4 (linf) and K_1 (l2) as they are and without the edges of images.
To results/benchmarks/growth.csv, docs/tables/growth.md and docs/figures/torus_growth.png.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import torch
from torch import nn

import lipbounds as lb
from lipbounds.clock import limited, processor_time
from lipbounds.linear.norms import LARGEST_GRAM
from lipbounds.methods import costs, ellipsoidal
from lipbounds.methods import plan as plans
from lipbounds.methods.averaged import averaged
from lipbounds.methods.combettes_pesquet import combettes_pesquet, on_a_torus
from lipbounds.networks.plane import plane_sums
from lipbounds.studies.files import write_text
from lipbounds.studies.plotting.style import BLUE, ORANGE, STYLE, VIOLET, save

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results/benchmarks/growth.csv"
TABLE, FIGURE = ROOT / "docs/tables/growth.md", ROOT / "docs/figures/torus_growth.png"
SIDES, CHANNELS, CLOSE = (8, 16, 32, 48, 64, 96, 128, 224), 8, 1.01
MARKS = {
    "K_5, l2, by Fourier": {"color": VIOLET, "marker": "*"},
    "K_5, l2, pixel by pixel": {"color": VIOLET, "marker": "o", "linestyle": "--"},
    "K_1, l2, by Fourier": {"color": ORANGE, "marker": "^"},
    "K_1, l2": {"color": ORANGE, "marker": "v", "linestyle": "--"},
    "K_4, l∞, composed kernels": {"color": BLUE, "marker": "s"},
    "K_4, l∞": {"color": BLUE, "marker": "D", "linestyle": "--"},
}


def network_of(side: int) -> lb.Network:
    torch.manual_seed(0)
    widths = [3, CHANNELS, CHANNELS, CHANNELS]
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False)]
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    return lb.from_torch(module.double(), (3, side, side))


def quadratic(network: lb.Network, seconds: float, phases: tuple[str, ...]) -> tuple[float, float]:
    """K_5, and when it was within a per cent of that; an error where none of `phases` proved it."""
    heard, begin = [], time.process_time()
    hear = lambda _, bound: heard.append((time.process_time() - begin, float(bound)))  # noqa: E731
    found = ellipsoidal.ellipsoidal(network, 2.0, seconds, hear)
    if found.winner not in phases:
        raise lb.LipboundsError(f"{found.winner} is less")
    value = float(found.upper)
    return value, next(at for at, bound in heard if bound <= CLOSE * value)


def by_fourier(network: lb.Network, seconds: float) -> tuple[float, float]:
    """Without what follows the torus."""
    plan = ellipsoidal.plan
    with replaced("plan", lambda *args, **options: plan(*args, **options | {"unrolled": False})):
        return quadratic(network, seconds, ("Fourier",))


def pixel_by_pixel(network: lb.Network, seconds: float) -> tuple[float, float]:
    """Without the torus."""
    with replaced("_torus", lambda *_: "left out, to compare"):
        return quadratic(network, seconds, ("descent", "Newton"))


@contextmanager
def replaced(name: str, function: Callable) -> Iterator[None]:
    """A function of K_5's module by another one."""
    own = getattr(ellipsoidal, name)
    setattr(ellipsoidal, name, function)
    try:
        yield
    finally:
        setattr(ellipsoidal, name, own)


def closed(formula: Callable[[lb.Network], torch.Tensor]):
    """A formula's value and seconds."""

    def measured(network: lb.Network, seconds: float) -> tuple[float, float]:
        begin = time.process_time()
        with limited(seconds):
            value = float(formula(network).amax())
        return value, time.process_time() - begin

    return measured


def _exact_k_1(network: lb.Network) -> torch.Tensor:
    if costs.largest_gram(network) > LARGEST_GRAM:
        raise lb.LipboundsError("a Gram matrix is too large")
    return combettes_pesquet(network, 2.0)


METHODS = {
    "K_5, l2, by Fourier": by_fourier,
    "K_5, l2, pixel by pixel": pixel_by_pixel,
    "K_1, l2, by Fourier": closed(on_a_torus),
    "K_1, l2": closed(_exact_k_1),
    "K_4, l∞, composed kernels": closed(plane_sums),
    "K_4, l∞": closed(lambda network: averaged(network, math.inf)),
}


def main(seconds: float = 60.0) -> None:
    torch.set_num_threads(1)
    plans.CHEAP[2] = (plans.FIRST,)  # K_5's seconds are then its own, not those of K_1 and K_2
    rows, done = [], set()
    for side in SIDES:
        network = network_of(side)
        for method, measured in METHODS.items():
            if method in done:  # it took all of the time on a smaller image
                continue
            with processor_time():
                try:
                    value, took = measured(network, seconds)
                except lb.LipboundsError:
                    done.add(method)
                    continue
            rows.append({"side": side, "method": method, "value": value, "seconds": took})
            print(rows[-1], flush=True)
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    write_text(pd.DataFrame(rows).to_csv(index=False), MEASURED)
    figure()


def figure() -> None:
    table = pd.read_csv(MEASURED)
    write_text(as_markdown(table), TABLE)
    with matplotlib.style.context(STYLE):
        drawn = matplotlib.figure.Figure(figsize=(7.5, 4.6), layout="constrained")
        ax = drawn.subplots()
        for method, look in MARKS.items():
            own = table[table["method"] == method]
            if len(own):
                ax.plot(own["side"], own["seconds"], **look)
                last = own["side"].iloc[-1], own["seconds"].iloc[-1]
                ax.annotate(
                    method, last, (6, 0), textcoords="offset points", va="center",
                    color=look["color"], fontsize=9,
                )  # fmt: skip
        side = np.array([32.0, 224.0])
        first = table[table["method"] == "K_5, l2, by Fourier"].set_index("side")["seconds"]
        growth = side**2 * np.log(side)
        ax.plot(side, 0.25 * first[32] * growth / growth[0], color="#777777", linestyle=":")
        ax.annotate("side² log side", (150, 4.0), va="top", color="#777777", fontsize=9)
        ax.set(xscale="log", yscale="log", xlabel="side of the image, pixels")
        ax.set_ylabel("processor seconds, one thread")
        ax.set_xticks(SIDES, [str(side) for side in SIDES], minor=False)
        ax.minorticks_off()
        ax.set_xlim(7, 900)
        ax.set_title(
            f"Three convolutions of {CHANNELS} channels: by Fourier\n"
            "the cost grows with the pixels, not with their square"
        )
    save(drawn, FIGURE)


def as_markdown(table: pd.DataFrame) -> str:
    head = "| side | " + " | ".join(f"{name}: value | s" for name in METHODS) + " |\n"
    lines = [head, f"|--:|{'--:|' * (2 * len(METHODS))}\n"]
    for side, own in table.groupby("side"):
        own = own.set_index("method")
        cells = [
            f"{own['value'][name]:.4g} | {own['seconds'][name]:.2g}"
            if name in own.index
            else "– | –"
            for name in METHODS
        ]
        lines.append(f"| {side} | {' | '.join(cells)} |\n")
    return "".join(lines)


if __name__ == "__main__":
    figure() if sys.argv[1:2] == ["figure"] else main(*map(float, sys.argv[1:2]))
