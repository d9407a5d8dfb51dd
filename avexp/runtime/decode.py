"""Raw outputs of one frame -> objects, lanes, drivable area and path as plain values, by the manifest's constants.

The same rules as those that the plan was judged with (boxes cut to the image, overlapping boxes of one class removed, lanes
one run of rows, their ends half a row beyond the last row centres): what the car sees is what was proven.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from .errors import BundleError

DEFAULTS = {"score_min": 0.3, "nms_iou": 0.6, "lane_score_min": 0.5, "lane_rows_min": 3}
"""Used where the manifest's ``outputs.decode`` does not say otherwise."""
LANE_POINTS_MIN = 2


def decode_frame(
    outputs: Dict[str, np.ndarray],
    constants: Dict[str, Any],
    frame_px: Tuple[int, int],
    score_min: Optional[float] = None,
) -> Dict[str, Any]:
    """One frame.

    Args:
        outputs: of one frame, by name.
        constants: the manifest's ``outputs``.
        frame_px: (width, height) [px] of the frame.
        score_min: least score of an object; the manifest's if None.

    Returns:
        ``objects``: category, score, box [px], distance [m], state of lights. ``lanes``: position, score, points [px], near
        to far. ``drivable``: uint8 [h, w]. ``path``: points [m] at the arc lengths ``path_arc_m`` [m], and ``curvature`` [1/m].

    Raises:
        BundleError: an output is not finite; a silent NaN would read as an empty road.
    """
    for name, value in outputs.items():
        if np.asarray(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise BundleError(name, "the plan gave a value that is not finite", "do not drive on this frame")
    rules = dict(DEFAULTS, **constants.get("decode", {}))
    if score_min is not None:
        rules["score_min"] = score_min
    found: Dict[str, Any] = {}
    if "boxes" in outputs:
        found["objects"] = _objects(outputs, constants, frame_px, rules)
    if "lane_x" in outputs:
        found["lanes"] = _lanes(outputs, constants, rules)
    if "drivable" in outputs:
        found["drivable"] = outputs["drivable"]
    if "path" in outputs:
        found["path"] = outputs["path"].tolist()
        found["path_arc_m"] = list(constants.get("path_arc_m", []))
        found["curvature"] = float(outputs["curvature"])
    return found


def _objects(
    outputs: Dict[str, np.ndarray], constants: Dict[str, Any], frame_px: Tuple[int, int], rules: Dict[str, Any]
) -> List[Dict[str, Any]]:
    boxes = np.clip(outputs["boxes"], 0, np.array([*frame_px, *frame_px], np.float32))
    objects = []
    for index in _kept(boxes, outputs["scores"], outputs["classes"], rules):
        category = constants["classes"][int(outputs["classes"][index])]
        thing = {
            "category": category,
            "score": float(outputs["scores"][index]),
            "box": [float(side) for side in boxes[index]],
            "distance_m": float(outputs["distances"][index]),
        }
        if category == "light":
            thing["state"] = constants["states"][int(outputs["states"][index])]
        objects.append(thing)
    return objects


def _kept(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, rules: Dict[str, Any]) -> List[int]:
    """Indices, best first; of boxes of one class that overlap too much, only the best."""
    kept: List[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] < rules["score_min"]:
            break
        rivals = [other for other in kept if classes[other] == classes[index]]
        limit = rules["nms_iou"]
        if limit is None or not rivals or _most_iou(boxes[index], boxes[rivals]) <= limit:
            kept.append(int(index))
    return kept


def _most_iou(box: np.ndarray, others: np.ndarray) -> float:
    """Largest IoU of a box [4] with others [N, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return float((inner / np.maximum(areas - inner, 1e-6)).max())


def _lanes(outputs: Dict[str, np.ndarray], constants: Dict[str, Any], rules: Dict[str, Any]) -> List[Dict[str, Any]]:
    lanes = []
    rows = np.asarray(constants["lane_rows_px"], np.float32)
    for x, score, slot in zip(outputs["lane_x"], outputs["lane_score"], constants["lane_slots"]):
        kept = _longest_run(score >= rules["lane_score_min"])[::-1]
        if len(kept) >= max(LANE_POINTS_MIN, int(rules["lane_rows_min"])):
            line = _to_row_ends(np.stack([x[kept], rows[kept]], 1).astype(np.float32), float(rows[1] - rows[0]) / 2)
            lanes.append({"position": int(slot), "score": float(score[kept].mean()), "points": line.tolist()})
    return lanes


def _longest_run(mask: np.ndarray) -> np.ndarray:
    """Indices of the longest run of True, the later of equals: a stray row elsewhere is no lane."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) == 0:
        return np.zeros(0, np.int64)
    best = len(starts) - 1 - int(np.argmax((ends - starts)[::-1]))
    return np.arange(starts[best], ends[best])


def _to_row_ends(line: np.ndarray, half_px: float) -> np.ndarray:
    """A polyline through row centres, continued by half a row at both ends: that far its rows speak for it."""
    ends = []
    for end, inner in ((line[0], line[1]), (line[-1], line[-2])):
        step = end - inner
        ends.append(end + step * (half_px / max(abs(float(step[1])), 1e-6)))
    return np.concatenate([ends[0][None], line, ends[1][None]]).astype(np.float32)
