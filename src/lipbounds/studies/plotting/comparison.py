"""Test 5: every method on the same networks, tightness against time and against size.

Tightness is the bound over the best proven lower bound of the same network and norm. Of a network's
two treatments the one with the smaller bound counts, with its own time.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..labels import LABELS
from .style import (
    KIND_MARKS,
    NORMS,
    OWN,
    by_bound,
    figure_from,
    finish,
    number,
    panels,
    require,
    thin,
)

COLUMNS = ("case", "family", "seconds", "lipschitz_lower")
LETTERS = 36  # in a line of a panel's title
RATIO = "bound / lower bound"
SECONDS = "seconds of CPU time"
CLOCK = 1e-6  # no time below it can be told from zero
BEYOND = 30  # times the largest median: points above would flatten the rest
FRONT = {"color": "#777777", "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 1.5}


@figure_from("test5", *COLUMNS)
def test5_pareto(rows: pd.DataFrame) -> Figure:
    """Bound over lower bound against seconds, a panel per norm, with the front of the medians.

    Medians go over all networks of the panel: a network on which a method gave no value counts as
    infinitely loose and slow, so that no method gains by refusing the hard ones. A method without
    a value on half of the networks has no such median; its hollow marker is at the median of those
    it finished, and it is not on the front.
    """
    rows = _tightness(rows[rows["family"] == "networks"], "test5_pareto")
    norms = sorted(rows["norm"].unique())
    figure, axes = panels(1, len(norms), height=4.6)
    medians = {norm: _medians(rows[rows["norm"] == norm]) for norm in norms}
    top = BEYOND * pd.concat(medians.values())["ratio_done"].max()
    seconds = rows.loc[np.isfinite(rows["seconds"]), "seconds"]
    for ax, norm in zip(axes[0], norms, strict=True):
        panel = rows[rows["norm"] == norm]
        _time_axis(ax, seconds.min() / 2, seconds.max() * 2)
        _points(ax, panel, top)
        _large_markers(ax, medians[norm], panel["case"].nunique())
        _front(ax, medians[norm])
        ax.set_title(
            _front_named(medians[norm], f"{NORMS[norm]}, {panel['case'].nunique()} networks")
        )
    axes[0, 0].set_ylabel(RATIO)
    finish(figure, axes, [*_handles(rows, linestyle="none"), *_pareto_handles()])
    figure.suptitle(_tightest(medians))
    return figure


@figure_from("test5", *COLUMNS, "width", "depth")
def test5_growth(rows: pd.DataFrame) -> Figure:
    """Bound over lower bound, and seconds, as Gaussian networks grow in width and in depth.

    A line ends where the method gives no value. l1, the mirror image of l-infinity, is left out
    unless it is the only norm.
    """
    rows = _tightness(rows[rows["family"].isin(["width", "depth"])], "test5_growth")
    norms = sorted(set(rows["norm"]) - {1.0}) or [1.0]
    rows = rows[rows["norm"].isin(norms)]
    ladders = [ladder for ladder in ("width", "depth") if ladder in set(rows["family"])]
    columns = [(norm, ladder) for norm in norms for ladder in ladders]
    figure, axes = panels(2, len(columns), height=3.0)
    for place, (norm, ladder) in enumerate(columns):
        panel = rows[(rows["norm"] == norm) & (rows["family"] == ladder)]
        _ladder(axes[:, place], panel, ladder)
        axes[0, place].set_title(f"{NORMS[norm]}, {_fixed(panel, ladder)}")
    axes[0, 0].set_ylabel(RATIO)
    axes[1, 0].set_ylabel(SECONDS)
    finish(figure, axes, _handles(rows, mfc="none"))
    words = [_largest(rows[rows["norm"] == norms[-1]], ladder) for ladder in ladders]
    figure.suptitle(f"Growing Gaussian networks, {NORMS[norms[-1]]}\n" + "\n".join(words))
    return figure


def _tightness(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row per network, norm and bound; ratio and seconds infinite where there is no value."""
    require(len(rows) > 0, f"{name}: the table has no rows of its families")
    lower = rows["lipschitz_lower"]
    require((lower > 0).all(), f"{name}: a row has no positive lipschitz_lower to compare with")
    rows = rows.assign(ratio=rows["value"] / lower, seconds=rows["seconds"].clip(lower=CLOCK))
    require(rows["value"].notna().any(), f"{name}: no method has a value on any network")
    rows.loc[rows["value"].isna(), ["ratio", "seconds"]] = math.inf
    rows = rows.sort_values("ratio", kind="stable")
    return rows.drop_duplicates(["family", "case", "norm", "bound"]).sort_index()


