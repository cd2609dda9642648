"""LipSDP: semidefinite programs over the slopes' quadratic constraints, l2 (Fazlyab, Robey,
Hassani, Morari, Pappas, *Efficient and accurate estimation of Lipschitz constants for deep neural
networks*, NeurIPS 2019).

The "Network" variant, with multipliers that couple neurons, is unsound (Pauli et al., *Training
robust neural networks using Lipschitz bounds*, IEEE Control Systems Letters 6, 2022) and left out.
"""

import torch

from ..clock import left
from ..errors import UnsupportedError
from ..linear.norms import checked_norm
from ..networks.network import Network
from ..quadratic.conic import solve
from ..quadratic.form import Form, certified, single
from ..results import Bound, Status
from .eclipse import closed_form


def lipsdp_neuron(network: Network, norm: float, seconds: float = 60.0) -> Bound:
    """LipSDP-Neuron: min (mu + nu) / 2 with Q(mu, lambda, nu) >= 0, one multiplier per neuron
    (Q in `lipbounds.quadratic.form`; for ReLU the paper's feasible set).

    Stages of any kind but a pool kept whole. seconds: the solver's limit; at its end the value is
    the better of the multipliers so far and those of ECLipsE-Fast, which are feasible.
    `upper` is a bound of D*_2, a 0-d tensor; `status` says how the solver ended. Raises
    UnsupportedError for an ensemble, a pool kept whole, another norm than 2, or a network too large
    for the solver; LipboundsError where the solver fails or cvxpy is missing.
    """
    return _lipsdp(network, norm, seconds, "lipsdp_neuron", layerwise=False)


def lipsdp_layer(network: Network, norm: float, seconds: float = 60.0) -> Bound:
    """LipSDP-Layer: as `lipsdp_neuron`, with one multiplier for all neurons of a stage;
    a neuron whose two slopes are equal keeps a multiplier of its own, its equation being exact."""
    return _lipsdp(network, norm, seconds, "lipsdp_layer", layerwise=True)


def _lipsdp(network: Network, norm: float, seconds: float, name: str, layerwise: bool) -> Bound:
    if checked_norm(norm) != 2:
        raise UnsupportedError(f"{name} is defined for norm 2 only")
    form = Form(single(network, name), ball=True, even=layerwise)
    if not form.cheap > 0:
        return Bound(form.cheap)
    fast = closed_form(network)  # before the solver takes what time there is
    solution = solve(form, name, min(seconds, left()), layerwise)
    if solution.status is Status.CONVERGED:
        return Bound(certified(form, solution.multipliers))
    upper = certified(form, form.from_network(fast))
    if solution.multipliers is not None:
        upper = torch.minimum(certified(form, solution.multipliers), upper)
    return Bound(upper, None, solution.status, "the solver has not come to its end")
