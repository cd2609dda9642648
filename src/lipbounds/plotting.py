"""All figures, in one style: tidy table in, matplotlib figure out.

A figure's name begins with the test whose table it draws. A bound has the same colour, marker and
label everywhere; the exact constant is a black line; the panels' columns are the norms. Titles are
computed from the table, so that no figure claims what its data do not show.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullLocator

from lipbounds.errors import LipboundsError
from lipbounds.files import replacing
from lipbounds.tables import with_ratio

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
MARKS = {
    "K_star": {"color": "#D55E00", "marker": "s", "label": "$K_*$ worst case"},
    "K_1": {"color": "#E69F00", "marker": "^", "label": "$K_1$ Combettes–Pesquet"},
    "K_2": {"color": "#CC79A7", "marker": "D", "label": "$K_2$ Virmaux–Scaman"},
    "K_3": {"color": "#009E73", "marker": "v", "label": "$K_3$ absolute values"},
    "K_4": {"color": "#0072B2", "marker": "o", "label": "$K_4$ averaged"},
}
EXACT = {"color": "black", "linewidth": 3, "label": "exact constant"}
SYMBOLS = {name: mark["label"].split()[0] for name, mark in MARKS.items()}
NORMS = {1.0: r"$\ell_1$", 2.0: r"$\ell_2$", math.inf: r"$\ell_\infty$"}
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
RANDOM_AXES = {"depth": "hidden stages", "width": "width", "cell": "hidden stages × width"}
TREATMENTS = ("explicit", "implicit")

STYLE = [
    "default",
    {
        "font.size": 10,
        "axes.titlesize": 11,
        "figure.titlesize": 13,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.4,
        "lines.markersize": 6,
        "legend.frameon": False,
        "legend.columnspacing": 1.4,
        "legend.handletextpad": 0.5,
        "pdf.fonttype": 42,
    },
]
# Values matplotlib would fill in with its version or the time of day.
METADATA = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


def save(figure: Figure, path: Path | str) -> None:
    """Write ``figure`` as .png (200 dpi) or .pdf, all or nothing; same figure, same bytes.

    Raises LipboundsError for any other suffix.
    """
    path = Path(path)
    if path.suffix not in METADATA:
        raise LipboundsError(f"cannot save {path}: the suffix must be one of {list(METADATA)}")
    with matplotlib.style.context(STYLE), replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=200, metadata=METADATA[path.suffix])


def _figure(*columns: str) -> Callable:
    """Decorate ``test<n>_...(rows)``: give it its test's rows, checked, and draw in the style."""
    needed = ["test", "norm", "bound", "value", "lower", *columns]

    def decorate(draw: Callable[[pd.DataFrame], Figure]) -> Callable[[pd.DataFrame], Figure]:
        name = draw.__name__

        @functools.wraps(draw)
        def figure(table: pd.DataFrame) -> Figure:
            missing = [column for column in needed if column not in table.columns]
            if missing:
                raise LipboundsError(f"{name}: the table lacks the columns {missing}")
            rows = table[table["test"] == name.split("_")[0]]
            _require(len(rows) > 0, f"{name}: the table has no rows of {name.split('_')[0]}")
            for column, known in (("bound", MARKS), ("norm", NORMS)):
                strange = sorted(set(rows[column]) - set(known))
                _require(not strange, f"{name}: no way to draw {column} {strange}")
            with matplotlib.style.context(STYLE):
                return draw(rows.reset_index(drop=True))

        return figure

    return decorate


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise LipboundsError(message)


# ---------------------------------------------------------------------------- tests 1 and 2


@_figure("family", "level", "exact")
def test1_bounds(rows: pd.DataFrame) -> Figure:
    """x² and the saw-tooth: every bound against the level, one column per norm."""
    rows = rows[rows["family"].isin(["square", "sawtooth"])]
    _require(len(rows) > 0, "test1_bounds: no rows of the families square and sawtooth")
    return _against_level(rows, "Simplest analytical networks")