# ---------------------------------------------------------------------------- the Pareto front


def _medians(panel: pd.DataFrame) -> pd.DataFrame:
    """Per bound with a value: the networks ``done``, and the geometric medians of ratio and seconds
    over all networks (infinite if half of them have no value) and over those done (``*_done``).
    """
    networks = panel["case"].nunique()
    lines = {}
    for bound, of in by_bound(panel):
        done = of.loc[np.isfinite(of["ratio"]), ["ratio", "seconds"]]
        without = pd.DataFrame(math.inf, range(networks - len(done)), done.columns)
        if len(done):
            median, of_done = (
                _geometric_median(some) for some in (pd.concat([done, without]), done)
            )
            lines[bound] = {**median, **of_done.add_suffix("_done"), "done": len(done)}
    columns = ["ratio", "seconds", "ratio_done", "seconds_done", "done"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns).astype(float)


def _geometric_median(some: pd.DataFrame) -> pd.Series:
    return np.exp(np.log(some).median())


def _pareto(medians: pd.DataFrame) -> pd.DataFrame:
    """The methods that no other one beats in both medians, from the fastest to the tightest."""
    finite = medians[np.isfinite(medians["ratio"])].sort_values(["seconds", "ratio"])
    return finite[finite["ratio"] < finite["ratio"].cummin().shift(fill_value=math.inf)]


def _points(ax: Axes, panel: pd.DataFrame, top: float) -> None:
    """One for each network and method; those above ``top`` lie on it."""
    for bound, of in by_bound(panel):
        look = {**KIND_MARKS[bound], "linestyle": "none", "markeredgewidth": 0}
        done = of[np.isfinite(of["ratio"])]
        ax.plot(done["seconds"], done["ratio"].clip(upper=top), **look, markersize=4, alpha=0.35)


def _large_markers(ax: Axes, medians: pd.DataFrame, networks: int) -> None:
    """Filled over all networks, hollow over those done; in the corner how many, if not all."""
    for bound, median in medians.iterrows():
        over_all = math.isfinite(median["ratio"])
        suffix = "" if over_all else "_done"
        at = median[f"seconds{suffix}"], median[f"ratio{suffix}"]
        color = KIND_MARKS[bound]["color"]
        face = {"mfc": color, "mec": "white"} if over_all else {"mfc": "white", "mec": color}
        size = {"markersize": 14, "zorder": 4} if bound in OWN else {"markersize": 10, "zorder": 3}
        ax.plot(*at, **KIND_MARKS[bound], **face, **size)
    partly = medians[medians["done"] < networks]
    lines = [f"{LABELS[bound]} {done:.0f}" for bound, done in partly["done"].items()]
    if lines:
        text = "\n".join([f"a value on, of {networks}:", *lines])
        ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", fontsize=8)


def _front(ax: Axes, medians: pd.DataFrame) -> None:
    """A step line to the right and down: what is attained in that time."""
    ax.axhline(1, color="black", linewidth=1)
    front, end = _pareto(medians), ax.get_xlim()[1]
    if len(front):
        x, y = [*front["seconds"], end], [*front["ratio"], front["ratio"].iloc[-1]]
        ax.plot(x, y, drawstyle="steps-post", **FRONT)


def _front_named(medians: pd.DataFrame, panel: str) -> str:
    *labels, last = [LABELS[bound] for bound in _pareto(medians).index] or [""]
    return "\n".join([panel, *_lines(["front:", *(f"{label}," for label in labels), last])])


def _lines(words: list[str]) -> list[str]:
    """Of at most LETTERS each, as they are shown: mathematics without its marks."""
    lines = [words[:1]]
    for word in words[1:]:
        shown = re.sub(r"[$_^]", "", " ".join([*lines[-1], word]))
        lines += [[]] if len(shown) > LETTERS else []
        lines[-1].append(word)
    return [" ".join(line) for line in lines]


