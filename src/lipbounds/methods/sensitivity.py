"""How far each output can move when each input moves by its own radius at most."""

import math

import torch
from torch import Tensor

from ..arguments import breakdown_reported, check_network
from ..arithmetic.rounding import finite
from ..clock import limited
from ..errors import LipboundsError, UnsupportedError
from ..networks.averaged_map import averaged_map
from ..networks.network import Network, real_tensor
from ..networks.rewrite import scaled_inputs
from ..networks.scaling import balanced
from .ellipsoidal import ellipsoidal_rows
from .registry import told
from .run import checked


def sensitivity(network: Network, eps, name: str = "K_4", **options) -> Tensor:
    """Upper bounds of |f_i(x) - f_i(x')| over all |x_j - x'_j| <= eps_j.

    eps: radii >= 0, shape (n_0,) or `input_shape`, in the inputs' units. name: "K_4" for F_4(eps),
    in milliseconds; "K_5" for the least sqrt(mu nu) of each output (docs/k5.md) that is proven
    within its options `seconds` (60), `steps` and `memory`, never above F_4's, the less of both
    treatments; progress(elapsed seconds, bounds) is called with better ones. K_4 takes `seconds`
    too, and raises LipboundsError where it would need more.
    Returns (n_out,), (S, n_out) for an ensemble, in the outputs' units. Raises LipboundsError for
    radii that do not fit, UnsupportedError for another name or option.
    """
    check_network(network, "sensitivity")
    radii = _radii(network, eps)
    if name not in ("K_4", "K_5"):
        raise UnsupportedError(f"sensitivity has no {name!r}; it has K_4, K_5")
    checked(name, math.inf, options)
    with torch.no_grad(), breakdown_reported(f"the sensitivity by {name}"):
        scale = balanced(scaled_inputs(network, radii))
        if name == "K_4":
            ones = torch.ones(1, network.input_size, dtype=torch.float64, device=network.device)
            with limited(options.get("seconds", math.inf)):
                moved = averaged_map(scale.network, ones).squeeze(-2)
        else:
            moved = ellipsoidal_rows(scale.network, **told(options, scale.upper_rows))
    return finite(scale.upper_rows(moved), f"the sensitivity by {name}")


def _radii(network: Network, eps) -> Tensor:
    radii = real_tensor(eps, "sensitivity: eps").to(network.device).reshape(-1)
    if len(radii) != network.input_size:
        raise LipboundsError(f"{len(radii)} radii for {network.input_size} inputs")
    if not bool((torch.isfinite(radii) & (radii >= 0)).all()):
        raise LipboundsError("radii must be finite and not negative")
    return radii
