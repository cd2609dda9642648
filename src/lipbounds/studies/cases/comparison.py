"""The untrained networks of numerical test 5, as the configuration describes them."""

from collections.abc import Mapping

from ...errors import LipboundsError
from ...networks.network import Network
from .analytic import CASES
from .random import gaussian


def build(described: Mapping, seed: int) -> Network:
    """{"family": "square", "level": 3}: an analytical network. {"sizes": [6, 16, 16, 3]}: a random
    one, drawn from `seed`. Raises LipboundsError for any other description."""
    match described:
        case {"sizes": sizes, **rest} if not rest:
            return gaussian(sizes, seed)
        case {"family": family, "level": level, **rest} if family in CASES and not rest:
            return CASES[family].builder(level)
    raise LipboundsError(
        f"unknown network {dict(described)!r}; give sizes ([6, 16, 16, 3]), or a family, one of "
        f"{', '.join(CASES)}, and a level (3)"
    )
