"""What the two engines of K_5 cost, in multiply-adds, and hold, in bytes: from sizes alone.

The products and factorisations of blocks, counted at the speed of a Cholesky factorisation of some
hundred rows: fitted to within a factor of two on Gaussian networks of 200 to 3000 neurons.
"""

import itertools
import math

import torch

from ..linear.operators import Identity
from ..networks.network import Network

FACTOR = 0.5  # of a block factorised and inverted, in cubes of its side
NEWTON = 0.5  # of a step with its line search, in cubes of the rows of Q
MATRICES = 10  # of N^2 float64 that a Newton step holds for each program
MAPS = 4  # dense ones of each layer, while they are made
MADE = 60  # multiply-adds in the time that an entry of them takes to be made, or cut to a column
PASSES = 4  # of a vector through the network, and through the factors, in a proof
BLOCKS = 8  # float64 for each entry of the trunk's blocks that a descent holds


def side(network: Network, norm: float) -> int:
    """N, the rows of Q for one piece, linear neurons being substituted; in norm 1 those that the
    input in the middle reaches: near the border it is fewer."""
    outputs = network.output_size if norm != math.inf else 1
    free = [~stage.ends().met for stage in network.stages]
    if norm != 1:
        return network.input_size + sum(int(mask.sum()) for mask in free) + outputs
    moving = torch.zeros(network.input_size, dtype=torch.float64, device=network.device)
    moving[_middle(network)] = 1.0
    total = 1 + outputs
    for affine, stage, mask in zip(network.affines, network.stages, free, strict=False):
        moving = stage.majorant((affine.operator.majorant().apply(moving) > 0).to(moving.dtype))
        moving = (moving.reshape(-1, len(mask)) > 0).any(0).to(moving.dtype)
        total += int((mask & (moving > 0)).sum())
    return total


def _middle(network: Network) -> int:
    place = 0
    for size in network.input_shape or (network.input_size,):
        place = place * size + size // 2
    return place


def pieces(network: Network, norm: float) -> int:
    """The programs of one network: output rows, input columns, or one."""
    return {1: network.input_size, 2: 1}.get(norm, network.output_size)


def newton_step(network: Network, norm: float) -> float:
    """One of Newton's method for one piece, or its proof."""
    return NEWTON * covariance(network, norm) ** 3


def covariance(network: Network, norm: float) -> int:
    """The rows of what a step inverts: linear neurons have none in Q, but are carried along."""
    linear = sum(int(stage.ends().met.sum()) for stage in network.stages)
    rows = side(network, norm)
    return max(rows, (rows + linear) // 2)


def newton_start(network: Network, norm: float) -> float:
    """The maps of its programs, made and cut."""
    return float(MADE * sum(math.prod(affine.operator.shape) for affine in network.affines))


def newton_bytes(network: Network, norm: float) -> float:
    """For one piece, with the network's maps."""
    maps = sum(math.prod(affine.operator.shape) for affine in network.affines)
    return 8.0 * (MATRICES * covariance(network, norm) ** 2 + MAPS * maps)


def descent_step(network: Network, norm: float) -> float:
    """Values and gradient on the trunk, and all pieces' columns through its last block."""
    blocks, ends = trunk(network, norm)
    chain = sum(
        1.5 * before**2 * after + after**2 * before for before, after in itertools.pairwise(blocks)
    )
    return float(FACTOR * sum(n**3 for n in blocks) + chain + blocks[-1] ** 2 * ends)


def proof(network: Network, norm: float) -> float:
    """Of multipliers that all pieces share: two factorisations, and a solution per piece."""
    blocks, ends = trunk(network, norm)
    one = sum(affine.operator.cost for affine in network.affines) + sum(n**2 for n in blocks)
    return 1.5 * descent_step(network, norm) + PASSES * float(ends * one)


def descent_bytes(network: Network, norm: float) -> float:
    """The blocks of the trunk, those below them, and the pieces' columns."""
    blocks, ends = trunk(network, norm)
    pairs = sum(before * after for before, after in itertools.pairwise(blocks))
    return 8.0 * BLOCKS * (sum(n**2 for n in blocks) + pairs + blocks[-1] * ends)


def trunk(network: Network, norm: float) -> tuple[list[int], int]:
    """The sides of the blocks in the order of elimination, and the columns of the last one: stages
    that an identity joins to the next are eliminated window by window."""
    stages = [
        stage.shape[0]
        for stage, following in zip(network.stages, network.affines[1:], strict=True)
        if not isinstance(following.operator, Identity)
    ]
    if norm == 1 and stages:
        return stages[::-1], network.input_size
    return [network.input_size, *stages], network.output_size
