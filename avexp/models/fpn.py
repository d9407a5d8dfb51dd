"""Feature pyramid neck (Lin et al. 2017): coarse context is added to fine features; all levels get one width."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from avexp.models.layers import conv_block


class FPN(nn.Module):
    """Lateral 1x1 convolutions, top-down sums, a 3x3 convolution a level.

    Args:
        channels: of the backbone's outputs, finest first.
        strides: of the backbone's outputs.
        width: channels of every level.
        norm: ``batch``, ``group`` or ``none``.
        activation: name in layers.ACTIVATIONS.

    Attributes:
        channels: of each level (all ``width``).
        strides: of each level.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        width: int = 32,
        norm: str = "batch",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.channels, self.strides = [width] * len(channels), list(strides)
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, width, 1) for inputs in channels)
        self.smooth = nn.ModuleList(conv_block(width, width, 3, 1, norm, activation) for _ in channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """[B, channels[i], h_i, w_i] -> [B, width, h_i, w_i], finest first."""
        summed = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for level in range(len(summed) - 1, 0, -1):
            factor = float(self.strides[level] // self.strides[level - 1])
            upper = functional.interpolate(summed[level], scale_factor=factor, mode="nearest")
            summed[level - 1] = summed[level - 1] + upper
        return [cast(Tensor, smooth(level)) for smooth, level in zip(self.smooth, summed, strict=True)]
