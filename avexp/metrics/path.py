"""Path: how far the predicted line is from where the car went.

A network that sees one frame knows how the road bends but not how fast the car will go, so it predicts a line without times.
The true position after t seconds is therefore compared with the point of the predicted line at the arc length that the car
had travelled by then: an error in speed is no error of the path. Beyond its last point the line goes on straight.
"""

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Path

Floats = npt.NDArray[np.float64]

HORIZONS_S = (1.0, 2.0, 3.0)


def travelled(truth: Path, horizon_s: float) -> tuple[Floats, float] | None:
    """True position [2] [m] and arc length [m] after a time; None where the label ends before it."""
    times = np.array([0.0, *truth.times_s])
    points = np.array([(0.0, 0.0), *truth.positions_m])
    order = np.argsort(times, kind="stable")
    times, points = times[order], points[order]
    # a label at 10 Hz may miss its last time by rounding
    if len(times) < 2 or horizon_s > times[-1] + 1e-3:
        return None
    lengths = _arc_lengths(points)
    position = np.array([np.interp(horizon_s, times, points[:, axis]) for axis in range(2)])
    return position, float(np.interp(horizon_s, times, lengths))


def _arc_lengths(points: Floats) -> Floats:
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def point_at(line: npt.NDArray[np.float32], arc_m: float) -> Floats:
    """The point [2] [m] of a polyline from the origin on, at an arc length [m]."""
    points = np.concatenate([np.zeros((1, 2)), line[np.isfinite(line).all(1)].astype(np.float64)])
    points = points[np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6])]
    if len(points) == 1:
        return np.array([arc_m, 0.0])
    lengths = _arc_lengths(points)
    if arc_m > lengths[-1]:
        direction = (points[-1] - points[-2]) / (lengths[-1] - lengths[-2])
        return np.asarray(points[-1] + direction * (arc_m - lengths[-1]))
    return np.array([np.interp(arc_m, lengths, points[:, axis]) for axis in range(2)])


def path_error_m(predicted: npt.NDArray[np.float32], truth: Path, horizon_s: float) -> float | None:
    """Distance [m] between the true position after a time and the predicted line at the same travelled arc length.

    Args:
        predicted: [P, 2] x, y [m], from the car on.
        truth: future positions.
        horizon_s: how far ahead [s].

    Returns:
        None where the label ends before the horizon.
    """
    reached = travelled(truth, horizon_s)
    if reached is None:
        return None
    position, arc_m = reached
    return float(np.linalg.norm(point_at(predicted, arc_m) - position))
