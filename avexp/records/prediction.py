"""What a network says about one frame, in camera pixels and metres: the common form of checkpoint and plan."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def _empty(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One frame's outputs; a task that the network does not have is None.

    Attributes:
        boxes: [N, 4] x1 y1 x2 y2 [px of the camera image], best score first.
        scores: [N] in 0..1.
        classes: [N] index into the class list.
        distances: [N] [m].
        states: [N] light state index, meaningful for class "light" only.
        lanes: polylines [P, 2] [px of the camera image], near to far.
        lane_scores: one per lane, 0..1.
        lane_slots: one per lane: place seen from the car (-1 left boundary, +1 right ...), or 0 where unknown.
        drivable: uint8 [h, w] of 0 and 1, covering the whole camera image at a lower resolution.
        path: [P, 2] x, y [m], vehicle frame, at rising arc length, from the car on.
        curvature: [1/m] at the car.
    """

    boxes: Floats | None = None
    scores: Floats = field(default_factory=lambda: _empty(0))
    classes: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    distances: Floats = field(default_factory=lambda: _empty(0))
    states: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    lanes: list[Floats] | None = None
    lane_scores: Floats = field(default_factory=lambda: _empty(0))
    lane_slots: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    drivable: npt.NDArray[np.uint8] | None = None
    path: Floats | None = None
    curvature: float | None = None
