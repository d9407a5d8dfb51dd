"""Where points on flat ground appear in a camera's image: for drawing a metric path onto a frame."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEAREST_M = 0.5
"""Points closer than this in front of the camera cannot be drawn."""


@dataclass(frozen=True, slots=True)
class GroundCamera:
    """A pinhole camera above flat ground, looking ahead.

    Attributes:
        matrix: [3, 3] K [px] of the camera image.
        height_m: above ground.
        pitch_rad: of the optical axis, positive down.
        forward_m: in front of the vehicle's origin.
    """

    matrix: npt.NDArray[np.float32]
    height_m: float
    pitch_rad: float = 0.0
    forward_m: float = 0.0

    def project(self, points_m: npt.ArrayLike) -> Floats:
        """Image points [P', 2] px of ground points [P, 2] (x forward, y left); points behind the camera are dropped."""
        points = np.asarray(points_m, np.float64).reshape(-1, 2)
        ahead, sine, cosine = points[:, 0] - self.forward_m, np.sin(self.pitch_rad), np.cos(self.pitch_rad)
        depth = ahead * cosine + self.height_m * sine
        down = self.height_m * cosine - ahead * sine
        seen = depth > NEAREST_M
        axes = np.stack([-points[:, 1], down, depth], 1)[seen]
        image = axes @ np.asarray(self.matrix, np.float64).T
        return np.asarray(image[:, :2] / image[:, 2:])

    @property
    def usable(self) -> bool:
        """Whether all of it is known: K and pose may be NaN in a dataset of unknown cameras."""
        return bool(np.isfinite([*np.ravel(self.matrix), self.height_m, self.pitch_rad, self.forward_m]).all())


def ribbon(path_m: npt.ArrayLike, width_m: float, step_m: float = 1.0) -> tuple[Floats, Floats]:
    """Left and right border [Q, 2] [m] of a strip along a path from the car on, sampled finely enough for perspective.

    Args:
        path_m: [P, 2] x, y [m].
        width_m: of the strip.
        step_m: between samples along the path.
    """
    points = np.concatenate([np.zeros((1, 2)), np.asarray(path_m, np.float64).reshape(-1, 2)])
    points = points[np.isfinite(points).all(1)]
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    points = points[np.concatenate([[True], steps > 1e-6])]
    if len(points) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, lengths[-1], max(int(lengths[-1] / step_m), 1) + 1)
    line = np.stack([np.interp(at, lengths, points[:, axis]) for axis in range(2)], 1)
    ahead = np.gradient(line, axis=0)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    side = np.stack([-ahead[:, 1], ahead[:, 0]], 1) * width_m / 2
    return line + side, line - side
