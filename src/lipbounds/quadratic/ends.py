"""The multiplier of the last block, which is settled for each point of the central path."""

from torch import Tensor


def settled(least: Tensor, t: Tensor, copies: Tensor | float = 1.0) -> Tensor:
    """The h > `least` (k,) with sum copies / (h - least) = t, which minimises
    t h - sum copies log(h - least); by Newton's method from the left on a convex decreasing
    function."""
    h = least.max() + 1 / t
    for _ in range(60):
        p = 1 / (h - least)
        h = h + ((copies * p).sum() - t) / (copies * p.square()).sum()
    return h
