"""The descent in rounds, each twice as long as the one before and ending with a proof: stopped by
the clock after any of them, it has done what a longer time begins with."""

from ...clock import left, limited, now
from ...networks.network import Network
from ..form import Multipliers
from ..order import Pieces
from .descent import descend
from .proof import certified_pieces

FIRST_STEPS = 25  # of the first round
GAIN = 0.01  # of a round, relative, below which there is no next one


def together(
    network: Network, norm: float, pieces: Pieces, start: Multipliers, proof: float, steps: float
) -> Multipliers:
    """Multipliers that all pieces share, after `steps` at most. proof: seconds that one takes, an
    estimate; they are kept back until it is known."""
    found, least, count = start, float("inf"), FIRST_STEPS
    pieces.pace, pieces.proof = 0.0, proof
    while steps > 0 and not pieces.over:
        found, values = _round(network, norm, pieces, found, int(min(count, steps)))
        value = float(values.max())
        steps, count = steps - count, 2 * count
        if not value < (1 - GAIN) * least:
            break
        least = value
    return found


def alone(network: Network, norm: float, pieces: Pieces, shared: Multipliers, proof: float) -> None:
    """Each piece's own, the greatest first, a round as long as it is the greatest, until one gains
    little."""
    own, counts = {}, {}
    pieces.pace, pieces.proof = 0.0, proof
    while (opened := pieces.greatest(1)) is not None:
        chosen, before = int(opened[1]), float(pieces.uppers[opened])
        count = int(
            min(counts.get(chosen, FIRST_STEPS), pieces.steps - pieces.spent[opened].item())
        )
        start = own.get(chosen, shared)
        own[chosen], _ = _round(network, norm, pieces, start, count, opened[1])
        counts[chosen] = 2 * count
        pieces.spent[opened] += count
        pieces.waiting[opened] = float(pieces.uppers[opened]) < (1 - GAIN) * before
        pieces.stalled[opened] = not pieces.waiting[opened]


def _round(network, norm, pieces: Pieces, start: Multipliers, steps: int, chosen=None):
    """The multipliers after a descent, and what they prove of each piece."""
    with limited(left() - pieces.proof):
        found = descend(network, norm, start, chosen, steps=steps)
    began = now()
    values = certified_pieces(network, norm, found)
    pieces.proof = now() - began
    pieces.cap(values)
    return found, values