@_figure("family", "level", "exact")
def test2_bounds(rows: pd.DataFrame) -> Figure:
    """x³, x⁴ and xy built from squares: every bound against the level, one column per norm."""
    return _against_level(rows, "Polynomials built from squares")


@_figure("family", "level", "exact")
def test1_writings(rows: pd.DataFrame) -> Figure:
    """One function in three writings: K_3 and K_4 against the level.

    For a function of one variable K_3 and K_4 are the same in all norms, so one is drawn.
    """
    rows = rows[rows["family"].isin(WRITINGS) & rows["bound"].isin(["K_3", "K_4"])]
    _require(len(rows) > 0, f"test1_writings: no K_3 or K_4 of the families {list(WRITINGS)}")
    norm = max(rows["norm"])
    rows = rows[rows["norm"] == norm]
    families = [family for family in WRITINGS if family in set(rows["family"])]
    figure, axes = _panels(1, len(families), height=3.2)
    for ax, family in zip(axes[0], families, strict=True):
        _lines(ax, rows[rows["family"] == family])
        ax.set(title=WRITINGS[family], xlabel="level $m$")
    axes[0, 0].set_ylabel(f"Lipschitz bound, {NORMS[norm]}")
    _finish(figure, axes, _handles(rows) + [_exact_handle()])
    k4 = rows[rows["bound"] == "K_4"]
    top = k4[k4["level"] == k4["level"].max()]
    values = ", ".join(_number(v) for v in top.set_index("family")["value"].reindex(families))
    figure.suptitle(
        "The bound sees the network, not the function: the same piecewise linear $x^2$,\n"
        f"$K_4$ = {values} at $m$ = {top['level'].max():g} (exact: {_number(top['exact'].min())})"
    )
    return figure


def _against_level(rows: pd.DataFrame, subject: str) -> Figure:
    _require(rows["exact"].notna().any(), "no row has the exact constant")
    families = [family for family in FAMILIES if family in set(rows["family"])]
    families += sorted(set(rows["family"]) - set(families))
    norms = sorted(rows["norm"].unique())
    figure, axes = _panels(len(families), len(norms))
    for line, family in zip(axes, families, strict=True):
        for ax, norm in zip(line, norms, strict=True):
            _lines(ax, rows[(rows["family"] == family) & (rows["norm"] == norm)])
        line[0].set_ylabel(f"{FAMILIES.get(family, family)}\nLipschitz bound")
    for ax, norm in zip(axes[0], norms, strict=True):
        ax.set_title(NORMS[norm])
    for ax in axes[-1]:
        ax.set_xlabel("level $m$")
    _finish(figure, axes, _handles(rows) + [_exact_handle()])
    figure.suptitle(f"{subject}: {_excess(rows)}")
    return figure


def _lines(ax: Axes, rows: pd.DataFrame) -> None:
    """Each bound, and the exact constant, against the level."""
    exact = rows.dropna(subset="exact").drop_duplicates("level").sort_values("level")
    ax.plot(exact["level"], exact["exact"], marker="_", **EXACT)
    for place, (bound, line) in enumerate(_by_bound(rows)):
        line = line.sort_values("level")
        # Equal bounds stay visible: the later marker is the smaller one.
        ax.plot(line["level"], line["value"], **MARKS[bound], markersize=8 - place, mfc="none")
        _lower_ends(ax.vlines, line["level"], line, bound)
    ax.set_xticks(_thin(sorted(rows["level"].unique())))


def _excess(rows: pd.DataFrame) -> str:
    """In words: how far the best and the worst bound are from the exact constant."""
    over = (rows["value"] / rows["exact"]).groupby(rows["bound"]).max()
    words = []
    if "K_4" in over:
        exact = over["K_4"] < 1 + 1e-9
        far = f"is at most {_number(over['K_4'])} times the exact constant"
        words.append(f"$K_4$ {'lies on the exact constant' if exact else far}")
    if "K_star" in over:
        words.append(f"$K_*$ reaches {_number(over['K_star'])} times it")
    return ", ".join(words)


# ---------------------------------------------------------------------------- test 3


