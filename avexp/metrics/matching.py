"""Which predicted box found which true one: the rule of the COCO benchmark, at one IoU threshold.

Source: Lin et al. 2014, "Microsoft COCO", and its reference evaluation: best score first, each takes the free truth of its class
that it overlaps most; what then lies in an ignore region (a "crowd", measured against the predicted box alone) does not count.
Axes: N predicted boxes, M true boxes, I ignore boxes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from avexp.metrics.difficulty import ALL, Difficulty
from avexp.records.labels import LIGHT_STATES, Labels
from avexp.records.prediction import Prediction

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MATCH_IOU = 0.5
MOST_PER_CLASS = 100
"""Predictions of one class in one frame that count (COCO's maxDets)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameObjects:
    """Predicted and true objects of one frame.

    Attributes:
        boxes: [N, 4] x1 y1 x2 y2 [px], best score first.
        scores: [N].
        classes: [N] index into the class list.
        distances: [N] [m], NaN where not predicted.
        states: [N] light state index, -1 where not predicted.
        true_boxes: [M, 4].
        true_classes: [M].
        true_distances: [M] [m], NaN where unknown.
        true_states: [M] light state index, -1 where none.
        ignore: [I, 4] boxes that count neither way.
        ignore_classes: [I] for which class, -1 for any.
    """

    boxes: Singles
    scores: Singles
    classes: Ints
    distances: Singles
    states: Ints
    true_boxes: Singles
    true_classes: Ints
    true_distances: Singles
    true_states: Ints
    ignore: Singles
    ignore_classes: Ints

    @classmethod
    def none(cls) -> Self:
        """A frame that says nothing about objects."""
        no_boxes, no_numbers = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        no_codes = np.zeros(0, np.int64)
        return cls(
            boxes=no_boxes,
            scores=no_numbers,
            classes=no_codes,
            distances=no_numbers,
            states=no_codes,
            true_boxes=no_boxes,
            true_classes=no_codes,
            true_distances=no_numbers,
            true_states=no_codes,
            ignore=no_boxes,
            ignore_classes=no_codes,
        )

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        truth: Labels,
        sensor: str,
        classes: list[str],
        image_height_px: float = 0.0,
        difficulty: Difficulty = ALL,
    ) -> Self:
        """Join a prediction that has boxes with the truth of one camera.

        True objects of unknown classes are ignored; so are, for their class, those beyond the difficulty.
        """
        rows: list[tuple[float, ...]] = []
        ignore = [(*box.box, -1) for box in truth.ignore if box.sensor == sensor and "objects" in box.tasks]
        for thing in truth.objects:
            box = thing.box2d.get(sensor)
            if box is None:
                continue
            known = thing.category in classes
            if not known or not difficulty.counts(box, image_height_px):
                ignore.append((box.x1, box.y1, box.x2, box.y2, classes.index(thing.category) if known else -1))
                continue
            state = thing.attributes.get("state", "")
            code = LIGHT_STATES.index(state) if state in LIGHT_STATES else -1
            distance = np.nan if thing.distance_m is None else thing.distance_m
            rows.append((box.x1, box.y1, box.x2, box.y2, classes.index(thing.category), distance, code))
        table = np.array(rows, np.float32).reshape(-1, 7)
        regions = np.array(ignore, np.float32).reshape(-1, 5)
        boxes = np.zeros((0, 4), np.float32) if prediction.boxes is None else prediction.boxes.reshape(-1, 4)
        count = len(boxes)
        usable = np.isfinite(boxes).all(1) & np.isfinite(prediction.scores) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        usable &= boxes[:, 3] - boxes[:, 1] >= difficulty.height_min * image_height_px
        order = np.argsort(-prediction.scores, kind="stable")
        order = order[usable[order]]
        distances = prediction.distances if len(prediction.distances) == count else np.full(count, np.nan, np.float32)
        states = prediction.states if len(prediction.states) == count else np.full(count, -1, np.int64)
        return cls(
            boxes=boxes[order].astype(np.float32),
            scores=prediction.scores[order].astype(np.float32),
            classes=prediction.classes[order].astype(np.int64),
            distances=distances[order].astype(np.float32),
            states=states[order].astype(np.int64),
            true_boxes=table[:, :4],
            true_classes=table[:, 4].astype(np.int64),
            true_distances=table[:, 5],
            true_states=table[:, 6].astype(np.int64),
            ignore=regions[:, :4],
            ignore_classes=regions[:, 4].astype(np.int64),
        )


