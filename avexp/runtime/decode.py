"""Raw outputs of one frame -> objects, lanes, drivable area and path as plain values, by the manifest's constants."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np

LANE_SCORE_MIN = 0.5
LANE_ROWS_MIN = 3


def decode_frame(outputs: Dict[str, np.ndarray], constants: Dict[str, Any], score_min: float = 0.3) -> Dict[str, Any]:
    """One frame.

    Args:
        outputs: of one frame, by name.
        constants: the manifest's ``outputs``.
        score_min: least score of an object.

    Returns:
        ``objects``: category, score, box [px], distance [m], state of lights. ``lanes``: position, score, points [px], near
        to far. ``drivable``: uint8 [h, w]. ``path``: points [m] at arc lengths, and ``curvature`` [1/m].
    """
    found: Dict[str, Any] = {}
    if "boxes" in outputs:
        found["objects"] = _objects(outputs, constants, score_min)
    if "lane_x" in outputs:
        found["lanes"] = _lanes(outputs, constants)
    if "drivable" in outputs:
        found["drivable"] = outputs["drivable"]
    if "path" in outputs:
        found["path"] = outputs["path"].tolist()
        found["curvature"] = float(outputs["curvature"])
    return found


def _objects(outputs: Dict[str, np.ndarray], constants: Dict[str, Any], score_min: float) -> List[Dict[str, Any]]:
    objects = []
    for index in np.flatnonzero(outputs["scores"] >= score_min):
        category = constants["classes"][int(outputs["classes"][index])]
        thing = {
            "category": category,
            "score": float(outputs["scores"][index]),
            "box": [float(side) for side in outputs["boxes"][index]],
            "distance_m": float(outputs["distances"][index]),
        }
        if category == "light":
            thing["state"] = constants["states"][int(outputs["states"][index])]
        objects.append(thing)
    return objects


def _lanes(outputs: Dict[str, np.ndarray], constants: Dict[str, Any]) -> List[Dict[str, Any]]:
    lanes = []
    rows = constants["lane_rows_px"]
    for x, score, slot in zip(outputs["lane_x"], outputs["lane_score"], constants["lane_slots"]):
        kept = np.flatnonzero(score >= LANE_SCORE_MIN)[::-1]
        if len(kept) >= LANE_ROWS_MIN:
            points = [[float(x[row]), float(rows[row])] for row in kept]
            lanes.append({"position": int(slot), "score": float(score[kept].mean()), "points": points})
    return lanes
