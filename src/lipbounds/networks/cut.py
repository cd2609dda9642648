"""Networks cut into parts at some of their stages, of which a bound then knows |S| <= |C| + |R|.

Between F_3, which cuts at every stage, and F_4, which cuts at none, lie maps with segments of any
length (docs/theory.md, proposition 25). Short segments of convolutions are sparse and few, so that
they can be had where those of the whole network cannot.
"""

from torch import Tensor

from ..arithmetic.rounding import outward
from .averaged_map import averaged_adjoint, averaged_map
from .network import Network


class Parts:
    """The network cut at every stage whose number `length` divides: no segment has more than
    `length` affine maps. `forward` and `adjoint` are maps as `averaged_map` and `averaged_adjoint`
    are."""

    def __init__(self, network: Network, length: int):
        cuts = range(length, network.depth + 1, length)
        self.terms = network.terms
        self.stages = [network.stages[k - 1] for k in cuts]
        self.parts = [
            Network(network.affines[a:b], network.stages[a : b - 1])
            for a, b in zip([0, *cuts], [*cuts, network.depth + 1], strict=True)
        ]

    def forward(self, network: Network, v: Tensor) -> Tensor:
        """F(v) for v >= 0 of shape (c, n_0), one vector per row; returns (..., c, n_out)."""
        v = averaged_map(self.parts[0], v)
        for stage, part in zip(self.stages, self.parts[1:], strict=True):
            v = averaged_map(part, outward(stage.majorant(v), self.terms))
        return v

    def adjoint(self, network: Network, w: Tensor) -> Tensor:
        """The transposed map at w >= 0 (c, n_out), for networks without implicit pools."""
        w = averaged_adjoint(self.parts[-1], w)
        for stage, part in zip(reversed(self.stages), reversed(self.parts[:-1]), strict=True):
            w = averaged_adjoint(part, outward(stage.majorant_adjoint(w), self.terms))
        return w
