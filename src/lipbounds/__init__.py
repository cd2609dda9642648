"""lipbounds: how much can a network's output move? Proven upper bounds of Lipschitz constants."""

from . import bounds as _bounds
from .activations import ACTIVATIONS, Activation
from .bounds import BOUNDS, Bound, bound, sensitivity
from .convert import from_torch
from .errors import LipboundsError, UnsupportedError
from .network import Network
from .rewrite import explicit

bounds = _bounds.bounds
from_weights = Network.from_weights

__all__ = [
    "ACTIVATIONS",
    "BOUNDS",
    "Activation",
    "Bound",
    "LipboundsError",
    "Network",
    "UnsupportedError",
    "bound",
    "bounds",
    "explicit",
    "from_torch",
    "from_weights",
    "sensitivity",
]
