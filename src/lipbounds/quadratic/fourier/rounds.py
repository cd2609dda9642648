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


class Rounds:
    """log tau of the least value so far, and where the next round begins. proof: seconds that one
    takes, an estimate; they are kept back until it is known."""

    def __init__(self, elimination: TorusElimination, pieces: Pieces, proof: float):
        self.elimination, self.pieces, self.proof = elimination, pieces, proof
        self.logs, self.least = elimination.start(), math.inf
        self.value: float | None = None  # proven, of the logs
        self.taken, self.count, self.rate, self.gap = 0, 0, RATE, FIRST_GAP

    def improved(self, steps: float, gain: float, newton: float) -> Tensor:
        """log tau after `steps` steps at most, those of earlier calls with them, or once a round
        gains less than the share `gain`; nothing is lost where OutOfTime ends it. newton: seconds
        that Newton's method takes, infinite for none; where they are left after the first round, it
        is what follows.
        """
        while True:
            value = self._proven()
            settled = self.count and not value < (1 - gain) * self.least
            if settled or self.taken >= steps or left() <= self.proof:
                return self.logs
            if self.count and newton < math.inf and left() >= newton:
                more = steps - self.taken
                return solved(self.elimination, self.logs, self.pieces, more, gain / 10)
            self._descended(int(min(2 * self.count or FIRST_STEPS, steps - self.taken)))

    def _proven(self) -> float:
        if self.value is None:
            began = now()
            value = proven(self.elimination, self.logs)
            self.pieces.proof = self.proof = now() - began
            self.pieces.cap(value.expand(len(self.pieces.uppers)))
            self.value = float(value)
        return self.value

    def _descended(self, count: int) -> None:
        with limited(left() - self.proof):
            self.logs = descend(self.elimination, self.logs, count, self.rate, self.gap)
        self.least, self.value, self.count = self.value, None, count
        self.taken += count
        self.rate, self.gap = self.rate * CALMER, max(self.gap * NARROWER, LEAST_GAP)
