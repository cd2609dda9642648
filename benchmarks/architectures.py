"""torchvision's classifiers with random weights: `python benchmarks/architectures.py [seconds=60]`.

Each in a process of its own: seconds and memory of the import and of K_*, K_3 and K_4, at most
`seconds` for each bound, or the reason why there is none. To results/benchmarks/architectures.csv,
which a run that was stopped goes on with, and docs/tables/architectures.md.
"""

import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

import lipbounds as lb
from lipbounds.frontends.modules import imported
from lipbounds.studies.files import write_text
from lipbounds.studies.torchvision_cpu import import_torchvision
from lipbounds.truth import matrix_free

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results/benchmarks/architectures.csv"
TABLE = ROOT / "docs/tables/architectures.md"
NAMES = (
    "lenet alexnet vgg11 vgg16_bn squeezenet1_1 resnet18 resnet34 resnet50 densenet121 googlenet "
    "mobilenet_v2 mobilenet_v3_small efficientnet_b0 convnext_tiny"
).split()
SIDES = {"lenet": [28]} | {
    name: [32, 224] for name in NAMES if name not in ("lenet", "alexnet", "squeezenet1_1")
}
BOUNDS = [("K_star", math.inf), ("K_star", 2.0), ("K_3", math.inf), ("K_4", math.inf)]
SEARCH = 20  # seconds, for a Jacobian of large norm
GIB = 2**20  # of ru_maxrss, on Linux


def module_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "lenet":
        nn = torch.nn
        return nn.Sequential(
            nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(),
            nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip
    models = import_torchvision().models
    options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
    return getattr(models, name)(weights=None, **options)


def measured(name: str, side: int, seconds: float) -> dict:
    """What the table says of one architecture."""
    module = module_of(name).eval().double()
    row = {"name": name, "side": side, "weights": sum(p.numel() for p in module.parameters())}
    begin = time.monotonic()
    try:
        found = imported(module, (3, side, side))
    except lb.LipboundsError as error:
        return row | {"reason": str(error)}
    network = found.network
    row |= {"import": time.monotonic() - begin, "difference": found.difference}
    row |= {"neurons": sum(stage.shape[0] for stage in network.stages), "stages": network.depth}
    for bound, norm in BOUNDS:
        key = f"{bound}, {norm:g}"
        try:
            one = lb.bound(network, bound, norm, seconds=seconds)
            row |= {key: one.upper, f"{key}: seconds": one.seconds, f"{key}: left": one.left}
        except lb.LipboundsError as error:
            row[f"{key}: left"] = str(error)
        row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return row | {"sampled": sampled(network)}


def sampled(network: lb.Network) -> float:
    """|| J(x) ||_inf at the best of some x, in floating point: no bound, but no bound is below."""
    end = time.monotonic() + SEARCH
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        late = lambda: time.monotonic() > end  # noqa: E731
        x, v, _ = matrix_free.search(network, math.inf, None, generator, late)
        return float(matrix_free.stretch(network, x[:1], v[:1], math.inf))


def in_a_process(name: str, side: int, seconds: float) -> dict:
    command = [sys.executable, __file__, "one", name, str(side), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["killed"]
        return {"name": name, "side": side, "reason": said[-1]}
    return json.loads(done.stdout)


def main(seconds: float = 60) -> None:
    table = pd.read_csv(MEASURED) if MEASURED.exists() else pd.DataFrame(columns=["name", "side"])
    rows = table.to_dict("records")
    known = {(row["name"], row["side"]) for row in rows}
    for name in NAMES:
        for side in SIDES.get(name, [224]):
            if (name, side) not in known:
                rows.append(in_a_process(name, side, seconds))
                print(rows[-1], flush=True)
                MEASURED.parent.mkdir(parents=True, exist_ok=True)
                write_text(pd.DataFrame(rows).to_csv(index=False), MEASURED)
    write_text(as_markdown(pd.DataFrame(rows)), TABLE)


def as_markdown(table: pd.DataFrame) -> str:
    names = ["network", "pixels", "weights", "neurons", "import, s"]
    names += [part for name in ("K_* l∞", "K_* l2", "K_3 l∞", "K_4 l∞") for part in (name, "s")]
    names += ["sampled l∞", "GiB"]
    head = f"| {' | '.join(names)} |\n|---|{'--:|' * (len(names) - 1)}\n"
    refused, lines, notes = [], [], []
    for _, row in table.iterrows():
        if isinstance(row.get("reason"), str):
            refused.append(f"- `{row['name']}` at {row['side']}: {row['reason']}\n")
            continue
        cells = [row["name"], row["side"], f"{row['weights'] / 1e6:.1f} M"]
        cells += [f"{row['neurons'] / 1e6:.2f} M", f"{row['import']:.0f}"]
        for bound, norm in BOUNDS:
            key = f"{bound}, {norm:g}"
            left = row[f"{key}: left"]
            mark = ""
            if isinstance(left, str) and left:
                notes.append(f"{row['name']} at {row['side']}, {key}: {left}")
                mark = f"[{len(notes)}]"
            value, took = row.get(key, math.nan), row.get(f"{key}: seconds", math.nan)
            cells += [f"{value:.2g}{mark}", f"{took:.1f}"] if value == value else [f"–{mark}", "–"]
        cells += [f"{row['sampled']:.2g}", f"{row['memory']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |\n")
    said = "".join(f"[{k}] {note}\n\n" for k, note in enumerate(notes, start=1))
    return head + "".join(lines) + "\n" + said + "Not covered:\n\n" + "".join(refused)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        name, side, seconds = sys.argv[2:]
        print(json.dumps(measured(name, int(side), float(seconds))))
    else:
        main(*map(float, sys.argv[1:2]))
