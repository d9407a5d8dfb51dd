"""Average precision of objects, by the COCO benchmark's own arithmetic (faster-coco-eval)."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from avexp.metrics.matching import MOST_PER_CLASS, FrameObjects

COCO_IOUS = tuple(0.5 + 0.05 * step for step in range(10))


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """AP with 101-point interpolation; a class without truth is left out of every mean.

    Attributes:
        ap50: mean over classes at IoU 0.5; NaN where no class has truth.
        ap50_95: mean over classes and IoU 0.5, 0.55 ... 0.95.
        ap50_of: by class at IoU 0.5.
        ap50_95_of: by class over all thresholds.
    """

    ap50: float
    ap50_95: float
    ap50_of: dict[str, float]
    ap50_95_of: dict[str, float]


def average_precision(frames: list[FrameObjects], classes: list[str]) -> AveragePrecision:
    """AP of predicted objects over frames; ignore regions are crowds of their class, or of every class.

    Args:
        frames: predicted and true objects of each frame.
        classes: class names that the indices of the frames refer to.
    """
    if not any(len(frame.true_boxes) for frame in frames):
        return AveragePrecision(float("nan"), float("nan"), {}, {})
    from faster_coco_eval import COCO, COCOeval_faster

    with redirect_stdout(io.StringIO()):
        truth = COCO(_coco_truth(frames, classes), print_function=_silent)
        found = truth.loadRes(_coco_found(frames))
        judge = COCOeval_faster(truth, found, "bbox", print_function=_silent)
        judge.params.areaRng, judge.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        judge.params.maxDets = [MOST_PER_CLASS]
        judge.params.iouThrs = np.array(COCO_IOUS)
        judge.evaluate()
        judge.accumulate()
    # [thresholds, recalls, classes, areas, limits]; -1 for a class without truth
    precision = np.asarray(judge.eval["precision"], np.float64)[:, :, :, 0, 0]
    seen = [(index, name) for index, name in enumerate(classes) if precision[0, 0, index] >= 0]
    at50 = {name: float(precision[0, :, index].mean()) for index, name in seen}
    over_all = {name: float(precision[:, :, index].mean()) for index, name in seen}
    return AveragePrecision(
        float(np.mean(list(at50.values()))), float(np.mean(list(over_all.values()))), at50, over_all
    )


def _silent(*_words: object) -> None:
    """The library's output goes nowhere: it would break progress bars."""


def _xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def _coco_truth(frames: list[FrameObjects], classes: list[str]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []

    def add(image: int, category: int, box: Any, crowd: int) -> None:
        sides = _xywh(box)
        entry = {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": sides}
        annotations.append({**entry, "area": sides[2] * sides[3], "iscrowd": crowd})

    for number, frame in enumerate(frames, 1):
        for box, index in zip(frame.true_boxes, frame.true_classes, strict=True):
            add(number, int(index) + 1, box, 0)
        for box, wanted in zip(frame.ignore, frame.ignore_classes, strict=True):
            for index in range(len(classes)) if wanted < 0 else [int(wanted)]:
                add(number, index + 1, box, 1)
    return {
        "info": {},
        "images": [{"id": number} for number in range(1, len(frames) + 1)],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(classes)],
        "annotations": annotations,
    }


def _coco_found(frames: list[FrameObjects]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(index) + 1, "bbox": _xywh(box), "score": float(score)}
        for number, frame in enumerate(frames, 1)
        for box, index, score in zip(frame.boxes, frame.classes, frame.scores, strict=True)
    ]
