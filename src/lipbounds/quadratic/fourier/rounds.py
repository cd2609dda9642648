"""The descent on a torus in rounds, each twice as long as the last and ending with a proof; or one
round, and then Newton's method."""

import math

from torch import Tensor

from ...clock import left, limited, now
from ..adam import FIRST_GAP
from ..order import Pieces
from .descent import RATE, descend
from .elimination import TorusElimination
from .programs import solved
from .proof import proven

FIRST_STEPS = 25  # of the first round
CALMER, NARROWER, LEAST_GAP = 0.5, 0.1, 0.03  # rate and first gap, times that from round to round


def improved(
    elimination: TorusElimination,
    pieces: Pieces,
    proof: float,
    steps: float,
    gain: float,
    newton: float,
) -> Tensor:
    """log tau of the least value, after `steps` steps at most, or once a round gains less than the
    share `gain`. proof: seconds that one takes, an estimate; they are kept back until it is known.
    newton: seconds that Newton's method takes; where they are left after the first round, it is
    what follows."""
    logs, least = elimination.start(), math.inf
    count, rate, gap = 0, RATE, FIRST_GAP
    while True:
        began = now()
        value = proven(elimination, logs)
        pieces.proof = proof = now() - began
        pieces.cap(value.expand(len(pieces.uppers)))
        if not float(value) < (1 - gain) * least and count or steps <= 0 or left() <= proof:
            return logs
        if count and left() >= newton:
            return solved(elimination, logs, pieces, steps, gain / 10)
        least = float(value)
        count = int(min(2 * count or FIRST_STEPS, steps))
        with limited(left() - proof):
            logs = descend(elimination, logs, count, rate, gap)
        steps, rate, gap = steps - count, rate * CALMER, max(gap * NARROWER, LEAST_GAP)
