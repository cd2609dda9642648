"""Test 3: distributions of the bounds of random networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..labels import LABELS
from ..tables import with_ratio
from .style import (
    MARKS,
    NORMS,
    OWN,
    by_bound,
    figure_from,
    finish,
    legend_handles,
    number,
    panels,
    places,
    require,
)

RANDOM_AXES = {"depth": "hidden stages", "width": "width", "cell": "hidden stages × width"}


@figure_from("test3", "distribution", "depth", "width", "sample")
def test3_depth(rows: pd.DataFrame) -> Figure:
    """Random networks: distribution of each bound over K_4 against depth, at two widths."""
    return _ratio_distributions(rows, along="depth", fixed="width")


@figure_from("test3", "distribution", "depth", "width", "sample")
def test3_width(rows: pd.DataFrame) -> Figure:
    """Random networks: distribution of each bound over K_4 against width, at two depths."""
    return _ratio_distributions(rows, along="width", fixed="depth")


@figure_from("test3", "distribution", "depth", "width", "sample")
def test3_spread(rows: pd.DataFrame) -> Figure:
    """Random networks: standard deviation of each bound's logarithm against depth, at two widths.

    ln K does not depend on the units of the weights. The bars are one standard error either way,
    s/sqrt(2(n - 1)), as for a normal ln K.
    """
    rows = with_ratio(rows)
    logs = rows.assign(std=np.log(rows["value"]), std_K_4=np.log(rows["K_4"]))
    cells = logs.groupby(["distribution", "norm", "depth", "width", "bound"])
    cells = cells[["std", "std_K_4"]].std().assign(size=cells.size()).dropna().reset_index()
    require(len(cells) > 0, "test3_spread: no cell has two samples, so there is no spread")
    cells["error"] = cells["std"] / np.sqrt(2 * (cells["size"] - 1))

    def draw(ax: Axes, panel: pd.DataFrame, ticks: list) -> None:
        for bound, line in by_bound(panel):
            at = places(line["depth"], ticks)
            ax.errorbar(at, line["std"], line["error"], **MARKS[bound], mfc="none", elinewidth=0.9)

    figure = _random_panels(cells, "depth", "width", r"std of $\ln K$", draw, _samples(rows))
    words = [  # over the same networks
        f"{number((of['std_K_4'] / of['std']).median())} of {LABELS[bound]}"
        for bound, of in by_bound(cells)
        if bound != "K_4"
    ]
    figure.suptitle(
        r"Random networks: spread over the samples, the standard deviation of $\ln K$"
        + f"\nthat of $K_4$ is, in the median cell, {', '.join(words)}" * bool(words)
    )
    return figure


@figure_from("test3", "distribution", "depth", "width", "sample", "relaxation_optimum")
def test3_relaxation(rows: pd.DataFrame) -> Figure:
    """Random networks small enough to enumerate: distribution of each bound over D*."""
    rows = with_ratio(rows).dropna(subset="relaxation_optimum")
    require(len(rows) > 0, "test3_relaxation: no row has a relaxation_optimum")
    rows = rows.assign(
        ratio=rows["value"] / rows["relaxation_optimum"],
        cell=list(zip(rows["depth"].astype(int), rows["width"].astype(int), strict=True)),
    )
    samples = _samples(rows)
    figure = _random_panels(rows, "cell", None, "bound / $D^*$", _boxes("cell"), samples)
    everywhere = rows[~rows["bound"].isin(samples)]
    words = [f"{number(of['ratio'].max())} for {LABELS[b]}" for b, of in by_bound(everywhere)]
    title = (
        "Random networks, every vertex of the relaxation enumerated:\n"
        f"bound over optimum $D^*$ is at most {', '.join(words)}"
    )
    for bound, of in by_bound(rows[rows["bound"].isin(samples)]):
        k4 = (of["K_4"] / of["relaxation_optimum"]).max()
        title += f"\nand {number(of['ratio'].max())} for {LABELS[bound]} on networks where it is "
        title += f"{number(k4)} for $K_4$"
    figure.suptitle(title)
    return figure


def _ratio_distributions(rows: pd.DataFrame, along: str, fixed: str) -> Figure:
    rows = with_ratio(rows)
    samples = _samples(rows)
    rows = rows[rows["bound"] != "K_4"]
    require(len(rows) > 0, f"test3_{along}: no bound but K_4, nothing to compare it with")
    # Not one scale for all norms: in l2 the ratios fall by decades and would flatten the rest.
    figure = _random_panels(
        rows, along, fixed, "bound / $K_4$", _boxes(along), samples, sharey="none"
    )
    norm = rows["norm"].max()
    title = f"Random networks, {NORMS[norm]}, median bound over $K_4$: {_largest_cells(rows, norm)}"
    worst = rows[(rows["norm"] == 2) & (rows["bound"] == "K_star")]
    if (worst["ratio"] < 1).any():
        share = f"{100 * (worst['ratio'] < 1).mean():.0f} %"
        title += f"\nbut in {NORMS[2]} $K_4$ exceeds $K_*$ for {share} of all networks"
    figure.suptitle(title)
    return figure


def _largest_cells(rows: pd.DataFrame, norm: float) -> str:
    """In words: the median ratios in the largest cell, and those of bounds that end before it."""
    rows = rows[rows["norm"] == norm]
    words: dict[tuple, list[str]] = {}
    for bound, of in by_bound(rows):
        size = (of["depth"] * of["width"]).max()
        last = of[of["depth"] * of["width"] == size]
        last = last[last["depth"] == last["depth"].max()]
        cell = last["depth"].max(), last["width"].max()
        words.setdefault(cell, []).append(f"{number(last['ratio'].median())} for {LABELS[bound]}")
    return ";\n".join(
        f"{', '.join(ratios)} at {depth:g} hidden stages of width {width:g}"
        for (depth, width), ratios in words.items()
    )


def _samples(rows: pd.DataFrame) -> dict[str, str]:
    """For bounds of fewer networks per cell than others have: of how many, as a legend says it."""
    sizes = rows.groupby(["distribution", "norm", "depth", "width", "bound"]).size()
    most = sizes.groupby("bound").max()
    return {
        bound: f"{MARKS[bound]['label']}, {count} of {most.max()} networks"
        for bound, count in most[most < most.max()].items()
    }


def _random_panels(
    rows: pd.DataFrame,
    along: str,
    fixed: str | None,
    quantity: str,
    draw: Callable[[Axes, pd.DataFrame, list], None],
    labels: dict[str, str],
    sharey: str = "row",
) -> Figure:
    """Rows of panels: distribution and two values of ``fixed``; columns: norms.

    labels: what the legend says of a bound instead of its label.
    """
    norms = sorted(rows["norm"].unique())
    ticks = sorted(rows[along].unique())
    values = sorted(rows[fixed].unique()) if fixed else [None]
    shown = sorted({values[(len(values) - 1) // 2], values[-1]}) if fixed else values
    rows = rows[rows[fixed].isin(shown)] if fixed else rows
    lines = [(name, value) for name in sorted(rows["distribution"].unique()) for value in shown]
    figure, axes = panels(len(lines), len(norms), sharey=sharey)
    for line, (name, value) in zip(axes, lines, strict=True):
        cell = rows[rows["distribution"] == name]
        cell = cell[cell[fixed] == value] if fixed else cell
        for ax, norm in zip(line, norms, strict=True):
            draw(ax, cell[cell["norm"] == norm], ticks)
            ax.set_xticks(range(len(ticks)), [_tick_label(tick) for tick in ticks])
            ax.grid(False, axis="x")
        line[0].set_ylabel(f"{name}{f', {fixed} {value:g}' if fixed else ''}\n{quantity}")
    for ax, norm in zip(axes[0], norms, strict=True):
        ax.set_title(NORMS[norm])
    for ax in axes[-1]:
        ax.set_xlabel(RANDOM_AXES[along])
    finish(figure, axes, legend_handles(rows, labels=labels))
    return figure


def _boxes(along: str) -> Callable[[Axes, pd.DataFrame, list], None]:
    """Draws per bound: whiskers from 5 to 95 %, box over the quartiles, marker at the median.

    A dotted line joins the medians of a bound and of its own lower end, where it has one.
    """

    def draw(ax: Axes, rows: pd.DataFrame, ticks: list) -> None:
        ax.axhline(1, color="black", linewidth=1)
        groups = by_bound(rows)
        step = 0.8 / len(groups)
        for place, (bound, group) in enumerate(groups):
            mark = MARKS[bound]
            at = group.groupby(along)["ratio"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).unstack()
            x = places(at.index, ticks) + (place - (len(groups) - 1) / 2) * step
            ax.vlines(x, at[0.05], at[0.95], color=mark["color"], linewidth=1)
            heights = at[0.75] - at[0.25]
            ax.bar(x, heights, 0.8 * step, at[0.25], color=mark["color"], alpha=0.45)
            ax.plot(x, at[0.5], **mark, markersize=5 if bound in OWN else 3, linewidth=0.5)
            lower = (group["ratio"] * group["lower"] / group["value"]).groupby(group[along])
            ax.vlines(x, lower.median(), at[0.5], color=mark["color"], linestyle="dotted")

    return draw


def _tick_label(tick) -> str:
    return "×".join(map(str, tick)) if isinstance(tick, tuple) else f"{tick:g}"
