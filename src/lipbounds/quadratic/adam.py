"""Adam (Kingma and Ba, ICLR 2015) for the descents: its moments, and the gap that falls."""

import torch
from torch import Tensor

MOMENTUM, MEMORY = 0.9, 0.99
FIRST_GAP, LAST_GAP = 1.0, 3e-3  # relative, on the central path, at the start and at the end
SHORTEST_STEP = 2.0**-30  # share of a step, down to which a feasible one is sought


class Moments:
    """Running means of the derivatives and their squares."""

    def __init__(self, like: Tensor):
        self.mean, self.square, self.count = torch.zeros_like(like), torch.zeros_like(like), 0

    def direction(self, slope: Tensor) -> Tensor:
        """Of the next step, upwards, in units of the rate."""
        self.count += 1
        self.mean = torch.lerp(slope, self.mean, MOMENTUM)
        self.square = torch.lerp(slope.square(), self.square, MEMORY)
        mean = self.mean / (1 - MOMENTUM**self.count)
        deviation = (self.square / (1 - MEMORY**self.count)).sqrt()
        return mean / deviation.clamp(min=1e-300)

    def stopped(self, share: float) -> None:
        """After so much of a step: the momentum has run into the cone's edge."""
        self.mean = share * self.mean
