"""Crop: a part of the image enlarged to the whole."""

import numpy as np
import numpy.typing as npt

from avexp.augmentation.operation import Geometry, Numbers, between, identity


class Crop(Geometry):
    """A window of the image's shape, anywhere in it, becomes the image.

    Args:
        least_share: smallest window, as a share of the width.
        probability: of a frame.
    """

    numbers = 3

    def __init__(self, least_share: float = 0.7, probability: float = 0.5) -> None:
        super().__init__(probability)
        self.least_share = least_share

    def matrix(self, numbers: Numbers, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """A window a frame."""
        share = between(numbers[:, 0], self.least_share, 1.0)
        matrix = identity(len(numbers))
        matrix[:, 0, 0] = matrix[:, 1, 1] = 1.0 / share
        matrix[:, 0, 2] = -numbers[:, 1] * (1 - share) * size[1] / share
        matrix[:, 1, 2] = -numbers[:, 2] * (1 - share) * size[0] / share
        return matrix
