"""A field: a sum of Gaussian balls, each with a place, a width, a density and a colour."""

import torch
from torch import nn


class Balls(nn.Module):
    def __init__(self, radius, *, resolution, generator):
        super().__init__()
        self.radius = radius
        count = 2 * resolution
        self.centres = nn.Parameter(0.4 * radius * torch.randn(count, 3, generator=generator))
        self.raw = nn.Parameter(0.1 * torch.randn(count, 5, generator=generator))

    def _weights(self, points):
        width = 0.2 * self.radius * self.raw[:, 0].exp()
        return torch.exp(-torch.cdist(points, self.centres).square() / (2 * width.square()))

    def __call__(self, points):
        weights = self._weights(points) * self.raw[:, 1].exp()
        colour = weights @ self.raw[:, 2:].sigmoid() / weights.sum(1, keepdim=True).clamp_min(1e-6)
        return 10.0 * weights.sum(1), colour

    def density(self, points):
        return self(points)[0]

    def parameter_groups(self, learning_rate):
        return [{"params": list(self.parameters()), "lr": learning_rate}]
