"""Newton's method on the program of a torus, from where the descent has come."""

from torch import Tensor

from ...clock import now
from ..newton.barrier import Barrier, Path, minimised
from ..order import Pieces
from .elimination import TorusElimination
from .forms import TorusForms
from .proof import proven

GAP = 0.1  # relative, where the descent ended
STEPS = 100


def solved(
    elimination: TorusElimination,
    logs: Tensor,
    pieces: Pieces,
    steps: float,
    tolerance: float,
) -> Tensor:
    """log tau of the least value met, proven where t is raised and at the end, up to a relative
    `tolerance`; stopped by the time as `pieces` count it, or after `steps` steps."""
    forms = TorusForms(elimination)
    start = Barrier(forms).first(forms.theta(logs), GAP)

    def prove(path: Path) -> None:
        began = now()
        pieces.cap(proven(elimination, forms.logs(path.least[0])).expand(len(pieces.uppers)))
        pieces.proof = now() - began

    pieces.clock = now()
    count = int(min(steps, STEPS))
    path = minimised(forms, start, tolerance, pieces.late, count, prove)
    prove(path)
    return forms.logs(path.least[0])
