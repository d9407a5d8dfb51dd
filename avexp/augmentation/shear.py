"""Shear about the image's centre."""

import numpy as np
import numpy.typing as npt

from avexp.augmentation.operation import Geometry, Numbers, about_centre, between, identity


class Shear(Geometry):
    """Rows slide sideways in proportion to their height.

    Args:
        most: largest slide, pixels a row.
        probability: of a frame.
    """

    def __init__(self, most: float = 0.1, probability: float = 0.5) -> None:
        super().__init__(probability)
        self.most = most

    def matrix(self, numbers: Numbers, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """A slide a frame."""
        matrix = identity(len(numbers))
        matrix[:, 0, 1] = between(numbers[:, 0], -self.most, self.most)
        return about_centre(matrix, size)
