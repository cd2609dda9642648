"""lipbounds: how much can a network's output move? Proven upper bounds of Lipschitz constants."""

from . import bounds as _bounds
from .activations import ACTIVATIONS, Activation
from .bounds import BOUNDS, Bound, bound, sensitivity
from .comparison import compare
from .convert import from_torch
from .errors import LipboundsError, UnsupportedError
from .network import Network
from .results import LowerBound
from .rewrite import explicit
from .truth import exact, lower_bound, relaxation_optimum

bounds = _bounds.bounds
from_weights = Network.from_weights

__all__ = [
    "ACTIVATIONS",
    "BOUNDS",
    "Activation",
    "Bound",
    "LipboundsError",
    "LowerBound",
    "Network",
    "UnsupportedError",
    "bound",
    "bounds",
    "compare",
    "exact",
    "explicit",
    "from_torch",
    "from_weights",
    "lower_bound",
    "relaxation_optimum",
    "sensitivity",
]
