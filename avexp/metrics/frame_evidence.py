"""What one frame contributes to the KPIs: small sums, and the objects with their matches.

Most KPIs are a ratio of sums over frames (F1 = 2 tp / (2 tp + fp + fn), a mean error = sum / count), so a frame needs to keep
only its numerator and denominator; average precision and calibration need its objects.
"""

from dataclasses import dataclass, field

import numpy as np

from avexp.metrics.difficulty import MODERATE
from avexp.metrics.lanes import culane_counts, true_lanes, tusimple_score
from avexp.metrics.matching import FrameMatches, FrameObjects, match
from avexp.metrics.path import HORIZONS_S, path_error_m
from avexp.metrics.segmentation import iou_counts
from avexp.records.labels import Labels, Path
from avexp.records.prediction import Prediction

Sums = dict[str, tuple[float, float]]
"""KPI name -> numerator, denominator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEvidence:
    """One frame's contribution.

    Attributes:
        conditions: such as ``{"light": "night", "weather": "rain", "road": "urban"}``.
        objects: predicted and true objects up to moderate difficulty; None where the frame says nothing about them.
        matches: of the objects at IoU 0.5.
        every: all labelled objects, and ``every_match`` their matches.
        sums: numerator and denominator by KPI.
    """

    conditions: dict[str, str]
    objects: FrameObjects | None = None
    matches: FrameMatches | None = None
    every: FrameObjects | None = None
    every_match: FrameMatches | None = None
    sums: Sums = field(default_factory=dict)


def gather(
    prediction: Prediction, truth: Labels, sensor: str, image_size: tuple[int, int], classes: list[str]
) -> FrameEvidence:
    """Hold a prediction against the truth of one camera, task by task.

    Args:
        prediction: what was predicted; tasks that are None say nothing.
        truth: labels; tasks that were not labelled say nothing.
        sensor: camera name.
        image_size: width, height [px] that both refer to.
        classes: class names that the prediction's indices refer to.
    """
    conditions = {name: value.value for name, value in truth.conditions}
    sums: Sums = {}
    objects = matches = every = every_match = None
    if "objects" in truth.tasks and prediction.boxes is not None:
        objects = FrameObjects.of(prediction, truth, sensor, classes, image_size[1], MODERATE)
        every = FrameObjects.of(prediction, truth, sensor, classes)
        matches, every_match = match(objects), match(every)
        sums |= _object_sums(objects, matches)
    if "lanes" in truth.tasks and prediction.lanes is not None:
        sums |= _lane_sums(prediction, truth, sensor, image_size)
    if "drivable" in truth.tasks and prediction.drivable is not None:
        sums["drivable/iou"] = iou_counts(prediction.drivable, truth, sensor, image_size)
    if "path" in truth.tasks and truth.path is not None:
        sums |= _path_sums(prediction, truth.path)
    return FrameEvidence(
        conditions=conditions, objects=objects, matches=matches, every=every, every_match=every_match, sums=sums
    )


def _object_sums(objects: FrameObjects, matches: FrameMatches) -> Sums:
    said, found = np.flatnonzero(matches.hit), matches.truth[matches.hit]
    gaps = np.abs(objects.distances[said] - objects.true_distances[found])
    gaps = gaps[np.isfinite(gaps)]
    true_states, states = objects.true_states[found], objects.states[said]
    lit = (true_states >= 0) & (states >= 0)
    return {
        "objects/distance_error_m": (float(gaps.sum()), float(len(gaps))),
        "objects/light_state_accuracy": (float((states == true_states)[lit].sum()), float(lit.sum())),
    }


def _lane_sums(prediction: Prediction, truth: Labels, sensor: str, image_size: tuple[int, int]) -> Sums:
    wanted, said = true_lanes(truth, sensor), [line for line in prediction.lanes or [] if len(line) > 1]
    counts = culane_counts(said, wanted, image_size)
    sums: Sums = {
        "lanes/f1": (2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn),
        "lanes/precision": (counts.tp, counts.tp + counts.fp),
        "lanes/recall": (counts.tp, counts.tp + counts.fn),
    }
    # TuSimple's benchmark knows no frame without lanes: its score is defined by them
    if wanted:
        score = tusimple_score(said, wanted, image_size)
        sums["lanes/tusimple_accuracy"] = (score.accuracy, 1)
        sums["lanes/tusimple_fp"], sums["lanes/tusimple_fn"] = (score.fp, 1), (score.fn, 1)
    return sums


def _path_sums(prediction: Prediction, truth: Path) -> Sums:
    sums: Sums = {}
    if prediction.path is not None:
        errors = {horizon: path_error_m(prediction.path, truth, horizon) for horizon in HORIZONS_S}
        sums |= {f"path/error_{horizon:.0f}s_m": (error, 1) for horizon, error in errors.items() if error is not None}
    if prediction.curvature is not None:
        sums["path/curvature_mae_1pm"] = (abs(prediction.curvature - truth.curvature_1pm), 1)
    return sums