@_figure("distribution", "depth", "width", "sample")
def test3_depth(rows: pd.DataFrame) -> Figure:
    """Random networks: distribution of each bound over K_4 against depth, at two widths."""
    return _ratio_distributions(rows, along="depth", fixed="width")


@_figure("distribution", "depth", "width", "sample")
def test3_width(rows: pd.DataFrame) -> Figure:
    """Random networks: distribution of each bound over K_4 against width, at two depths."""
    return _ratio_distributions(rows, along="width", fixed="depth")


@_figure("distribution", "depth", "width", "sample")
def test3_spread(rows: pd.DataFrame) -> Figure:
    """Random networks: standard deviation of each bound's logarithm against depth, at two widths.

    ln K does not depend on the units of the weights. The bars are one standard error either way,
    s/sqrt(2(n - 1)), as for a normal ln K.
    """
    cells = rows.assign(log=np.log(rows["value"]))
    cells = cells.groupby(["distribution", "norm", "depth", "width", "bound"])["log"]
    cells = cells.agg(["std", "size"]).dropna().reset_index()
    _require(len(cells) > 0, "test3_spread: no cell has two samples, so there is no spread")
    cells["error"] = cells["std"] / np.sqrt(2 * (cells["size"] - 1))

    def draw(ax: Axes, panel: pd.DataFrame, ticks: list) -> None:
        for bound, line in _by_bound(panel):
            at = _places(line["depth"], ticks)
            ax.errorbar(at, line["std"], line["error"], **MARKS[bound], mfc="none", elinewidth=0.9)

    figure = _random_panels(cells, "depth", "width", r"std of $\ln K$", draw)
    spread = cells.pivot(
        index=["distribution", "norm", "depth", "width"], columns="bound", values="std"
    )
    words = [
        f"{_number((spread['K_4'] / spread[bound]).median())} of {SYMBOLS[bound]}"
        for bound, _ in _by_bound(cells)
        if "K_4" in spread and bound != "K_4"
    ]
    figure.suptitle(
        r"Random networks: spread over the samples, the standard deviation of $\ln K$"
        + f"\nthat of $K_4$ is, in the median cell, {', '.join(words)}" * bool(words)
    )
    return figure


@_figure("distribution", "depth", "width", "relaxation_optimum")
def test3_relaxation(rows: pd.DataFrame) -> Figure:
    """Random networks small enough to enumerate: distribution of each bound over D*."""
    rows = rows.dropna(subset="relaxation_optimum")
    _require(len(rows) > 0, "test3_relaxation: no row has a relaxation_optimum")
    rows = rows.assign(
        ratio=rows["value"] / rows["relaxation_optimum"],
        cell=list(zip(rows["depth"].astype(int), rows["width"].astype(int), strict=True)),
    )
    figure = _random_panels(rows, "cell", None, "bound / $D^*$", _boxes("cell"))
    words = [
        f"{_number(rows.loc[rows['bound'] == bound, 'ratio'].max())} for {SYMBOLS[bound]}"
        for bound, _ in _by_bound(rows)
    ]
    figure.suptitle(
        "Random networks, every vertex of the relaxation enumerated:\n"
        f"bound over optimum $D^*$ is at most {', '.join(words)}"
    )
    return figure


def _ratio_distributions(rows: pd.DataFrame, along: str, fixed: str) -> Figure:
    rows = with_ratio(rows)
    rows = rows[rows["bound"] != "K_4"]
    _require(len(rows) > 0, f"test3_{along}: no bound but K_4, nothing to compare it with")
    # Not one scale for all norms: in l2 the ratios fall by decades and would flatten the rest.
    figure = _random_panels(rows, along, fixed, "bound / $K_4$", _boxes(along), sharey="none")
    norm = rows["norm"].max()
    last = rows[rows["norm"] == norm]
    last = last[(last["depth"] == last["depth"].max()) & (last["width"] == last["width"].max())]
    words = [f"{_number(c['ratio'].median())} for {SYMBOLS[b]}" for b, c in _by_bound(last)]
    title = (
        f"Random networks, {last['depth'].max():g} hidden stages of width {last['width'].max():g}, "
        f"{NORMS[norm]}: median bound over $K_4$ is {', '.join(words)}"
    )
    worst = rows[(rows["norm"] == 2) & (rows["bound"] == "K_star")]
    if (worst["ratio"] < 1).any():
        share = f"{100 * (worst['ratio'] < 1).mean():.0f} %"
        title += f"\nbut in {NORMS[2]} $K_4$ exceeds $K_*$ for {share} of all networks"
    figure.suptitle(title)
    return figure


