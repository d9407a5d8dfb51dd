"""Left becomes right: objects, lanes, drivable area and the path with them."""

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, about, middle


class Flip(Geometry):
    """Horizontal flip.

    Args:
        probability: share of the frames.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__(probability)

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """Mirror about the middle column."""
        return about(np.broadcast_to(np.diag([-1.0, 1.0]), (len(numbers), 2, 2)), middle(size))
