"""The image moved as a whole."""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, within


class Translation(Geometry):
    """Shift of the image.

    Args:
        probability: share of the frames.
        x_max_share: largest shift to either side [share of width].
        y_max_share: largest shift up or down [share of height].
    """

    numbers: ClassVar[int] = 2

    def __init__(self, probability: float = 0.5, x_max_share: float = 0.05, y_max_share: float = 0.05) -> None:
        super().__init__(probability)
        self.require("x_max_share", x_max_share, 0.0, 1.0)
        self.require("y_max_share", y_max_share, 0.0, 1.0)
        self.x_max_share, self.y_max_share = x_max_share, y_max_share

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """Shift, evenly over the range."""
        matrices = np.tile(np.eye(3), (len(numbers), 1, 1))
        matrices[:, 0, 2] = within(numbers[:, 0], -self.x_max_share, self.x_max_share) * size[1]
        matrices[:, 1, 2] = within(numbers[:, 1], -self.y_max_share, self.y_max_share) * size[0]
        return matrices
