"""Rotation about the image's centre, as a camera that rolls."""

import numpy as np
import numpy.typing as npt

from avexp.augmentation.operation import Geometry, Numbers, about_centre, between, identity


class Rotation(Geometry):
    """Turns the image.

    Args:
        most_deg: largest angle [deg] either way.
        probability: of a frame.
    """

    def __init__(self, most_deg: float = 3.0, probability: float = 0.5) -> None:
        super().__init__(probability)
        self.most_deg = most_deg

    def matrix(self, numbers: Numbers, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """An angle a frame."""
        angle = np.deg2rad(between(numbers[:, 0], -self.most_deg, self.most_deg))
        matrix = identity(len(numbers))
        matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
        matrix[:, 0, 1], matrix[:, 1, 0] = -np.sin(angle), np.sin(angle)
        return about_centre(matrix, size)
