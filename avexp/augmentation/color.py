"""Brightness, contrast, saturation and hue as one matrix.

Hue is a rotation in the chroma plane of YIQ (NTSC 1953), which is linear in RGB, unlike the hue of HSV.
"""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Colour, Floats, within

YIQ_FROM_RGB = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
RGB_FROM_YIQ = np.linalg.inv(YIQ_FROM_RGB)


class Color(Colour):
    """Changes of exposure and camera tuning.

    Args:
        probability: share of the frames.
        brightness_max: largest change of the gain [share of 1].
        contrast_max: largest change of contrast about middle grey [share of 1].
        saturation_max: largest change of saturation [share of 1].
        hue_max_deg: largest turn of hue [deg].
    """

    numbers: ClassVar[int] = 4

    def __init__(
        self,
        probability: float = 0.8,
        brightness_max: float = 0.2,
        contrast_max: float = 0.2,
        saturation_max: float = 0.3,
        hue_max_deg: float = 10.0,
    ) -> None:
        super().__init__(probability)
        for name, value in (("brightness", brightness_max), ("contrast", contrast_max), ("saturation", saturation_max)):
            self.require(f"{name}_max", value, 0.0, 1.0)
        self.require("hue_max_deg", hue_max_deg, 0.0, 180.0)
        self.brightness_max, self.contrast_max = brightness_max, contrast_max
        self.saturation_max, self.hue_max_deg = saturation_max, hue_max_deg

    def draw(self, numbers: Floats) -> Floats:
        """Hue and saturation first, then gain, then contrast about 0.5."""
        gain = within(numbers[:, 0], 1 - self.brightness_max, 1 + self.brightness_max)
        contrast = within(numbers[:, 1], 1 - self.contrast_max, 1 + self.contrast_max)
        saturation = within(numbers[:, 2], 1 - self.saturation_max, 1 + self.saturation_max)
        angle = np.deg2rad(within(numbers[:, 3], -self.hue_max_deg, self.hue_max_deg))
        chroma = np.zeros((len(numbers), 3, 3))
        chroma[:, 0, 0] = 1.0
        chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(angle)
        chroma[:, 2, 1] = saturation * np.sin(angle)
        chroma[:, 1, 2] = -chroma[:, 2, 1]
        linear = RGB_FROM_YIQ @ chroma @ YIQ_FROM_RGB * (gain * contrast)[:, None, None]
        offset = np.broadcast_to(0.5 * (1 - contrast)[:, None, None], (len(numbers), 3, 1))
        return np.concatenate([linear, offset], axis=2)