def overlaps(boxes: Singles, others: Singles, of_first: bool = False) -> Floats:
    """IoU of each pair of boxes x1 y1 x2 y2, in float64.

    Args:
        boxes: [N, 4].
        others: [M, 4].
        of_first: intersection over the area of the first box instead (the measure for ignore regions).

    Returns:
        [N, M] in 0..1.
    """
    first, second = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    inner = np.prod(np.clip(sides, 0, None), -1)
    area = np.prod(first[..., 2:] - first[..., :2], -1)
    union = area if of_first else area + np.prod(second[..., 2:] - second[..., :2], -1) - inner
    return np.asarray(inner / np.maximum(union, 1e-12))


@dataclass(frozen=True, slots=True)
class FrameMatches:
    """What became of each predicted box of a frame.

    Attributes:
        truth: [N] index of the true box that it found, -1 for none.
        ignored: [N] neither right nor wrong.
    """

    truth: Ints
    ignored: Bools

    @property
    def hit(self) -> Bools:
        """[N] true positives."""
        return self.truth >= 0


def match(frame: FrameObjects, iou: float = MATCH_IOU) -> FrameMatches:
    """Match the boxes of a frame, class by class."""
    same = frame.classes[:, None] == frame.true_classes[None]
    pairs = np.where(same, overlaps(frame.boxes, frame.true_boxes), -1.0)
    covered = _covered(frame, iou)
    truth, ignored = _take(pairs, iou), covered.copy()
    ignored &= truth < 0
    for index in np.unique(frame.classes):
        surplus = np.flatnonzero(frame.classes == index)[MOST_PER_CLASS:]
        truth[surplus], ignored[surplus] = -1, True
    return FrameMatches(truth, ignored)


def _covered(frame: FrameObjects, iou: float) -> Bools:
    """[N] boxes that lie in an ignore region of their class."""
    for_it = (frame.ignore_classes[None] == -1) | (frame.ignore_classes[None] == frame.classes[:, None])
    return np.asarray(((overlaps(frame.boxes, frame.ignore, of_first=True) >= iou) & for_it).any(1))


def _take(pairs: Floats, iou: float) -> Ints:
    """Greedy: each row, in order, takes the free column of the highest value that reaches the threshold."""
    taken: set[int] = set()
    result = np.full(len(pairs), -1, np.int64)
    for row in np.flatnonzero((pairs >= iou).any(1)) if pairs.size else ():
        # at equal overlap the later truth wins, as in the reference code
        free = [(value, column) for column, value in enumerate(pairs[row]) if value >= iou and column not in taken]
        if free:
            result[row] = max(free)[1]
            taken.add(int(result[row]))
    return result


BACKGROUND = -1


def confusion(frames: list[FrameObjects], classes: list[str], iou: float = MATCH_IOU, min_score: float = 0.3) -> Ints:
    """Which class is taken for which: boxes are matched whatever their class, best score first.

    Args:
        frames: the evidence.
        classes: class names, C of them.
        iou: least overlap of a match.
        min_score: predictions below it are left out.

    Returns:
        [C + 1, C + 1] counts, row = truth, column = prediction, last = background (missed, or nothing there).
        Predictions in ignore regions are left out.
    """
    counts = np.zeros((len(classes) + 1, len(classes) + 1), np.int64)
    for frame in frames:
        sure = np.flatnonzero(frame.scores >= min_score)
        boxes = frame.boxes[sure]
        found = _take(overlaps(boxes, frame.true_boxes), iou)
        ignored = _covered(frame, iou)[sure] & (found < 0)
        for index, truth, skip in zip(sure, found, ignored, strict=True):
            if not skip:
                counts[frame.true_classes[truth] if truth >= 0 else BACKGROUND, frame.classes[index]] += 1
        missed = np.setdiff1d(np.arange(len(frame.true_boxes)), found)
        for index in frame.true_classes[missed]:
            counts[index, BACKGROUND] += 1
    return counts
