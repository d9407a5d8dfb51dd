"""A lens out of focus, or a wet one."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avexp.augmentation.operation import Floats, Pixel, within

RADIUS_PX = 2


class Blur(Pixel):
    """Gaussian blur over 5 x 5 pixels.

    Args:
        probability: share of the frames.
        sigma_min_px: smallest standard deviation [px of the network image].
        sigma_max_px: largest one.
    """

    numbers: ClassVar[int] = 1

    def __init__(self, probability: float = 0.2, sigma_min_px: float = 0.3, sigma_max_px: float = 1.0) -> None:
        super().__init__(probability)
        self.require("sigma_min_px", sigma_min_px, 0.05, 5.0)
        self.require("sigma_max_px", sigma_max_px, sigma_min_px, 5.0)
        self.sigma_min_px, self.sigma_max_px = sigma_min_px, sigma_max_px

    def apply(self, images: Tensor, numbers: Floats) -> Tensor:
        """Columns, then rows. Shifted sums, not a grouped convolution: their rounding does not know the batch."""
        sigma = within(numbers[:, :1], self.sigma_min_px, self.sigma_max_px)
        taps = np.exp(-(np.arange(RADIUS_PX + 1) ** 2) / (2 * sigma**2))
        taps /= 2 * taps.sum(1, keepdims=True) - taps[:, :1]
        weights = torch.from_numpy(taps).to(images.device, images.dtype)[:, :, None, None, None]
        for axis in (2, 3):
            images = _smooth(images, weights, axis)
        return images


def _smooth(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """One axis; beyond the border its last pixel goes on."""
    length = images.shape[axis]
    sides = (RADIUS_PX, RADIUS_PX, 0, 0) if axis == 3 else (0, 0, RADIUS_PX, RADIUS_PX)
    wide = functional.pad(images, sides, mode="replicate")
    out = images * weights[:, 0]
    for tap in range(1, RADIUS_PX + 1):
        before, after = wide.narrow(axis, RADIUS_PX - tap, length), wide.narrow(axis, RADIUS_PX + tap, length)
        out.addcmul_(before + after, weights[:, tap])
    return out
