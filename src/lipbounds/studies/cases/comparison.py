"""The untrained networks of numerical test 5, by name."""

import re

from ...errors import LipboundsError
from ...networks.network import Network
from .analytic import CASES
from .random import gaussian


def build(name: str, seed: int) -> Network:
    """ "square_level3": a family of the analytical networks at a level. "gaussian_6-16-16-3": a
    random network of these sizes, drawn from `seed`. Raises LipboundsError for any other name."""
    if found := re.fullmatch(r"gaussian_(\d+(?:-\d+)+)", name):
        return gaussian([int(size) for size in found[1].split("-")], seed)
    found = re.fullmatch(r"(\w+)_level(\d+)", name)
    if found is None or found[1] not in CASES:
        raise LipboundsError(
            f"unknown network {name!r}; take gaussian_<sizes> (gaussian_6-16-16-3) or one of "
            f"{', '.join(CASES)} with a level (square_level3)"
        )
    return CASES[found[1]].builder(int(found[2]))
