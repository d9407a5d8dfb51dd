"""Sensor noise in the dark. Taken from a bank at an offset a frame: fresh Gaussian numbers cost more than the warp."""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from avexp.augmentation.operation import Floats, Pixel, within
from avexp.core.counter_random import generator

OFFSETS = 1 << 18
"""Places of the bank at which a frame's piece may begin."""


class Noise(Pixel):
    """Gaussian noise.

    Args:
        probability: share of the frames.
        sigma_max: largest standard deviation [share of full scale].
    """

    numbers: ClassVar[int] = 2

    def __init__(self, probability: float = 0.3, sigma_max: float = 0.04) -> None:
        super().__init__(probability)
        self.require("sigma_max", sigma_max, 0.0, 1.0)
        self.sigma_max = sigma_max
        self._bank = torch.empty(0)

    def apply(self, images: Tensor, numbers: Floats) -> Tensor:
        """A piece of the bank for each frame."""
        length = images[0].numel()
        bank = self._filled(length + OFFSETS, images.device)
        sigma = within(numbers[:, 0], 0.0, self.sigma_max)
        out = images.clone(memory_format=torch.contiguous_format)
        for image, begin, strength in zip(out, (numbers[:, 1] * OFFSETS).astype(np.int64), sigma, strict=True):
            image.add_(bank[int(begin) : int(begin) + length].view_as(image), alpha=float(strength))
        return out

    def _filled(self, length: int, device: torch.device) -> Tensor:
        """The bank, made at first use: its beginning is the same whatever its length."""
        if len(self._bank) < length or self._bank.device != device:
            values = generator("noise bank").standard_normal(length, dtype=np.float32)
            self._bank = torch.from_numpy(values).to(device)
        return self._bank
