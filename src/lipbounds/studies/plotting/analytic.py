"""Tests 1 and 2: bounds of the analytical networks against their level."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..labels import LABELS
from .style import (
    EXACT,
    MARKS,
    NORMS,
    by_bound,
    exact_handle,
    figure_from,
    finish,
    legend_handles,
    lower_ends,
    number,
    panels,
    require,
    thin,
)

EQUAL = 1e-6  # more than what K_5's optimiser leaves
FAMILIES = {
    "square": "$x^2$",
    "sawtooth": "saw-tooth",
    "cube": "$x^3$",
    "fourth": "$x^4$",
    "product": "$xy$",
}
WRITINGS = {
    "square": "tent $1-R(2x-1)-R(1-2x)$,\ncarry $R(s)$",
    "square_shifted_tent": r"tent $2R(x)-4R(x-\frac{1}{2})$," + "\ncarry $R(s)$",
    "square_split_carry": "tent $1-R(2x-1)-R(1-2x)$,\ncarry $R(s)-R(-s)$",
}


@figure_from("test1", "family", "level", "exact")
def test1_bounds(rows: pd.DataFrame) -> Figure:
    """x² and the saw-tooth: every bound against the level, one column per norm."""
    rows = rows[rows["family"].isin(["square", "sawtooth"])]
    require(len(rows) > 0, "test1_bounds: no rows of the families square and sawtooth")
    return _against_level(rows, "Simplest analytical networks")


@figure_from("test2", "family", "level", "exact")
def test2_bounds(rows: pd.DataFrame) -> Figure:
    """x³, x⁴ and xy built from squares: every bound against the level, one column per norm."""
    return _against_level(rows, "Polynomials built from squares")


@figure_from("test1", "family", "level", "exact")
def test1_writings(rows: pd.DataFrame) -> Figure:
    """One function in three writings: K_3, K_4 and K_5 against the level.

    For a function of one variable each of them is the same in all norms, so one is drawn.
    """
    rows = rows[rows["family"].isin(WRITINGS) & rows["bound"].isin(["K_3", "K_4", "K_5"])]
    require(len(rows) > 0, f"test1_writings: no K_3, K_4 or K_5 of the families {list(WRITINGS)}")
    norm = max(rows["norm"])
    rows = rows[rows["norm"] == norm]
    families = [family for family in WRITINGS if family in set(rows["family"])]
    figure, axes = panels(1, len(families), height=3.2)
    for ax, family in zip(axes[0], families, strict=True):
        _lines(ax, rows[rows["family"] == family])
        ax.set(title=WRITINGS[family], xlabel="level $m$")
    axes[0, 0].set_ylabel(f"Lipschitz bound, {NORMS[norm]}")
    finish(figure, axes, legend_handles(rows) + [exact_handle()])
    top = rows[rows["level"] == rows["level"].max()]
    words = [
        f"{LABELS[bound]} = {', '.join(map(number, of.set_index('family')['value'][families]))}"
        for bound, of in by_bound(top[top["bound"] != "K_3"])
    ]
    figure.suptitle(
        "The bound sees the network, not the function: the same piecewise linear $x^2$, at "
        f"$m$ = {top['level'].max():g}\n"
        f"{' and '.join(words)} (exact: {number(top['exact'].min())})"
    )
    return figure


def _against_level(rows: pd.DataFrame, subject: str) -> Figure:
    require(rows["exact"].notna().any(), "no row has the exact constant")
    families = [family for family in FAMILIES if family in set(rows["family"])]
    families += sorted(set(rows["family"]) - set(families))
    norms = sorted(rows["norm"].unique())
    figure, axes = panels(len(families), len(norms))
    for line, family in zip(axes, families, strict=True):
        for ax, norm in zip(line, norms, strict=True):
            _lines(ax, rows[(rows["family"] == family) & (rows["norm"] == norm)])
        line[0].set_ylabel(f"{FAMILIES.get(family, family)}\nLipschitz bound")
    for ax, norm in zip(axes[0], norms, strict=True):
        ax.set_title(NORMS[norm])
    for ax in axes[-1]:
        ax.set_xlabel("level $m$")
    finish(figure, axes, legend_handles(rows) + [exact_handle()])
    figure.suptitle(f"{subject}:\n{_excess(rows)}")
    return figure


def _lines(ax: Axes, rows: pd.DataFrame) -> None:
    """Each bound, and the exact constant, against the level."""
    exact = rows.dropna(subset="exact").drop_duplicates("level").sort_values("level")
    ax.plot(exact["level"], exact["exact"], marker="_", **EXACT)
    for place, (bound, line) in enumerate(by_bound(rows)):
        line = line.sort_values("level")
        # Equal bounds stay visible: the later marker is the smaller one.
        ax.plot(
            line["level"], line["value"], **MARKS[bound], markersize=max(8 - place, 2), mfc="none"
        )
        lower_ends(ax.vlines, line["level"], line, bound)
    ax.set_xticks(thin(sorted(rows["level"].unique())))


def _excess(rows: pd.DataFrame) -> str:
    """In words: how far the best bounds and the worst one are from the exact constant."""
    over = (rows["value"] / rows["exact"]).groupby(rows["bound"]).max()
    best = over[over.index.isin(["K_4", "K_5"])]
    words = []
    if len(best) and (best < 1 + EQUAL).all():
        verb = "lies" if len(best) == 1 else "lie"
        names = " and ".join(LABELS[bound] for bound in best.index)
        words.append(f"{names} {verb} on the exact constant")
    elif len(best):
        factors = [f"{LABELS[bound]} is at most {number(of)}" for bound, of in best.items()]
        words.append(f"{', '.join(factors)} times the exact constant")
    if "K_star" in over:
        words.append(f"$K_*$ reaches {number(over['K_star'])} times it")
    return ", ".join(words)
