"""How far each output can move when every input has a radius of its own."""

import torch
from torch import Tensor

from ..errors import LipboundsError, UnsupportedError
from ..network import Network
from ..rewrite import scaled_inputs
from ..rounding import finite
from .averaged import averaged_map
from .ellipsoidal import ellipsoidal_rows

OPTIONS = {"K_4": (), "K_5": ("seconds", "progress", "steps")}


def sensitivity(network: Network, eps, name: str = "K_4", **options) -> Tensor:
    """Upper bounds of |f_i(x) - f_i(x')| over all |x_j - x'_j| <= eps_j.

    eps: radii >= 0, shape (n_0,) or `input_shape`, in the inputs' units. name: "K_4" for F_4(eps),
    in milliseconds; "K_5" for the least sqrt(mu nu) of each output (docs/k5.md) that is
    proven within its options `seconds` (60) and `steps`, never above F_4's, the less of both
    treatments; progress(elapsed seconds, bounds) is called with better ones.
    Returns (n_out,), (S, n_out) for an ensemble, in the outputs' units. Raises LipboundsError for
    radii that do not fit, UnsupportedError for another name or option.
    """
    radii = _checked(network, eps)
    if name not in OPTIONS:
        raise UnsupportedError(f"sensitivity has no {name!r}; it has {', '.join(OPTIONS)}")
    for option in options:
        if option not in OPTIONS[name]:
            has = ", ".join(OPTIONS[name]) or "none"
            raise UnsupportedError(f"{name} has no option {option!r}; it has {has}")
    with torch.no_grad():
        if name == "K_4":
            return averaged_map(network, radii.unsqueeze(0)).squeeze(-2)
        moved = ellipsoidal_rows(scaled_inputs(network, radii), **options)
    return finite(moved, f"the sensitivity by {name}")


def _checked(network: Network, eps) -> Tensor:
    radii = torch.as_tensor(eps, dtype=torch.float64, device=network.device).reshape(-1)
    if len(radii) != network.input_size:
        raise LipboundsError(f"{len(radii)} radii for {network.input_size} inputs")
    if not bool((torch.isfinite(radii) & (radii >= 0)).all()):
        raise LipboundsError("radii must be finite and not negative")
    return radii
