"""The commands. Exit codes: 0 done, 2 a mistake in the command or a file that cannot be read, 3 a
layer that no bound covers, 4 nothing fitted in the time."""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..clock import OutOfTime
from ..errors import LipboundsError, OutOfMemory, UnsupportedError
from ..frontends.equality import Imported
from ..methods.registry import PAPER, registered
from ..methods.sensitivity import sensitivity as moved
from ..networks.activations import ACTIVATIONS
from ..networks.network import Network
from ..truth.run import lower_bound
from . import pictures, report, tables
from .budget import ALL, Task, influenced, run, tasks
from .description import estimates, inputs_of, layers
from .loading import loaded
from .memory import memory_limited, refusals_named

UNREADABLE, UNSUPPORTED, NOTHING = 2, 3, 4
LOWER_SHARE = 0.1  # of the time, for the lower bounds
MAP_SHARE = 0.1  # of the time, for the influence of the inputs in a report
FIRST = 10  # inputs that are listed
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
    memory: Annotated[
        float | None, typer.Option(min=0.0, help="GiB that it may take, on Linux.")
    ] = None,
    shape: Shape = None,
    logits: Logits = False,
    activation: Activation = "relu",
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write a page with tables and pictures: report.html.")
    ] = None,
) -> None:
    """Upper bounds by several methods, the quickest first, beside a lower bound.

    Example: lipbounds bounds network.onnx --norm inf --time 60 --out report.html
    """
    norms, names = _norms(norm), _methods(method or ["all"])
    if not any(p in registered(name).norms for name in names for p in norms):
        raise typer.BadParameter(f"--method {', '.join(names)} is not defined in these norms")
    _check_out(out, (".html", ".htm"))
    left = time * (1 - LOWER_SHARE - (MAP_SHARE if out else 0))
    with _mistakes(), memory_limited(memory):
        imported = _loaded(model, shape, logits, activation, trust)
        network, console = imported.network, Console(stderr=True)
        with console.status("lower bounds") as status:
            lower = {p: _lower(network, p, LOWER_SHARE * time / len(norms)) for p in norms}

            def begun(task: Task) -> None:
                status.update(f"{task.name} in l{task.norm:g}")

            planned = tasks(network, names, norms)
            outcomes = list(run(network, planned, left, memory, begun))
    rows, least = tables.rows_of(outcomes, lower), tables.named(lower)
    if as_json:
        print(json.dumps({"model": str(model), "lower": least, "bounds": rows}, indent=2))
    elif as_csv:
        print(tables.as_csv(rows), end="")
    else:
        tables.printed(rows, least)
    if out is not None:
        with _mistakes():
            report.written(report.page(model.name, imported, rows, least, MAP_SHARE * time), out)
    if not any(row["upper"] is not None for row in rows):
        _end(NOTHING, f"nothing fitted in {time:g} s; give it more by --time")


@app.command()
def sensitivity(
    model: Model,
    radius: Annotated[float, typer.Option(min=0.0, help="By which every input may move.")] = 1.0,
    output: Annotated[
        list[int] | None, typer.Option(help="Its number, from 0; may be repeated. All by default.")
    ] = None,
    method: Annotated[str, typer.Option(help="K_4, at once, or K_5, less and slower.")] = "K_4",
    time: Annotated[float, typer.Option(min=0.0, help="Seconds for all of it.")] = 60.0,
    shape: Shape = None,
    logits: Logits = False,
    activation: Activation = "relu",
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Draw the influence of each input: map.png.")
    ] = None,
) -> None:
    """How far each output can move, and which inputs move the outputs.

    Example: lipbounds sensitivity network.onnx --radius 0.01 --out map.png
    """
    _check_out(out, (".png", ".svg", ".pdf"))
    if method not in ("K_4", "K_5"):
        raise typer.BadParameter(f"--method {method!r} must be K_4 or K_5")
    network = _loaded(model, shape, logits, activation, trust).network
    inputs = inputs_of(network)
    with _mistakes():
        eps = torch.full((network.input_size,), radius, dtype=torch.float64)
        values = influenced(network, output, time / 2)
        outputs = moved(network, eps, method, seconds=time / 2).tolist()
        if out is not None:
            pictures.saved(pictures.influence_map(values, inputs), out)
    wanted = output or range(len(outputs))
    if as_json:
        found = {"radius": radius, "outputs": {j: outputs[j] for j in wanted}}
        print(json.dumps(found | {"influence": values.reshape(inputs).tolist()}, indent=2))
        return
    table = Table("output", f"moves at most ({method})", box=None)
    for j in wanted:
        table.add_row(str(j), tables.above(outputs[j]))
    greatest = Table("input", "moves them by, per unit (K_4)", box=None)
    for i in values.argsort(descending=True)[:FIRST].tolist():
        place = ", ".join(str(int(k)) for k in np.unravel_index(i, inputs))
        greatest.add_row(place, tables.above(float(values[i])))
    console = Console()
    console.print(f"each input moves by {radius:g} at most; the outputs:")
    console.print(table)
    console.print(f"\none input moves alone; the {min(FIRST, len(values))} that matter most:")
    console.print(greatest)


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
    shown = " x ".join(map(str, inputs_of(network)))
    console.print(f"inputs {shown}, outputs {network.output_size}, stages {network.depth}")
    if found.difference is not None and math.isnan(found.difference):
        console.print("not compared: the file's outputs are not finite at the inputs tried")
    elif found.difference is not None:
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
    if activation not in ACTIVATIONS:
        raise typer.BadParameter(
            f"--activation {activation!r} must be one of {', '.join(sorted(ACTIVATIONS))}"
        )
    try:
        sizes = None if shape is None else [int(part) for part in shape.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--shape {shape!r} must be whole numbers: 3,32,32") from None
    with _mistakes():
        return loaded(model, sizes, logits, activation, trust)


def _check_out(out: Path | None, kinds: Sequence[str]) -> None:
    """Before anything is computed."""
    if out is None:
        return
    if out.suffix.lower() not in kinds:
        raise typer.BadParameter(f"--out {out} must end in one of {', '.join(kinds)}")
    if not out.absolute().parent.is_dir():
        raise typer.BadParameter(f"--out {out}: there is no folder {out.absolute().parent}")
    with _mistakes():
        pictures.require_matplotlib()


@contextmanager
def _mistakes():
    """What the package refuses ends the command with its sentence and its code."""
    try:
        with refusals_named():
            yield
    except OutOfTime as error:
        _end(NOTHING, f"{error}; give it more by --time")
    except OutOfMemory:
        _end(NOTHING, "there is not memory enough for the network itself; give it more by --memory")
    except UnsupportedError as error:
        _end(UNSUPPORTED, str(error))
    except LipboundsError as error:
        _end(UNREADABLE, str(error))


def _lower(network: Network, norm: float, seconds: float) -> float:
    with suppress(LipboundsError), refusals_named():
        return lower_bound(network, norm, seconds=seconds).lower
    return 0.0


def _end(code: int, message: str):
    print(f"lipbounds: {message}", file=sys.stderr)
    raise typer.Exit(code)
