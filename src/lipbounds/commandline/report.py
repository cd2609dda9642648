"""One self-contained page of HTML about a network: its bounds, its inputs' influence, its form."""

import base64
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

from ..errors import LipboundsError
from ..frontends.equality import Imported
from ..networks.network import Network
from .budget import influenced
from .description import inputs_of, layers
from .pictures import influence_map, intervals, svg
from .tables import above, below, least_first, shown


def page(
    name: str,
    found: Imported,
    rows: Sequence[dict],
    lower: dict[str, float],
    seconds: float,
) -> str:
    """The report of the network in the file `name`; rows and lower as `tables` has them; seconds:
    for the influence of the inputs."""
    network = found.network
    shape = inputs_of(network)
    picture, reason = _influence(network, shape, seconds)
    template = Environment(autoescape=True).from_string(
        (files(__package__) / "report.html").read_text(encoding="utf-8")
    )
    return template.render(
        name=name,
        inputs=" x ".join(map(str, shape)),
        outputs=network.output_size,
        stages=network.depth,
        difference=found.difference,
        norms=[_norm(norm, rows, least) for norm, least in lower.items()],
        map=picture,
        mapless=reason,
        channels=shape[0] if len(shape) == 3 and shape[0] > 1 else None,
        layers=layers(network),
        version=version("lipbounds"),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    )


def written(text: str, path: Path) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LipboundsError(f"{path} cannot be written: {error.strerror}") from None


def _norm(norm: str, rows: Sequence[dict], least: float) -> dict:
    """What the page says in one norm."""
    own = least_first(rows, norm)
    best = own[0] if own and own[0]["upper"] is not None else None
    if best is None:
        sentence = (
            f"In l{norm} no method ended in its time; the constant is at least {below(least)}."
        )
    else:
        sentence = (
            f"In l{norm} the output moves at most {above(best['upper'])} times as far as the input "
            f"({best['method']}), and at least {below(least)} times for some inputs."
        )
    about = f"Proven upper bounds in l{norm} by method, and the lower bound"
    picture = _image(svg(intervals(rows, norm, least)), about)
    return {"norm": norm, "sentence": sentence, "picture": picture, "rows": list(map(shown, own))}


def _influence(network: Network, shape: Sequence[int], seconds: float) -> tuple[dict | None, str]:
    """The picture, or why there is none."""
    try:
        values = influenced(network, None, seconds)
    except LipboundsError as error:
        return None, str(error)
    return _image(svg(influence_map(values, shape)), "A bound of the influence of each input"), ""


def _image(drawn: str, about: str) -> dict:
    """An address that holds the picture, and what it shows in words."""
    data = base64.b64encode(drawn.encode()).decode()
    return {"address": f"data:image/svg+xml;base64,{data}", "about": about}
