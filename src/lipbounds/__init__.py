"""lipbounds: how much can a network's output move? Proven upper bounds of Lipschitz constants."""

from .comparison import compare
from .errors import LipboundsError, UnsupportedError
from .frontends.modules import from_torch
from .frontends.onnx_files import from_onnx
from .frontends.programs import from_exported
from .methods.influence import influence
from .methods.registry import BOUNDS
from .methods.run import bound, bounds
from .methods.sensitivity import sensitivity
from .networks.activations import ACTIVATIONS, Activation
from .networks.network import Network
from .networks.rewrite import explicit
from .results import Bound, Status
from .truth.run import exact, lower_bound, relaxation_optimum

from_weights = Network.from_weights

__all__ = [
    "ACTIVATIONS",
    "BOUNDS",
    "Activation",
    "Bound",
    "LipboundsError",
    "Network",
    "Status",
    "UnsupportedError",
    "bound",
    "bounds",
    "compare",
    "exact",
    "explicit",
    "from_exported",
    "from_onnx",
    "from_torch",
    "from_weights",
    "influence",
    "lower_bound",
    "relaxation_optimum",
    "sensitivity",
]
