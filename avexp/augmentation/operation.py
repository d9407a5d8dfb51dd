"""What an augmentation is: uniform numbers in, a matrix or changed pixels out.

An operation draws nothing itself. The pipeline hands it numbers in [0, 1) that are a pure function of (seed, epoch,
operation, frame key); so a frame's augmentation knows neither batch nor device. Axes: B samples, N numbers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from avexp.core.errors import ConfigError

Floats = npt.NDArray[np.float64]


class Operation(ABC):
    """One augmentation.

    Args:
        probability: share of the frames that it changes.

    Raises:
        ConfigError: the probability is not within 0..1.
    """

    numbers: ClassVar[int] = 0
    """N: how many uniform numbers a sample takes."""

    @abstractmethod
    def __init__(self, probability: float) -> None:
        self.require("probability", probability, 0.0, 1.0)
        self.probability = probability

    def require(self, name: str, value: float, low: float, high: float) -> None:
        """Hold an argument within bounds.

        Raises:
            ConfigError: it is outside.
        """
        if not low <= value <= high:
            raise ConfigError([f"augmentation.{type(self).__name__.lower()}.{name}: {value} is not in {low}..{high}"])


class Geometry(Operation):
    """Moves pixels by a matrix, which may mirror. It changes the image, not where the car goes."""

    @abstractmethod
    def draw(self, numbers: Floats, size: tuple[int, int]) -> Floats:
        """Affine matrices [B, 3, 3] from network pixels to network pixels.

        Args:
            numbers: [B, N] in [0, 1).
            size: (height, width) of the network image [px].
        """


class Colour(Operation):
    """Changes colours by an affine map of RGB in 0..1, the same for all pixels."""

    @abstractmethod
    def draw(self, numbers: Floats) -> Floats:
        """Matrices [B, 3, 4]: a linear part and an offset.

        Args:
            numbers: [B, N] in [0, 1).
        """


class Pixel(Operation):
    """Works on the pixels of the finished network image."""

    @abstractmethod
    def apply(self, images: Tensor, numbers: Floats) -> Tensor:
        """Changed images.

        Args:
            images: float32 [B, 3, H, W] in 0..1; only the samples that it changes.
            numbers: [B, N] in [0, 1).
        """


@dataclass(frozen=True, slots=True)
class Displacement:
    """Where a virtual car stands beside the recorded one.

    Attributes:
        lateral_m: [B] to the left [m].
        yaw_rad: [B] turned to the left [rad].
        recovery_s: within which it returns to the recorded path [s].
        recovery_min_m: least distance within which it does [m].
    """

    lateral_m: Floats
    yaw_rad: Floats
    recovery_s: float
    recovery_min_m: float


class Perspective(Operation):
    """Moves the car itself: the image, and where the car goes from there."""

    @abstractmethod
    def draw(self, numbers: Floats) -> Displacement:
        """The virtual car.

        Args:
            numbers: [B, N] in [0, 1).
        """


def within(numbers: Floats, low: float, high: float) -> Floats:
    """Uniform numbers stretched to [low, high)."""
    return low + (high - low) * numbers


def about(linear: Floats, pivot: tuple[float, float] | Floats) -> Floats:
    """Affine matrices that apply a linear map around a fixed point.

    Args:
        linear: [B, 2, 2].
        pivot: (x, y) or [B, 2], the point that stays.

    Returns:
        [B, 3, 3].
    """
    fixed = np.broadcast_to(np.asarray(pivot, np.float64), (len(linear), 2))
    matrices = np.zeros((len(linear), 3, 3))
    matrices[:, :2, :2], matrices[:, 2, 2] = linear, 1.0
    matrices[:, :2, 2] = fixed - np.einsum("bij,bj->bi", linear, fixed)
    return matrices


def middle(size: tuple[int, int]) -> tuple[float, float]:
    """Centre (x, y) of an image of (height, width)."""
    return size[1] / 2, size[0] / 2
