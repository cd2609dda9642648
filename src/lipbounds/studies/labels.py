"""What figures and tables call a bound: mathematics between dollar signs."""

import re

from ..methods.registry import BOUNDS

TRUTH = {"exact": "exact", "D_star": "$D^*$"}
LABELS = {name: method.label for name, method in BOUNDS.items()} | TRUTH


def plain(label: str) -> str:
    """The label where there is no mathematics: "K_*", "D*"."""
    return re.sub(r"[$^]", "", label)
