"""What all figures share: marks of the bounds, style, panels, legend, numbers, saving.

A bound has the same marker everywhere, and the same colour and label in tests 1 to 4, where few are
compared. In test 5, with all of them, the colour tells the kind of a method: KIND_MARKS. This
project's own bound has a colour of its own in all of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullLocator

from ...errors import LipboundsError
from ..files import replacing
from ..labels import LABELS

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
BLUE, GREEN, VERMILLION, PINK, ORANGE = "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00"
VIOLET = "#9400D3"  # not in it, but as far from each of them as they are from each other
PAPER = {
    "K_star": {"color": VERMILLION, "marker": "s"},
    "K_1": {"color": ORANGE, "marker": "^"},
    "K_2": {"color": PINK, "marker": "D"},
    "K_3": {"color": GREEN, "marker": "v"},
    "K_4": {"color": BLUE, "marker": "o"},
}
OWN = {"K_5": {"color": VIOLET, "marker": "*"}}
CHEAP = {
    "path_norm": {"color": GREEN, "marker": "<"},
    "liplt": {"color": GREEN, "marker": ">"},
    "norm_equivalence": {"color": GREEN, "marker": "p"},
    "best": {"color": GREEN, "marker": "H"},
}
SEMIDEFINITE = {
    "eclipse_fast": {"color": VERMILLION, "marker": "d"},
    "eclipse": {"color": VERMILLION, "marker": "h"},
    "lipsdp_layer": {"color": VERMILLION, "marker": "X"},
    "lipsdp_neuron": {"color": VERMILLION, "marker": "P"},
    "geolip": {"color": VERMILLION, "marker": (4, 1, 0)},
}
LINEAR_PROGRAM = {"lipopt": {"color": PINK, "marker": "8"}}
TRUTH = {"D_star": {"color": "black", "marker": "o"}, "exact": {"color": "black", "marker": "s"}}
LOOKS = PAPER | OWN | CHEAP | SEMIDEFINITE | LINEAR_PROGRAM | TRUTH
KNOWN_AS = {  # beside the label, where few are compared
    "K_star": "worst case",
    "K_1": "Combettes–Pesquet",
    "K_2": "Virmaux–Scaman",
    "K_3": "absolute values",
    "K_4": "averaged",
    "K_5": "this project's",
}
MARKS = {
    name: {**look, "label": f"{LABELS[name]} {KNOWN_AS.get(name, '')}".rstrip()}
    for name, look in LOOKS.items()
}
# All in one picture: the paper's bounds in one colour, too.
KIND_MARKS = {name: {**look, "label": LABELS[name]} for name, look in LOOKS.items()}
KIND_MARKS |= {name: {**KIND_MARKS[name], "color": BLUE} for name in PAPER}
EXACT = {"color": "black", "linewidth": 3, "label": "exact constant"}
NORMS = {1.0: r"$\ell_1$", 2.0: r"$\ell_2$", math.inf: r"$\ell_\infty$"}

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


FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {}  # all of them, by their names


def figure_from(test: str, *columns: str) -> Callable:
    """Put ``draw(rows)`` among FIGURES: with the rows of ``test``, checked, and in the style."""
    needed = ["test", "norm", "bound", "value", "lower", *columns]

    def decorate(draw: Callable[[pd.DataFrame], Figure]) -> Callable[[pd.DataFrame], Figure]:
        name = draw.__name__

        @functools.wraps(draw)
        def figure(table: pd.DataFrame) -> Figure:
            missing = [column for column in needed if column not in table.columns]
            if missing:
                raise LipboundsError(f"{name}: the table lacks the columns {missing}")
            rows = table[table["test"] == test]
            require(len(rows) > 0, f"{name}: the table has no rows of {test}")
            for column, known in (("bound", MARKS), ("norm", NORMS)):
                strange = sorted(set(rows[column]) - set(known))
                require(not strange, f"{name}: no way to draw {column} {strange}")
            with matplotlib.style.context(STYLE):
                return draw(rows.reset_index(drop=True))

        FIGURES[name] = figure
        return figure

    return decorate


def require(holds: bool, message: str) -> None:
    if not holds:
        raise LipboundsError(message)


def places(values, ticks: list) -> np.ndarray:
    return np.array([ticks.index(value) for value in values], float)


def dodge(place: int, count: int, room: float) -> float:
    return room * ((place + 0.5) / count - 0.5)


def panels(
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


def by_bound(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each bound there is, in the order of MARKS."""
    return [(b, rows[rows["bound"] == b]) for b in MARKS if (rows["bound"] == b).any()]


def lower_ends(draw: Callable, at, rows: pd.DataFrame, bound: str) -> None:
    """A dotted line down to the method's own lower end, where it has one (K_2)."""
    if rows["lower"].notna().any():
        draw(at, rows["lower"], rows["value"], color=MARKS[bound]["color"], linestyle="dotted")


def legend_handles(
    rows: pd.DataFrame, linestyle: str = "-", labels: Mapping[str, str] | None = None
) -> list[Line2D]:
    """One legend entry per bound there is, and one for the dotted lines if any can be seen.

    labels: of bounds that need another one than MARKS has.
    """
    marks = {bound: MARKS[bound] for bound, _ in by_bound(rows)}
    marks |= {b: {**marks[b], "label": label} for b, label in (labels or {}).items() if b in marks}
    handles = [Line2D([], [], **mark, mfc="none", linestyle=linestyle) for mark in marks.values()]
    if "lower" in rows.columns:
        for bound, _ in by_bound(rows[rows["lower"] < 0.99 * rows["value"]]):
            label = f"{LABELS[bound]}, its lower end"
            color = MARKS[bound]["color"]
            handles.append(Line2D([], [], color=color, linestyle="dotted", label=label))
    return handles


def exact_handle() -> Line2D:
    return Line2D([], [], **EXACT)


def finish(figure: Figure, axes: np.ndarray, handles: list, value_axis: str = "y") -> None:
    """Readable ticks on the logarithmic value axes, and one legend below all panels."""
    for ax in axes.flat:
        axis = getattr(ax, f"{value_axis}axis")
        low, high = sorted(getattr(ax, f"get_{value_axis}lim")())
        few = LogLocator(subs=(1, 2, 5)) if high / low < 100 else LogLocator()
        axis.set_major_locator(AutoLocator() if high / low < 8 else few)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    inches = sum(max(1.85, 0.5 + 0.07 * len(handle.get_label())) for handle in handles)
    lines = math.ceil(inches / figure.get_figwidth())
    columns = math.ceil(len(handles) / lines)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def thin(levels: list[float]) -> list[float]:
    return levels if len(levels) <= 10 else levels[:: math.ceil(len(levels) / 10)]


def number(value: float) -> str:
    """Three digits, as a power of ten outside [0.001, 10000)."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    factor = "" if mantissa == "1" else rf"{mantissa}\times"
    return rf"${factor}10^{{{int(exponent)}}}$"
