"""The commands. Exit codes: 0 done, 2 a mistake in the command or a file that cannot be read, 3 a
layer that no bound covers, 4 nothing fitted in the time."""

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import LipboundsError, UnsupportedError
from ..frontends.equality import Imported
from ..methods.registry import PAPER, registered
from ..networks.network import Network
from ..truth.run import lower_bound
from .budget import ALL, Outcome, run, tasks
from .description import estimates, layers
from .loading import loaded

UNREADABLE, UNSUPPORTED, NOTHING = 2, 3, 4
LOWER_SHARE = 0.1  # of the time, for the lower bound in each norm
NORMS = {"1": 1.0, "2": 2.0, "inf": math.inf}

app = typer.Typer(
    help="How much can this network's output move? Proven upper bounds of its Lipschitz constant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Model = Annotated[Path, typer.Argument(help="An .onnx, .npz, .npy, .mat, .pt2, .pt or .pth file.")]
Norms = Annotated[
    list[str] | None, typer.Option("--norm", help="1, 2 or inf; may be repeated. All by default.")
]
Shape = Annotated[
    str | None, typer.Option(help="Of one input, as 3,32,32, where the file leaves it open.")
]
Logits = Annotated[bool, typer.Option(help="Leave out a softmax at the end.")]
Activation = Annotated[str, typer.Option(help="Between the matrices of an .npz or .mat file.")]
Trust = Annotated[
    bool, typer.Option(help="Load a .pt2 or a pickled module, which may run any code.")
]


def main() -> None:
    app()


@app.command()
def bounds(
    model: Model,
    norm: Norms = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A bound's name, 'all' or 'paper'; may be repeated."),
    ] = None,
    time: Annotated[float, typer.Option(min=0.0, help="Seconds for all of it.")] = 60.0,
    shape: Shape = None,
    logits: Logits = False,
    activation: Activation = "relu",
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Upper bounds by several methods, the quickest first, beside a lower bound.

    Example: lipbounds bounds network.onnx --norm inf --time 60
    """
    norms, names = _norms(norm), _methods(method or ["all"])
    network = _loaded(model, shape, logits, activation, trust).network
    console = Console(stderr=True)
    with console.status("lower bounds") as status:
        lower = {p: _lower(network, p, LOWER_SHARE * time / len(norms)) for p in norms}
        planned, outcomes = tasks(network, names, norms), []
        left = time * (1 - LOWER_SHARE)
        for outcome in run(network, planned, left):
            outcomes.append(outcome)
            following = planned[len(outcomes)] if len(outcomes) < len(planned) else None
            if following is not None:
                status.update(f"{following.name} in l{following.norm:g}")
    rows = _rows(outcomes, lower)
    if as_json:
        print(json.dumps({"model": str(model), "lower": _named(lower), "bounds": rows}, indent=2))
    elif as_csv:
        print(_csv(rows), end="")
    else:
        _print_table(rows, lower)
    if not any(row["upper"] is not None for row in rows):
        _end(NOTHING, f"nothing fitted in {time:g} s; give it more by --time")


@app.command()
def inspect(
    model: Model,
    norm: Norms = None,
    shape: Shape = None,
    logits: Logits = False,
    activation: Activation = "relu",
    trust: Trust = False,
) -> None:
    """The network as affine maps and stages, and what each method would take.

    Example: lipbounds inspect network.onnx
    """
    norms = _norms(norm)
    found = _loaded(model, shape, logits, activation, trust)
    network, console = found.network, Console()
    inputs = network.input_shape or (network.input_size,)
    shown = " x ".join(map(str, inputs))
    console.print(f"inputs {shown}, outputs {network.output_size}, stages {network.depth}")
    if found.difference is not None:
        console.print(f"differs from the file's outputs by {found.difference:.1e} of the largest")
    table = Table("map or stage", "size", "", box=None)
    for row in layers(network):
        table.add_row(*map(escape, row))
    console.print(table)
    for p in norms:
        costs = Table("method", f"estimate in l{p:g}", box=None)
        for row in estimates(network, p):
            costs.add_row(*row)
        console.print(costs)


def _norms(given: Sequence[str] | None) -> list[float]:
    unknown = [one for one in given or () if one not in NORMS]
    if unknown:
        raise typer.BadParameter(f"norm {unknown[0]!r} is none of 1, 2, inf")
    return [NORMS[one] for one in dict.fromkeys(given or NORMS)]


def _methods(given: Sequence[str]) -> list[str]:
    names = []
    for one in given:
        names += {"all": ALL, "paper": PAPER}.get(one, (one,))
    try:
        return [registered(name).name for name in dict.fromkeys(names)]
    except UnsupportedError as error:
        raise typer.BadParameter(str(error)) from None


def _loaded(model, shape, logits, activation, trust) -> Imported:
    try:
        sizes = None if shape is None else [int(part) for part in shape.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--shape {shape!r} must be whole numbers: 3,32,32") from None
    try:
        return loaded(model, sizes, logits, activation, trust)
    except UnsupportedError as error:
        _end(UNSUPPORTED, str(error))
    except LipboundsError as error:
        _end(UNREADABLE, str(error))


def _lower(network: Network, norm: float, seconds: float) -> float:
    try:
        return lower_bound(network, norm, seconds=seconds).lower
    except LipboundsError:
        return 0.0


def _end(code: int, message: str):
    print(f"lipbounds: {message}", file=sys.stderr)
    raise typer.Exit(code)


def _rows(outcomes: Sequence[Outcome], lower: dict[float, float]) -> list[dict]:
    rows = []
    for outcome in outcomes:
        task, found = outcome.task, outcome.found
        upper = None if found is None else found.upper
        ratio = upper / lower[task.norm] if upper is not None and lower[task.norm] > 0 else None
        rows.append(
            {
                "norm": f"{task.norm:g}",
                "method": task.name,
                "treatment": task.treatment,
                "upper": upper,
                "ratio": ratio,
                "seconds": None if found is None else found.seconds,
                "status": "left out" if found is None else str(found.status),
                "reason": outcome.reason,
            }
        )
    return rows


def _named(lower: dict[float, float]) -> dict[str, float]:
    return {f"{norm:g}": value for norm, value in lower.items()}


def _csv(rows: Sequence[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["norm"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _print_table(rows: Sequence[dict], lower: dict[float, float]) -> None:
    console = Console()
    for norm, least in _named(lower).items():
        table = Table("method", "treatment", "upper bound", "/ lower", "s", "status", box=None)
        own = [row for row in rows if row["norm"] == norm]
        for row in sorted(own, key=lambda row: row["upper"] or math.inf):
            upper = "-" if row["upper"] is None else _rounded(row["upper"], ROUND_CEILING)
            shown = ["-" if row[x] is None else f"{row[x]:.3g}" for x in ("ratio", "seconds")]
            ended = row["reason"] or row["status"]
            table.add_row(row["method"], row["treatment"], upper, *shown, escape(ended))
        console.print(f"\nl{norm}: the constant is at least {_rounded(least, ROUND_FLOOR)}")
        console.print(table)


def _rounded(value: float, direction: str) -> str:
    """With six digits, still a bound."""
    return f"{float(Context(prec=6, rounding=direction).plus(Decimal(value))):.6g}"
