"""Blur: a lens out of focus, or a wet one."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avexp.augmentation.operation import Numbers, Pixel, between

RADIUS = 2


class Blur(Pixel):
    """Gaussian blur, 5 x 5.

    Args:
        low_px: smallest deviation [px of the network image].
        high_px: largest deviation.
        probability: of a frame.
    """

    def __init__(self, low_px: float = 0.3, high_px: float = 1.2, probability: float = 0.2) -> None:
        super().__init__(probability)
        self.low_px, self.high_px = low_px, high_px

    def pixels(self, images: Tensor, numbers: Numbers) -> Tensor:
        """Rows, then columns; each frame with its own kernel, as a grouped convolution."""
        deviation = between(numbers[:, :1], self.low_px, self.high_px)
        weights = np.exp(-(np.arange(-RADIUS, RADIUS + 1)[None] ** 2) / (2 * deviation**2))
        kernel = torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32)).to(images.device)
        batch, _, height, width = images.shape
        kernel = kernel.repeat_interleave(3, 0)[:, None]
        flat = images.reshape(1, batch * 3, height, width)
        flat = functional.conv2d(
            functional.pad(flat, (RADIUS, RADIUS, 0, 0), "replicate"), kernel[:, :, None, :], groups=batch * 3
        )
        flat = functional.conv2d(
            functional.pad(flat, (0, 0, RADIUS, RADIUS), "replicate"), kernel[:, :, :, None], groups=batch * 3
        )
        return flat.reshape(batch, 3, height, width)
