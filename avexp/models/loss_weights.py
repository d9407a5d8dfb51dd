"""How the losses of several heads become one."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class FixedWeights(nn.Module):
    """A weighted sum.

    Args:
        **weights: by head name; 1 where not given.
    """

    def __init__(self, **weights: float) -> None:
        super().__init__()
        self.weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar."""
        return torch.stack([self.weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()


class UncertaintyWeights(nn.Module):
    """Weights learned as homoscedastic uncertainty: sum of exp(-s) loss + s (Kendall, Gal and Cipolla 2018).

    Args:
        heads: their names.
    """

    def __init__(self, heads: list[str]) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in heads})

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar."""
        parts = []
        for name, loss in losses.items():
            spread = self.log_variance[name]
            parts.append(torch.exp(-spread) * loss + spread)
        return torch.stack(parts).sum()