def _tightest(medians: dict[float, pd.DataFrame]) -> str:
    """In words: the tightest method of each norm, and K_4 and K_5 beside it."""
    fronts = {norm: _pareto(of) for norm, of in medians.items()}
    fronts = {norm: front for norm, front in fronts.items() if len(front)}
    if not fronts:
        return "Bound over lower bound against time"
    names = [f"{LABELS[front.index[-1]]} in {NORMS[norm]}" for norm, front in fronts.items()]
    lines = [f"Smallest median bound: {', '.join(names)}"]
    for bound in ("K_4", "K_5"):
        over = [
            medians[norm].loc[bound] / front.iloc[-1]
            for norm, front in fronts.items()
            if bound in medians[norm].index and math.isfinite(medians[norm].loc[bound, "ratio"])
        ]
        looser = ", ".join(number(of["ratio"]) for of in over)
        faster = ", ".join(number(1 / of["seconds"]) for of in over)
        if over:
            lines.append(f"{LABELS[bound]} is {looser} times as large and {faster} times as fast")
    return ";\n".join(lines)


def _pareto_handles() -> list[Line2D]:
    look = {"color": "#555555", "linestyle": "none", "marker": "o"}
    return [
        Line2D([], [], **look, markersize=4, alpha=0.35, label="one network"),
        Line2D([], [], **look, markersize=9, label="median of all networks"),
        Line2D(
            [], [], **look, markersize=9, mfc="white", label="of those finished, if half or less"
        ),
        Line2D([], [], **FRONT, label="Pareto front of medians"),
    ]


# ---------------------------------------------------------------------------- growth


def _rungs(panel: pd.DataFrame, ladder: str) -> dict[str, pd.DataFrame]:
    """Per bound the medians over the networks of each rung, NaN where it has none."""
    rungs = {rung: _medians(of) for rung, of in panel.groupby(ladder)}
    table = pd.concat(rungs).replace(math.inf, math.nan)
    return {b: table.xs(b, level=1).reindex(rungs) for b in table.index.unique(1)}


def _ladder(axes: np.ndarray, panel: pd.DataFrame, ladder: str) -> None:
    for bound, line in _rungs(panel, ladder).items():
        for ax, quantity in zip(axes, ("ratio", "seconds"), strict=True):
            ax.plot(line.index, line[quantity], **KIND_MARKS[bound], mfc="none")
    ticks = thin(sorted(panel[ladder].unique()))
    for ax in axes:
        if ladder == "width":
            ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0].axhline(1, color="black", linewidth=1)
    axes[1].set_xlabel({"width": "width", "depth": "hidden stages"}[ladder])


def _fixed(panel: pd.DataFrame, ladder: str) -> str:
    """What stays the same on a ladder, if one number says it."""
    other = {"width": "depth", "depth": "width"}[ladder]
    values = panel[other].dropna().unique()
    return f"growing {ladder}" + (f", {other} {values[0]:g}" if len(values) == 1 else "")


def _largest(rows: pd.DataFrame, ladder: str) -> str:
    """In words: K_4, K_5 and the tightest method on a ladder's last rung."""
    rows = rows[rows["family"] == ladder]
    last = rows[ladder].max()
    medians = _medians(rows[rows[ladder] == last])
    tightest = _pareto(medians).index[-1:]
    words = [
        f"{LABELS[bound]} is {number(medians.loc[bound, 'ratio'])} times the lower bound "
        f"after {number(medians.loc[bound, 'seconds'])} s"
        for bound in dict.fromkeys(["K_4", "K_5", *tightest])
        if bound in medians.index and math.isfinite(medians.loc[bound, "ratio"])
    ]
    return f"{ladder} {last:g}: {', '.join(words) or 'no method has a value'}"


# ---------------------------------------------------------------------------- shared parts


def _handles(rows: pd.DataFrame, **look) -> list[Line2D]:
    done = rows[np.isfinite(rows["ratio"])]
    return [Line2D([], [], **KIND_MARKS[bound], **look) for bound, _ in by_bound(done)]


def _time_axis(ax: Axes, start: float, end: float) -> None:
    ax.set(xscale="log", xlim=(start, end), xlabel=SECONDS)
    ax.xaxis.set_major_locator(LogLocator(numticks=7))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
