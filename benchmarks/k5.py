"""K_5 beside the conic solvers, and as networks grow: `python benchmarks/k5.py WHAT [number]`.

solvers [seeds=10]   K_5 and the solver (LipSDP-Neuron in l2, GeoLIP in l1 and l-infinity) on small
                     Gaussian networks, to results/benchmarks/k5_solvers.csv.
growth [seconds=60]  both, K_4, ECLipsE and a lower bound on wider and deeper networks, at most
                     `seconds` each, to results/benchmarks/k5_growth.csv.
figure               docs/figures/k5_growth.png from the second table.

A run that was stopped goes on where it was. K_5 is measured anew each time, in some minutes; what
else a table has is kept, for it takes half an hour: delete the table to measure that again.
All on one thread, in seconds of CPU time. The solvers' values are certified, as K_5 is.
"""

import itertools
import math
import os
import sys
import time
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
import torch
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

import lipbounds as lb
from lipbounds.studies.cases.random import gaussian
from lipbounds.studies.files import write_text
from lipbounds.studies.labels import LABELS
from lipbounds.studies.plotting.style import (
    MARKS,
    NORMS,
    OWN,
    STYLE,
    by_bound,
    finish,
    legend_handles,
    number,
    panels,
    save,
)

ROOT = Path(__file__).resolve().parents[1]
SOLVERS = ROOT / "results/benchmarks/k5_solvers.csv"
GROWTH = ROOT / "results/benchmarks/k5_growth.csv"
FIGURE = ROOT / "docs/figures/k5_growth.png"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
SOLVER = {1: "geolip", 2: "lipsdp_neuron", math.inf: "geolip"}
SMALL = [(4, 8, 1), (6, 16, 16, 3), (20, 40, 20), (2, 10, 10, 10, 10, 1), (10, 32, 32, 32, 5)]
GENEROUS = 600  # seconds of a solver for a small network, which takes 100 at most
KEYS = ["ladder", "norm", "method", "size"]
METHODS = {
    2: ("lower_bound", "K_4", "K_5", "eclipse", "lipsdp_neuron"),
    math.inf: ("lower_bound", "K_4", "K_5", "geolip"),
}
END = ("eclipse", "lipsdp_neuron", "geolip")  # not carried on with beyond the limit
RUNGS = {
    "width": {w: (8, w, w, 4) for w in (8, 16, 32, 64, 128, 256, 512, 1024)},
    "depth": {n: (8, *[32] * n, 4) for n in (1, 2, 3, 4, 6, 8, 10, 12)},
}
AXIS = {"width": "width, two hidden stages", "depth": "hidden stages of width 32"}
CUBE = {"color": "#777777", "linestyle": (0, (4, 2)), "linewidth": 1.2, "label": "∝ width³"}


def measured(network: lb.Network, method: str, norm: float, seconds: float) -> dict:
    """value, NaN where it is refused; seconds of CPU time; whether the limit stopped it."""
    start, late = time.process_time(), True
    try:
        if method == "lower_bound":
            value = lb.lower_bound(network, norm, seconds=min(seconds, 5)).lower
        else:
            result = lb.bound(network, method, norm, seconds=seconds)
            value, late = result.upper, result.status is not lb.Status.CONVERGED
    except lb.LipboundsError as error:
        print(f"{method} in l{norm:g}: {error}", flush=True)
        value = math.nan
    spent = time.process_time() - start
    return {"value": value, "seconds": spent, "stopped": late, "limit": seconds}


def warm_up() -> None:
    print(f"PyTorch {torch.__version__}; all methods on {torch.get_num_threads()} thread")
    for norm, solver in SOLVER.items():
        for method in ("K_5", solver):
            measured(gaussian((2, 3, 2), 0), method, norm, 60)


def read(path: Path, keys: list[str]) -> dict[tuple, dict]:
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    return {tuple(row[key] for key in keys): row for row in rows}


def write(rows: dict[tuple, dict], path: Path) -> None:
    write_text(pd.DataFrame(rows.values()).to_csv(index=False), path)


# ---------------------------------------------------------------------------- K_5 and the solvers


