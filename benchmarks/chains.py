"""Published chains of convolutions in l2: `python benchmarks/chains.py PUBLISHED [seconds=20]`.

PUBLISHED: the .npz of their kernels (name/W0, name/W1, ...), the published bounds in the .json next
to it. For each, the product of exact norms, K_5 once the published method's seconds are over and
after `seconds`, on one thread; to docs/tables/chains.md.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lipbounds as lb
from lipbounds.studies.files import write_text

TABLE = Path(__file__).resolve().parents[1] / "docs/tables/chains.md"
BOUND, SECONDS = "published l2, one matrix per layer", "seconds"


def network_of(kernels: list[np.ndarray], side: int, padding: int) -> lb.Network:
    layers = []
    for kernel in map(torch.from_numpy, kernels):
        outputs, inputs, taps, _ = kernel.shape
        layer = nn.Conv2d(inputs, outputs, taps, padding=padding, bias=False).double()
        layer.weight.data = kernel.double()
        layers += [layer, nn.ReLU()]
    return lb.from_torch(nn.Sequential(*layers[:-1]), (kernels[0].shape[1], side, side))


def row_of(name: str, arrays, known: dict, seconds: float) -> dict:
    kernels = [arrays[f"{name}/W{k}"] for k in range(len([a for a in arrays if f"{name}/" in a]))]
    network, heard = network_of(kernels, known["image"], known["padding"]), []
    begin = time.process_time()
    product = lb.bound(network, "K_star", 2).upper
    hear = lambda _, bound: heard.append((time.process_time() - begin, float(bound)))  # noqa: E731
    begin = time.process_time()
    found = lb.bound(network, "K_5", 2, seconds=seconds, progress=hear)
    soon = min((bound for at, bound in heard if at <= known[SECONDS]), default=np.inf)
    first = next((at for at, bound in heard if bound <= known[BOUND]), np.inf)
    return {
        "chain": name.removeprefix("chain_"),
        "product of norms": product,
        "published": known[BOUND],
        "its seconds": known[SECONDS],
        "K_5 then": soon,
        "K_5 below it after, s": first,
        f"K_5, {seconds:g} s": found.upper,
        "by": found.winner,
    }


def main(published: str, seconds: str = "20") -> None:
    torch.set_num_threads(1)
    path = Path(published)
    arrays, known = np.load(path), json.loads(path.with_suffix(".json").read_text())
    rows = []
    for name in sorted(known, key=lambda one: (one.split("x")[-1].zfill(3), len(one), one)):
        if name.startswith("chain"):
            rows.append(row_of(name, arrays, known[name], float(seconds)))
            print(rows[-1], flush=True)
    text = [list(rows[0])] + [[_said(value) for value in row.values()] for row in rows]
    lines = [f"| {' | '.join(cells)} |\n" for cells in text]
    lines.insert(1, f"|---|{'--:|' * (len(rows[0]) - 1)}\n")
    write_text("".join(lines), TABLE)


def _said(value) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


if __name__ == "__main__":
    main(*sys.argv[1:])
