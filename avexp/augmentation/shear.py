"""Rows slid sideways in proportion to their height: as when the car rolls a little."""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, about, middle, within


class Shear(Geometry):
    """Horizontal shear about the centre.

    Args:
        probability: share of the frames.
        angle_max_deg: largest lean of a vertical line to either side [deg].
    """

    numbers: ClassVar[int] = 1

    def __init__(self, probability: float = 0.5, angle_max_deg: float = 6.0) -> None:
        super().__init__(probability)
        self.require("angle_max_deg", angle_max_deg, 0.0, 80.0)
        self.angle_max_deg = angle_max_deg

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """A slide, evenly over the angle."""
        linear = np.tile(np.eye(2), (len(numbers), 1, 1))
        linear[:, 0, 1] = np.tan(np.deg2rad(within(numbers[:, 0], -self.angle_max_deg, self.angle_max_deg)))
        return about(linear, middle(size))