def solvers(seeds: int = 10) -> None:
    warm_up()
    keys = ["network", "norm", "seed"]
    rows = read(SOLVERS, keys)
    for seed, sizes, norm in itertools.product(range(seeds), SMALL, SOLVER):
        network, key = gaussian(sizes, seed), ("-".join(map(str, sizes)), norm, seed)
        row = rows.setdefault(key, dict(zip(keys, key, strict=True)))
        for column, method in {"K_5": "K_5", "solver": SOLVER[norm]}.items():
            if method == "K_5" or column not in row:
                result = measured(network, method, norm, GENEROUS)
                row |= {column: result["value"], f"{column}_seconds": result["seconds"]}
        write(rows, SOLVERS)
        print(
            *(f"{item:.7g}" if isinstance(item, float) else item for item in row.values()),
            flush=True,
        )
    print(f"\n{summary(pd.DataFrame(rows.values())).to_string()}")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Per network and norm: K_5 / solver, and the medians of the seconds and of their ratio."""
    table = table.assign(
        ratio=table["K_5"] / table["solver"],
        speed=table["solver_seconds"] / table["K_5_seconds"],
    )
    return table.groupby(["network", "norm"], sort=False).agg(
        seeds=("ratio", "count"),
        largest_ratio=("ratio", "max"),
        median_ratio=("ratio", "median"),
        K_5_seconds=("K_5_seconds", "median"),
        solver_seconds=("solver_seconds", "median"),
        solver_over_K_5_seconds=("speed", "median"),
        least_speed=("speed", "min"),
    )


# ---------------------------------------------------------------------------- growing networks


def growth(seconds: int = 60) -> None:
    warm_up()
    rows = {key: row for key, row in read(GROWTH, KEYS).items() if "K_5" not in key}
    for ladder, norm in itertools.product(RUNGS, METHODS):
        for method in METHODS[norm]:
            for size, sizes in RUNGS[ladder].items():
                key = (ladder, norm, method, size)
                if key not in rows:
                    result = measured(gaussian(sizes, 0), method, norm, seconds)
                    rows[key] = dict(zip(KEYS, key, strict=True)) | result
                    write(rows, GROWTH)
                    print(*rows[key].values(), flush=True)
                if method in END and (rows[key]["stopped"] or math.isnan(rows[key]["value"])):
                    break  # a larger one would be stopped or refused as well


# ---------------------------------------------------------------------------- the figure


def figure() -> None:
    """Seconds, and bound / lower bound, against width and depth, a row of panels for each norm."""
    table = pd.read_csv(GROWTH)
    keys = ["ladder", "norm", "size"]
    lower = table[table["method"] == "lower_bound"].set_index(keys)["value"].rename("least")
    table = table.join(lower, on=keys)
    table = table[table["method"].isin(MARKS) & ~(table["stopped"] & table["method"].isin(END))]
    table = table.assign(ratio=table["value"] / table["least"], bound=table["method"])
    table = table.dropna(subset="ratio").sort_values("size")
    with matplotlib.style.context(STYLE):
        drawn, axes = panels(len(METHODS), 4, height=3.0, sharey="none")
        for line, norm in zip(axes, METHODS, strict=True):
            for pair, ladder in zip((line[:2], line[2:]), RUNGS, strict=True):
                draw(pair, table[(table["norm"] == norm) & (table["ladder"] == ladder)], ladder)
                pair[0].set_ylabel(f"{NORMS[norm]}: seconds of CPU time")
                pair[1].set_ylabel(f"{NORMS[norm]}: bound / lower bound")
        handles = [*legend_handles(table), Line2D([], [], **CUBE)]
        if table["stopped"].any():
            look = {"color": "#555555", "marker": "o", "linestyle": "none"}
            handles.append(Line2D([], [], **look, label="filled: stopped by the limit"))
        finish(drawn, axes, handles)
        drawn.suptitle(message(table))
    save(drawn, FIGURE)


def draw(axes, rows: pd.DataFrame, ladder: str) -> None:
    """A line for each method, its markers filled where the limit stopped it."""
    for quantity, ax in zip(("seconds", "ratio"), axes, strict=True):
        for bound, line in by_bound(rows):
            look = MARKS[bound] | {"markersize": 11 if bound in OWN else 5}
            ax.plot(line["size"], line[quantity], **look, mfc="none")
            late = line[line["stopped"]]
            ax.plot(late["size"], late[quantity], **look, linestyle="none")
        ticks = sorted(RUNGS[ladder])
        if ladder == "width":
            ax.set_xscale("log", base=2)
        if (ladder, quantity) == ("width", "seconds"):
            cube(ax, rows[(rows["bound"] == "K_5") & ~rows["stopped"]])
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(AXIS[ladder])
    axes[1].axhline(1, color="black", linewidth=1)


def cube(ax, rows: pd.DataFrame) -> None:
    """A line of slope 3 down from the last of the points, over a factor of 4 in width."""
    size, seconds = rows["size"].max(), rows["seconds"].iloc[-1]
    widths = np.array([size / 4, size])
    ax.plot(widths, seconds * (widths / size) ** 3, **CUBE, zorder=1.5)


def message(table: pd.DataFrame) -> str:
    """In words: how far K_5 and the solver come within the limit, and where K_5 is then."""
    lines = [f"Growing Gaussian ReLU networks: the largest done within {table['limit'].max():g} s"]
    for norm in METHODS:
        words = []
        for ladder in RUNGS:
            rows = table[(table["norm"] == norm) & (table["ladder"] == ladder) & ~table["stopped"]]
            own, other = (rows[rows["bound"] == name] for name in ("K_5", SOLVER[norm]))
            seconds, ratio = (number(own[column].iloc[-1]) for column in ("seconds", "ratio"))
            words.append(
                f"{ladder} {own['size'].max()} ({seconds} s, {ratio} × lower bound), "
                f"{LABELS[SOLVER[norm]]} {other['size'].max()}"
            )
        lines.append(f"{NORMS[norm]}: {LABELS['K_5']} {'; '.join(words)}")
    return "\n".join(lines)


COMMANDS = {"solvers": solvers, "growth": growth, "figure": figure}

if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ONE_THREAD)
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*map(int, sys.argv[2:]))
