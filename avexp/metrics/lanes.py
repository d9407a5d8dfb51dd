"""Lane boundaries: the F1 of CULane and the accuracy of TuSimple, for polylines in pixels.

Sources: Pan et al. 2018, "Spatial As Deep" (CULane: each lane a line 30 px wide on a 1640x590 canvas, a pair whose IoU
exceeds 0.5 is right, pairs chosen one to one for the greatest sum of IoU; its splines between points are left out: our
polylines are dense). TuSimple lane detection benchmark (2017, evaluate/lane.py): per image row, a point closer than
20 px / cos(angle of the lane) at 1280 wide is right, as is a row that both leave out; a lane with 85 % right rows is found.
Rows are those between the highest and the lowest true point of a frame, so the figure is a little stricter than the benchmark's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Labels

Line = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

CULANE_SIZE_PX = (1640, 590)
CULANE_WIDTH_PX = 30
CULANE_IOU = 0.5
TUSIMPLE_ROWS = np.linspace(160, 710, 56) / 720
"""Rows that can be judged (160, 170 ... 710 of 720), in image heights."""
TUSIMPLE_WIDTH_PX = 1280
TUSIMPLE_TOLERANCE_PX = 20.0
TUSIMPLE_FOUND = 0.85
TUSIMPLE_MOST_LANES = 4
ABSENT = -100.0
"""TuSimple's own value for "no lane in this row": rows that both leave out agree."""


def true_lanes(truth: Labels, sensor: str) -> list[Line]:
    """The lane boundaries that one camera sees, as [P, 2] px; those of a single point are left out."""
    lines = [np.array(lane.image[sensor], np.float32) for lane in truth.lanes if sensor in lane.image]
    return [line for line in lines if len(line) > 1]


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """Lanes found, invented and missed."""

    tp: int
    fp: int
    fn: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is nothing to find and nothing was said."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else float("nan")


def culane_counts(predicted: Sequence[Line], truth: Sequence[Line], image_size: tuple[int, int]) -> LaneCounts:
    """CULane's matching of one frame.

    Args:
        predicted: polylines [P, 2] px.
        truth: polylines [P, 2] px.
        image_size: width, height [px] that the polylines refer to.
    """
    if not predicted or not truth:
        return LaneCounts(0, len(predicted), len(truth))
    from scipy.optimize import linear_sum_assignment

    overlap = _mask_overlaps(
        [_draw(line, image_size) for line in predicted], [_draw(line, image_size) for line in truth]
    )
    rows, columns = linear_sum_assignment(1.0 - overlap)
    tp = int((overlap[rows, columns] > CULANE_IOU).sum())
    return LaneCounts(tp, len(predicted) - tp, len(truth) - tp)


def _draw(line: Line, image_size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    import cv2

    width, height = CULANE_SIZE_PX
    canvas = np.zeros((height, width), np.uint8)
    points = line[np.isfinite(line).all(1)] * np.array([width / image_size[0], height / image_size[1]])
    points = np.clip(np.rint(points), -10_000, 10_000).astype(np.int32)
    return np.asarray(cv2.polylines(canvas, [points.reshape(-1, 1, 2)], False, 1, CULANE_WIDTH_PX))


def _mask_overlaps(first: list[npt.NDArray[np.uint8]], second: list[npt.NDArray[np.uint8]]) -> Floats:
    import cv2

    areas = [[cv2.countNonZero(mask) for mask in masks] for masks in (first, second)]
    result = np.zeros((len(first), len(second)))
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            inner = cv2.countNonZero(cv2.bitwise_and(one, other))
            result[row, column] = inner / max(areas[0][row] + areas[1][column] - inner, 1)
    return result


@dataclass(frozen=True, slots=True)
class TusimpleScore:
    """TuSimple's three shares of one frame.

    Attributes:
        accuracy: right rows of the best matching predicted lane, mean over true lanes.
        fp: share of predicted lanes that match no true one.
        fn: share of true lanes that are not found.
    """

    accuracy: float
    fp: float
    fn: float


def tusimple_score(predicted: Sequence[Line], truth: Sequence[Line], image_size: tuple[int, int]) -> TusimpleScore:
    """TuSimple's score of one frame; its rows (10 px apart at 720 high) and tolerance scale with the image.

    Args:
        predicted: polylines [P, 2] px.
        truth: polylines [P, 2] px, at least one.
        image_size: width, height [px].
    """
    if len(predicted) > len(truth) + 2:
        # the benchmark's rule against guessing
        return TusimpleScore(0.0, 0.0, 1.0)
    rows = _judged_rows(truth, image_size[1])
    guesses = [_at_rows(line, rows, image_size[0]) for line in predicted]
    best = []
    for line in truth:
        wanted = _at_rows(line, rows, image_size[0])
        tolerance = TUSIMPLE_TOLERANCE_PX * image_size[0] / TUSIMPLE_WIDTH_PX / np.cos(_angle(wanted, rows))
        best.append(max((float((np.abs(guess - wanted) < tolerance).mean()) for guess in guesses), default=0.0))
    found = sum(share >= TUSIMPLE_FOUND for share in best)
    fp, judged = len(predicted) - found, min(TUSIMPLE_MOST_LANES, len(truth))
    # the benchmark forgives the worst of five; it knows no frame with more, of which we forgive as many as there are
    missed, total = max(len(truth) - judged, 0), sum(sorted(best, reverse=True)[:judged])
    fn = max(len(truth) - found - missed, 0)
    return TusimpleScore(total / judged, fp / len(predicted) if predicted else 0.0, fn / judged)


def _judged_rows(truth: Sequence[Line], height: int) -> Floats:
    """TuSimple's rows between the highest and the lowest true point of the frame.

    The benchmark lists its rows with the labels, our records do not. Rows above all lanes would be right for free.
    """
    y = np.concatenate([line[:, 1] for line in truth])
    low, high = float(np.nanmin(y)) - 1e-3, float(np.nanmax(y)) + 1e-3
    rows = TUSIMPLE_ROWS * height
    rows = rows[(rows >= low) & (rows <= high)]
    return rows if len(rows) else np.array([(low + high) / 2])


def _at_rows(line: Line, rows: Floats, width: int) -> Floats:
    """x of a polyline in image rows; ABSENT beyond its ends or outside the image."""
    points = line[np.isfinite(line).all(1)].astype(np.float64)
    if len(points) == 0:
        return np.full(len(rows), ABSENT)
    points = points[np.argsort(points[:, 1], kind="stable")]
    # ends are met to within float32, so that a label's own first and last row count
    reached = (rows >= points[0, 1] - 1e-3) & (rows <= points[-1, 1] + 1e-3)
    x = np.interp(rows, points[:, 1], points[:, 0])
    return np.where(reached & (x >= 0) & (x <= width), x, ABSENT)


def _angle(x: Floats, rows: Floats) -> float:
    """Angle against the vertical [rad] of the straight line fitted to the lane's points."""
    seen = x >= 0
    if seen.sum() < 2:
        return 0.0
    return float(np.arctan(np.polyfit(rows[seen], x[seen], 1)[0]))
