"""Noise: a sensor in the dark. Drawn from a bank with an offset a frame: fresh Gaussian noise costs more than the warp."""

import numpy as np
import torch
from torch import Tensor

from avexp.augmentation.operation import Numbers, Pixel, between
from avexp.core.counter_random import generator

BANK = 1 << 21
"""Values of the bank."""


class Noise(Pixel):
    """Gaussian noise.

    Args:
        most: largest deviation, on 0..1.
        probability: of a frame.
    """

    numbers = 2

    def __init__(self, most: float = 0.04, probability: float = 0.3) -> None:
        super().__init__(probability)
        self.most = most
        self._bank = torch.from_numpy(generator("noise bank").standard_normal(BANK, dtype=np.float32))

    def pixels(self, images: Tensor, numbers: Numbers) -> Tensor:
        """A piece of the bank a frame, at a hashed offset."""
        size = images[0].numel()
        if size > BANK // 2:
            size = BANK // 2
        repeats = -(-images[0].numel() // size)
        offsets = (numbers[:, 1] * (BANK - size)).astype(np.int64)
        pieces = torch.stack(
            [self._bank[start : start + size].repeat(repeats)[: images[0].numel()] for start in offsets]
        )
        strength = torch.from_numpy(between(numbers[:, 0], 0, self.most).astype(np.float32)).to(images.device)
        return images + strength[:, None, None, None] * pieces.to(images.device).view_as(images)
