"""The image larger or smaller around its centre."""

from typing import ClassVar

import numpy as np

from avexp.augmentation.operation import Floats, Geometry, about, middle


class Scale(Geometry):
    """Uniform scale.

    Args:
        probability: share of the frames.
        factor_min: smallest factor; below 1 the border is black.
        factor_max: largest factor.
    """

    numbers: ClassVar[int] = 1

    def __init__(self, probability: float = 0.5, factor_min: float = 0.9, factor_max: float = 1.1) -> None:
        super().__init__(probability)
        self.require("factor_min", factor_min, 0.1, 10.0)
        self.require("factor_max", factor_max, factor_min, 10.0)
        self.factor_min, self.factor_max = factor_min, factor_max

    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """Scale, evenly in its logarithm: halving is as likely as doubling."""
        factor = self.factor_min * (self.factor_max / self.factor_min) ** numbers[:, 0]
        return about(factor[:, None, None] * np.eye(2), middle(size))