def _random_panels(
    rows: pd.DataFrame,
    along: str,
    fixed: str | None,
    quantity: str,
    draw: Callable[[Axes, pd.DataFrame, list], None],
    sharey: str = "row",
) -> Figure:
    """Rows of panels: distribution and two values of ``fixed``; columns: norms."""
    norms = sorted(rows["norm"].unique())
    ticks = sorted(rows[along].unique())
    values = sorted(rows[fixed].unique()) if fixed else [None]
    shown = sorted({values[(len(values) - 1) // 2], values[-1]}) if fixed else values
    rows = rows[rows[fixed].isin(shown)] if fixed else rows
    lines = [(name, value) for name in sorted(rows["distribution"].unique()) for value in shown]
    figure, axes = _panels(len(lines), len(norms), sharey=sharey)
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
    _finish(figure, axes, _handles(rows))
    return figure


def _boxes(along: str) -> Callable[[Axes, pd.DataFrame, list], None]:
    """Draws per bound: whiskers from 5 to 95 %, box over the quartiles, marker at the median.

    A dotted line joins the medians of a bound and of its own lower end, where it has one.
    """

    def draw(ax: Axes, rows: pd.DataFrame, ticks: list) -> None:
        ax.axhline(1, color="black", linewidth=1)
        groups = _by_bound(rows)
        step = 0.8 / len(groups)
        for place, (bound, group) in enumerate(groups):
            mark = MARKS[bound]
            at = group.groupby(along)["ratio"].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).unstack()
            x = _places(at.index, ticks) + (place - (len(groups) - 1) / 2) * step
            ax.vlines(x, at[0.05], at[0.95], color=mark["color"], linewidth=1)
            heights = at[0.75] - at[0.25]
            ax.bar(x, heights, 0.8 * step, at[0.25], color=mark["color"], alpha=0.45)
            ax.plot(x, at[0.5], **mark, markersize=3, linewidth=0.5)
            lower = (group["ratio"] * group["lower"] / group["value"]).groupby(group[along])
            ax.vlines(x, lower.median(), at[0.5], color=mark["color"], linestyle="dotted")

    return draw


def _places(values, ticks: list) -> np.ndarray:
    return np.array([ticks.index(value) for value in values], float)


def _tick_label(tick) -> str:
    return "×".join(map(str, tick)) if isinstance(tick, tuple) else f"{tick:g}"


# ---------------------------------------------------------------------------- test 4


@_figure("architecture", "treatment", "seed", "lipschitz_lower")
def test4_bounds(rows: pd.DataFrame) -> Figure:
    """MNIST CNNs: bars from the Jacobians' lower bound to K_*, the bounds as markers, all seeds."""
    figure, axes, names = _architecture_panels(rows)
    for ax, (_, panel) in zip(axes[0], rows.groupby("norm"), strict=True):
        for (name, treatment), group in panel.groupby(["architecture", "treatment"]):
            _interval(ax, group, names.index(name) + _shift(treatment), treatment)
    treatments = [t for t in TREATMENTS if t in set(rows["treatment"])]
    marks = [
        Line2D([], [], color="#555555", marker="o", mfc=_face(t, "#555555"), ls="none", label=t)
        for t in treatments
    ]
    lower = Line2D([], [], color="black", marker="|", ls="none", label="sampled lower bound")
    bar = Patch(color="#DDDDDD", label="lower bound to $K_*$")
    _finish(figure, axes, _handles(rows, "none") + [lower, bar, *marks], "x")
    smallest = rows.loc[rows.groupby(["architecture", "seed", "norm"])["value"].idxmin()]
    wins = (smallest["bound"] == "K_4").groupby(smallest["norm"])
    words = [f"{of.sum()} of {len(of)} networks in {NORMS[norm]}" for norm, of in wins]
    figure.suptitle(f"MNIST CNNs: $K_4$ is the smallest upper bound for {', '.join(words)}")
    for ax, norm in zip(axes[0], sorted(rows["norm"].unique()), strict=True):
        ax.set_xlabel(f"Lipschitz constant, {NORMS[norm]}")
    return figure


@_figure("architecture", "treatment", "seed")
def test4_treatments(rows: pd.DataFrame) -> Figure:
    """MNIST CNNs: explicit over implicit treatment, per bound; right of 1 implicit is tighter."""
    key = ["architecture", "seed", "norm", "bound"]
    _require(not rows.duplicated([*key, "treatment"]).any(), "test4: a bound is there twice")
    both = rows.pivot(index=key, columns="treatment", values="value")
    missing = [t for t in TREATMENTS if t not in both.columns]
    _require(not missing, f"test4_treatments: no rows with treatment {missing}")
    ratios = (both["explicit"] / both["implicit"]).rename("ratio").dropna().reset_index()
    _require(len(ratios) > 0, "test4_treatments: no bound has both treatments")
    kept = rows[rows["architecture"].isin(ratios["architecture"])]
    kept = kept[kept["norm"].isin(ratios["norm"])]
    figure, axes, names = _architecture_panels(kept, height=0.75)
    bounds = [bound for bound, _ in _by_bound(ratios)]
    for ax, (norm, panel) in zip(axes[0], ratios.groupby("norm"), strict=True):
        ax.axvline(1, color="black", linewidth=1)
        for place, bound in enumerate(bounds):
            line = panel[panel["bound"] == bound]
            y = _places(line["architecture"], names) + _dodge(place, len(bounds), 0.6)
            ax.plot(line["ratio"], y, **{**MARKS[bound], "linestyle": "none"}, mfc="none")
        ax.set_xlabel(f"explicit / implicit, {NORMS[norm]}")
    _finish(figure, axes, _handles(ratios, "none"), "x")
    k4 = ratios[ratios["bound"] == "K_4"]
    means = np.exp(np.log(k4["ratio"]).groupby(k4["norm"]).mean())
    words = ", ".join(f"{_number(mean)} in {NORMS[norm]}" for norm, mean in means.items())
    figure.suptitle(
        f"MNIST CNNs: $K_4$ explicit over implicit is {words} (geometric means)\n" * bool(words)
        + "left of 1 the explicit treatment is tighter, right of 1 the implicit one"
    )
    return figure


def _architecture_panels(rows: pd.DataFrame, height: float = 1.0):
    """A panel per norm, the architectures down the side in the table's order, with accuracies."""
    names = list(dict.fromkeys(rows["architecture"]))
    labels = names
    if "accuracy" in rows.columns:
        accuracy = 100 * rows.groupby("architecture")["accuracy"].mean()
        labels = [f"{n}\n{accuracy[n]:.2f} %" if accuracy[n] > 0 else n for n in names]
    height = max(2.0, 0.5 + height * len(names))
    figure, axes = _panels(1, rows["norm"].nunique(), height=height, scale="xscale")
    for ax, norm in zip(axes[0], sorted(rows["norm"].unique()), strict=True):
        ax.set(title=NORMS[norm], ylim=(len(names) - 0.5, -0.5))
        ax.set_yticks(range(len(names)), labels)
        ax.grid(False, axis="y")
    return figure, axes, names


def _interval(ax: Axes, rows: pd.DataFrame, y: float, treatment: str) -> None:
    """One bar from lower bound to K_* (geometric means over the seeds), every seed a marker."""
    lower = rows.drop_duplicates("seed")["lipschitz_lower"].dropna()
    star = rows.loc[rows["bound"] == "K_star", "value"]
    if len(lower) and len(star):
        left, right = np.exp(np.log(lower).mean()), np.exp(np.log(star).mean())
        ax.barh(y, right - left, 0.34, left, color="#DDDDDD", zorder=1)
    ax.plot(lower, np.full(len(lower), y), "|", color="black", markersize=9)
    for place, (bound, line) in enumerate(_by_bound(rows)):
        mark = {**MARKS[bound], "linestyle": "none", "mfc": _face(treatment, MARKS[bound]["color"])}
        at = np.full(len(line), y + _dodge(place, len(MARKS), 0.3))
        ax.plot(line["value"], at, **mark, markersize=5)
        _lower_ends(ax.hlines, at, line, bound)


def _shift(treatment: str) -> float:
    return {"explicit": -0.2, "implicit": 0.2}.get(treatment, 0.0)


def _face(treatment: str, color: str) -> str:
    return "none" if treatment == "implicit" else color


def _dodge(place: int, count: int, room: float) -> float:
    return room * ((place + 0.5) / count - 0.5)


# ---------------------------------------------------------------------------- shared parts


def _panels(
    lines: int, columns: int, height: float = 2.3, scale: str = "yscale", sharey: str = "row"
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its (lines, columns) array of axes, logarithmic along ``scale``."""
    width = max(3.6 * columns, 9)  # room for title and legend
    figure = Figure(figsize=(0.8 + width, 1.4 + height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=sharey)
    for ax in axes.flat:
        ax.set(**{scale: "log"})
        # Bars make their ends sticky with a tolerance that is linear, and cut off small values.
        ax.use_sticky_edges = False
    return figure, axes


def _by_bound(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each bound there is, in the order of MARKS."""
    return [(b, rows[rows["bound"] == b]) for b in MARKS if (rows["bound"] == b).any()]


def _lower_ends(draw: Callable, at, rows: pd.DataFrame, bound: str) -> None:
    """A dotted line down to the method's own lower end, where it has one (K_2)."""
    if rows["lower"].notna().any():
        draw(at, rows["lower"], rows["value"], color=MARKS[bound]["color"], linestyle="dotted")


def _handles(rows: pd.DataFrame, linestyle: str = "-") -> list[Line2D]:
    """One legend entry per bound there is, and one for the dotted lines if any can be seen."""
    handles = [
        Line2D([], [], **MARKS[bound], mfc="none", linestyle=linestyle)
        for bound, _ in _by_bound(rows)
    ]
    if "lower" in rows.columns:
        for bound, _ in _by_bound(rows[rows["lower"] < 0.99 * rows["value"]]):
            label = f"{SYMBOLS[bound]}, its lower end"
            color = MARKS[bound]["color"]
            handles.append(Line2D([], [], color=color, linestyle="dotted", label=label))
    return handles


def _exact_handle() -> Line2D:
    return Line2D([], [], **EXACT)


def _finish(figure: Figure, axes: np.ndarray, handles: list, value_axis: str = "y") -> None:
    """Readable ticks on the logarithmic value axes, and one legend below all panels."""
    for ax in axes.flat:
        axis = getattr(ax, f"{value_axis}axis")
        low, high = sorted(getattr(ax, f"get_{value_axis}lim")())
        few = LogLocator(subs=(1, 2, 5)) if high / low < 100 else LogLocator()
        axis.set_major_locator(AutoLocator() if high / low < 8 else few)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    lines = math.ceil(1.85 * len(handles) / figure.get_figwidth())
    columns = math.ceil(len(handles) / lines)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def _thin(levels: list[float]) -> list[float]:
    return levels if len(levels) <= 10 else levels[:: math.ceil(len(levels) / 10)]


def _number(value: float) -> str:
    """Three digits, as a power of ten outside [0.001, 10000)."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    factor = "" if mantissa == "1" else rf"{mantissa}\times"
    return rf"${factor}10^{{{int(exponent)}}}$"


FIGURES = {
    "test1_bounds": test1_bounds,
    "test1_writings": test1_writings,
    "test2_bounds": test2_bounds,
    "test3_depth": test3_depth,
    "test3_width": test3_width,
    "test3_spread": test3_spread,
    "test3_relaxation": test3_relaxation,
    "test4_bounds": test4_bounds,
    "test4_treatments": test4_treatments,
}
