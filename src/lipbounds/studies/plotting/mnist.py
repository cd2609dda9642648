"""Test 4: bounds of the CNNs trained on MNIST, in both treatments."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..labels import LABELS
from .style import (
    MARKS,
    NORMS,
    by_bound,
    dodge,
    figure_from,
    finish,
    legend_handles,
    lower_ends,
    number,
    panels,
    places,
    require,
)

TREATMENTS = ("explicit", "implicit")


@figure_from("test4", "architecture", "treatment", "seed", "lipschitz_lower")
def test4_bounds(rows: pd.DataFrame) -> Figure:
    """MNIST CNNs: bars from the Jacobians' lower bound to K_*, the bounds as markers, all seeds."""
    figure, axes, names = _architecture_panels(rows)
    for ax, (_, panel) in zip(axes[0], rows.groupby("norm"), strict=True):
        for (name, treatment), group in panel.groupby(["architecture", "treatment"]):
            y = names.index(name) + _shift(treatment)
            _interval(ax, group, y, treatment, rows["bound"].nunique())
    treatments = [t for t in TREATMENTS if t in set(rows["treatment"])]
    marks = [
        Line2D([], [], color="#555555", marker="o", mfc=_face(t, "#555555"), ls="none", label=t)
        for t in treatments
    ]
    lower = Line2D([], [], color="black", marker="|", ls="none", label="sampled lower bound")
    bar = Patch(color="#DDDDDD", label="lower bound to $K_*$")
    finish(figure, axes, legend_handles(rows, "none") + [lower, bar, *marks], "x")
    figure.suptitle(_smallest(rows))
    for ax, norm in zip(axes[0], sorted(rows["norm"].unique()), strict=True):
        ax.set_xlabel(f"Lipschitz constant, {NORMS[norm]}")
    return figure


@figure_from("test4", "architecture", "treatment", "seed")
def test4_treatments(rows: pd.DataFrame) -> Figure:
    """MNIST CNNs: explicit over implicit treatment, per bound; right of 1 implicit is tighter."""
    key = ["architecture", "seed", "norm", "bound"]
    require(not rows.duplicated([*key, "treatment"]).any(), "test4: a bound is there twice")
    both = rows.pivot(index=key, columns="treatment", values="value")
    missing = [t for t in TREATMENTS if t not in both.columns]
    require(not missing, f"test4_treatments: no rows with treatment {missing}")
    ratios = (both["explicit"] / both["implicit"]).rename("ratio").dropna().reset_index()
    require(len(ratios) > 0, "test4_treatments: no bound has both treatments")
    kept = rows[rows["architecture"].isin(ratios["architecture"])]
    kept = kept[kept["norm"].isin(ratios["norm"])]
    figure, axes, names = _architecture_panels(kept, height=0.75)
    bounds = [bound for bound, _ in by_bound(ratios)]
    for ax, (norm, panel) in zip(axes[0], ratios.groupby("norm"), strict=True):
        ax.axvline(1, color="black", linewidth=1)
        for place, bound in enumerate(bounds):
            line = panel[panel["bound"] == bound]
            y = places(line["architecture"], names) + dodge(place, len(bounds), 0.6)
            ax.plot(line["ratio"], y, **{**MARKS[bound], "linestyle": "none"}, mfc="none")
        ax.set_xlabel(f"explicit / implicit, {NORMS[norm]}")
    finish(figure, axes, legend_handles(ratios, "none"), "x")
    k4 = ratios[ratios["bound"] == "K_4"]
    means = np.exp(np.log(k4["ratio"]).groupby(k4["norm"]).mean())
    words = ", ".join(f"{number(mean)} in {NORMS[norm]}" for norm, mean in means.items())
    figure.suptitle(
        f"MNIST CNNs: $K_4$ explicit over implicit is {words} (geometric means)\n" * bool(words)
        + "left of 1 the explicit treatment is tighter, right of 1 the implicit one"
    )
    return figure


def _smallest(rows: pd.DataFrame) -> str:
    """In words: which bound is the smallest most often, and how much larger K_4 is than that."""
    key = ["architecture", "seed", "norm"]
    smallest = rows.loc[rows.groupby(key)["value"].idxmin()].set_index(key)
    k4 = rows[rows["bound"] == "K_4"].groupby(key)["value"].min()
    logs = np.log(k4 / smallest["value"]).groupby("norm").mean()
    words, larger = [], []
    for norm, of in smallest["bound"].groupby("norm"):
        (bound, wins), *_ = of.value_counts().items()
        words.append(f"{LABELS[bound]} {wins} of {len(of)} times in {NORMS[norm]}")
        larger.append(number(np.exp(logs[norm])))
    title = f"MNIST CNNs, the smallest upper bound of a network: {', '.join(words)}"
    times = f"\n$K_4$ is {', '.join(larger)} times as large (geometric means)"
    return title + times * bool(len(k4))


def _architecture_panels(rows: pd.DataFrame, height: float = 1.0):
    """A panel per norm, the architectures down the side in the table's order, with accuracies."""
    names = list(dict.fromkeys(rows["architecture"]))
    labels = names
    if "accuracy" in rows.columns:
        accuracy = 100 * rows.groupby("architecture")["accuracy"].mean()
        labels = [f"{n}\n{accuracy[n]:.2f} %" if accuracy[n] > 0 else n for n in names]
    height = max(2.0, 0.5 + height * len(names))
    figure, axes = panels(1, rows["norm"].nunique(), height=height, scale="xscale")
    for ax, norm in zip(axes[0], sorted(rows["norm"].unique()), strict=True):
        ax.set(title=NORMS[norm], ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), labels)
        ax.grid(False, axis="y")
    return figure, axes, names


def _interval(ax: Axes, rows: pd.DataFrame, y: float, treatment: str, bounds: int) -> None:
    """One bar from lower bound to K_* (geometric means over the seeds), every seed a marker."""
    lower = rows.drop_duplicates("seed")["lipschitz_lower"].dropna()
    star = rows.loc[rows["bound"] == "K_star", "value"]
    if len(lower) and len(star):
        left, right = np.exp(np.log(lower).mean()), np.exp(np.log(star).mean())
        ax.barh(y, right - left, 0.34, left, color="#DDDDDD", zorder=1)
    ax.plot(lower, np.full(len(lower), y), "|", color="black", markersize=9)
    for place, (bound, line) in enumerate(by_bound(rows)):
        mark = {**MARKS[bound], "linestyle": "none", "mfc": _face(treatment, MARKS[bound]["color"])}
        at = np.full(len(line), y + dodge(place, bounds, 0.3))
        ax.plot(line["value"], at, **mark, markersize=5)
        lower_ends(ax.hlines, at, line, bound)


def _shift(treatment: str) -> float:
    return {"explicit": -0.2, "implicit": 0.2}.get(treatment, 0.0)


def _face(treatment: str, color: str) -> str:
    return "none" if treatment == "implicit" else color
