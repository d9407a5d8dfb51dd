"""A window of the image, enlarged to the whole."""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, within


class Crop(Geometry):
    """Random window of the image's own proportions.

    Args:
        probability: share of the frames.
        side_min_share: smallest side of the window [share of the image's].
    """

    numbers: ClassVar[int] = 3

    def __init__(self, probability: float = 0.5, side_min_share: float = 0.8) -> None:
        super().__init__(probability)
        self.require("side_min_share", side_min_share, 0.05, 1.0)
        self.side_min_share = side_min_share

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """The window's side and corner, evenly over what lies within the image."""
        side = within(numbers[:, 0], self.side_min_share, 1.0)
        corner = numbers[:, 1:3] * (1.0 - side)[:, None] * np.array([size[1], size[0]])
        matrices = np.tile(np.eye(3), (len(numbers), 1, 1))
        matrices[:, 0, 0] = matrices[:, 1, 1] = 1.0 / side
        matrices[:, :2, 2] = -corner / side[:, None]
        return matrices
