"""Pictures of the bounds and of the inputs' influence, as SVG or in a file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import LipboundsError
from .tables import least_first

WIDTH = 5.2  # inches: of a phone's window the letters can still be read
COLUMNS = 1024  # of a network whose inputs are no image: the most bars that can be told apart
UPPER, LOWER, BETWEEN = "#0072B2", "#000000", "#E8F1F8"
NAMES = {"1": "$\\ell_1$", "2": "$\\ell_2$", "inf": "$\\ell_\\infty$"}
UNIT = "outputs' change in $\\ell_1$\nper unit of one input"


def require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise LipboundsError(
            "pictures need matplotlib, which is not installed; pip install 'lipbounds[studies]'"
        ) from None


def intervals(rows: Sequence[dict], norm: str, lower: float):
    """The figure of the upper bounds in one norm, the least at the top, and of where the constant
    lies."""
    own = [row for row in least_first(rows, norm) if row["upper"] is not None]
    figure = _figure(WIDTH, 0.9 + 0.27 * max(len(own), 1))
    axes = figure.subplots()
    places = range(len(own))
    axes.scatter([row["upper"] for row in own], places, color=UPPER, zorder=3)
    axes.set_yticks(places, [_label(row, own) for row in own])
    axes.invert_yaxis()
    if own and own[-1]["upper"] > 0:
        axes.set_xscale("log")
    if own and lower > 0:
        axes.axvspan(lower, own[0]["upper"], color=BETWEEN, label="the constant lies here")
        axes.axvline(lower, color=LOWER, label="lower bound")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    axes.set_xlabel(f"Lipschitz constant in {NAMES[norm]}: proven upper bounds")
    axes.grid(axis="x", color="0.9")
    return figure


def influence_map(values: Tensor, shape: Sequence[int]):
    """The figure of one bound per input: an image for inputs (c, h, w) or (h, w), the most of its
    channels; else bars."""
    values = values.detach().cpu().numpy().reshape(shape)
    if values.ndim == 3 and min(values.shape[1:]) > 1:
        values = values.max(0)
    image = values.ndim == 2 and min(values.shape) > 1
    figure = _figure(WIDTH, 3.9 if image else 2.8)
    axes = figure.subplots()
    if image:
        drawn = axes.imshow(values, cmap="magma", vmin=0)
        figure.colorbar(drawn, label=UNIT)
        axes.set(xlabel="column", ylabel="row")
    else:
        flat = values.ravel()
        width = -(-len(flat) // COLUMNS)
        starts = np.arange(0, len(flat), width)
        axes.bar(starts, np.maximum.reduceat(flat, starts), 0.8 * width, align="edge")
        axes.set(xlabel="input", ylabel=UNIT, ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("Which inputs move the outputs:\nproven upper bounds (K_4)")
    return figure


def saved(figure, path: Path) -> None:
    """Raises LipboundsError for a kind of file that matplotlib does not write."""
    kind = path.suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise LipboundsError(f"{path}: pictures are written as .png, .svg or .pdf")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise LipboundsError(f"{path} cannot be written: {error.strerror}") from None


def _figure(width: float, height: float):
    require_matplotlib()
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def _label(row: dict, rows: Sequence[dict]) -> str:
    """The method's name, with the treatment where both are there."""
    both = sum(other["method"] == row["method"] for other in rows) > 1
    return f"{row['method']} ({row['treatment']})" if both else row["method"]


def svg(figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()
