"""Stages: what stands between two affine maps, as the pair (C, R) of docs/theory.md.

For any two inputs, the difference z of a stage's inputs becomes y = C z + e with |e| <= |R z|
entrywise. Slope stages and between stages are such pairs. A pool stage keeps max-pooling whole
(the implicit treatment): it cuts segments, acting as C = 0 with e bounded by the pool of |z|.
"""

from .maxima import BetweenStage, PoolStage, between_tree
from .slopes import SlopeStage, center_and_radius
from .stage import Ends, Stage

__all__ = [
    "BetweenStage",
    "Ends",
    "PoolStage",
    "SlopeStage",
    "Stage",
    "between_tree",
    "center_and_radius",
]
