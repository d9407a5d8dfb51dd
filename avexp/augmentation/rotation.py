"""The image turned: as by a camera mounted at a slight roll."""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, about, middle, within


class Rotation(Geometry):
    """Rotation about the centre.

    Args:
        probability: share of the frames.
        angle_max_deg: largest turn to either side [deg].
    """

    numbers: ClassVar[int] = 1

    def __init__(self, probability: float = 0.5, angle_max_deg: float = 3.0) -> None:
        super().__init__(probability)
        self.require("angle_max_deg", angle_max_deg, 0.0, 180.0)
        self.angle_max_deg = angle_max_deg

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """A turn, evenly over the angle."""
        angle = np.deg2rad(within(numbers[:, 0], -self.angle_max_deg, self.angle_max_deg))
        cos, sin = np.cos(angle), np.sin(angle)
        return about(np.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2), middle(size))
