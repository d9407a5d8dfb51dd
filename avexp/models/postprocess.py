"""Decoded outputs -> Predictions, with hyper-parameters of its own: swept on a saved checkpoint, without retraining.

Works on NumPy arrays, so that a checkpoint's and a plan's outputs go the same way.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from avexp.records.prediction import Floats, Ints, Prediction

Arrays = Mapping[str, npt.NDArray[Any]]
LaneResult = tuple[list[Floats], Floats, Ints]
"""Polylines, scores, slots."""


class LaneReader(Protocol):
    """Lane outputs of one frame -> polylines in camera pixels, near to far."""

    def __call__(self, outputs: Arrays, constants: Mapping[str, Any]) -> LaneResult:
        """Polylines [P, 2], scores, slots."""


class RowLanes:
    """One lane a slot: the longest run of rows whose score is high enough; a stray row elsewhere is no lane.

    Args:
        score_min: of a row to be kept.
        rows_min: rows that a lane needs.
    """

    def __init__(self, score_min: float = 0.5, rows_min: int = 3) -> None:
        self.score_min, self.rows_min = score_min, rows_min

    def __call__(self, outputs: Arrays, constants: Mapping[str, Any]) -> LaneResult:
        """From ``lane_x`` and ``lane_score`` [S, R]."""
        rows = np.asarray(constants["lane_rows_px"], np.float32)
        lanes, scores, slots = [], [], []
        for x, score, slot in zip(outputs["lane_x"], outputs["lane_score"], constants["lane_slots"], strict=True):
            kept = longest_run(score >= self.score_min)[::-1]
            if len(kept) >= self.rows_min:
                lanes.append(_to_cell_ends(np.stack([x[kept], rows[kept]], 1).astype(np.float32), rows))
                scores.append(float(score[kept].mean()))
                slots.append(int(slot))
        return lanes, np.array(scores, np.float32), np.array(slots, np.int64)


class ClusteredLanes:
    """Any number of lanes: cells of the lane map above a score are clustered by DBSCAN (Ester et al. 1996), each cluster
    becomes a polyline. A checkpoint's outputs have the map; a plan's do not.

    Args:
        score_min: of a cell to be kept.
        eps_cells: neighbourhood, in cells.
        points_min: cells that make a core.
        row_stretch: rows count this much less than columns: lanes run along rows' normal.
        rows_min: rows that a lane needs.
    """

    def __init__(
        self,
        score_min: float = 0.4,
        eps_cells: float = 1.6,
        points_min: int = 3,
        row_stretch: float = 0.5,
        rows_min: int = 3,
    ) -> None:
        self.score_min, self.eps_cells, self.points_min = score_min, eps_cells, points_min
        self.row_stretch, self.rows_min = row_stretch, rows_min

    def __call__(self, outputs: Arrays, constants: Mapping[str, Any]) -> LaneResult:
        """From ``lane_map`` [R, columns] of scores.

        Raises:
            KeyError: the outputs have no lane map (a plan's).
        """
        from sklearn.cluster import DBSCAN

        score = outputs["lane_map"]
        rows_px = np.asarray(constants["lane_rows_px"], np.float32)
        cell_px = float(rows_px[1] - rows_px[0])
        rows, columns = np.nonzero(score >= self.score_min)
        lanes: list[Floats] = []
        scores: list[float] = []
        if len(rows) >= self.points_min:
            points = np.stack([columns, rows * self.row_stretch], 1)
            labels = DBSCAN(eps=self.eps_cells, min_samples=self.points_min).fit(points).labels_
            for label in range(int(labels.max()) + 1):
                mine = labels == label
                line = self._line(rows[mine], columns[mine], score[rows[mine], columns[mine]], rows_px, cell_px)
                if len(line) >= self.rows_min:
                    lanes.append(line)
                    scores.append(float(score[rows[mine], columns[mine]].mean()))
        return lanes, np.array(scores, np.float32), np.zeros(len(lanes), np.int64)

    @staticmethod
    def _line(rows: Ints, columns: Ints, score: Floats, rows_px: Floats, cell_px: float) -> Floats:
        """Score-weighted mean column a row, near to far."""
        line = []
        for row in sorted(set(rows.tolist()), reverse=True):
            mine = rows == row
            line.append((float(np.average(columns[mine] + 0.5, weights=score[mine])) * cell_px, float(rows_px[row])))
        return np.array(line, np.float32).reshape(-1, 2)


class ObjectFilter:
    """Which of the decoded objects are kept.

    Args:
        score_min: least score. KPIs want it low; a picture wants it high.
        nms_iou: of two boxes of one class that overlap more than this, the lower score goes; None to keep all (peaks of
            a heatmap seldom need it).
    """

    def __init__(self, score_min: float = 0.05, nms_iou: float | None = 0.6) -> None:
        self.score_min, self.nms_iou = score_min, nms_iou

    def keep(self, boxes: Floats, scores: Floats, classes: Ints) -> Ints:
        """Indices of the kept, best first."""
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= self.score_min]
        if self.nms_iou is None:
            return np.asarray(order, np.int64)
        kept: list[int] = []
        for index in order:
            rivals = [other for other in kept if classes[other] == classes[index]]
            if not rivals or float(_ious(boxes[index], boxes[rivals]).max()) <= self.nms_iou:
                kept.append(int(index))
        return np.array(kept, np.int64)


class Postprocess:
    """All tasks of one frame.

    Args:
        objects: which objects are kept.
        lanes: how lane outputs become polylines.
    """

    def __init__(self, objects: ObjectFilter | None = None, lanes: LaneReader | None = None) -> None:
        self.objects, self.lanes = objects or ObjectFilter(), lanes or RowLanes()

    def __call__(self, outputs: Arrays, constants: Mapping[str, Any], image_size: tuple[int, int]) -> list[Prediction]:
        """Batched outputs [B, ...] -> one Prediction a frame.

        Args:
            outputs: decoded outputs by name.
            constants: of the heads (class names, lane rows).
            image_size: camera image (width, height) [px]: boxes are clipped to it.
        """
        count = len(next(iter(outputs.values())))
        frames = [{name: value[index] for name, value in outputs.items()} for index in range(count)]
        return [self._frame(frame, constants, image_size) for frame in frames]

    def _frame(self, frame: Arrays, constants: Mapping[str, Any], image_size: tuple[int, int]) -> Prediction:
        fields: dict[str, Any] = {}
        if "boxes" in frame:
            boxes = frame["boxes"].astype(np.float32)
            boxes = np.clip(boxes, 0, np.array([*image_size, *image_size], np.float32))
            keep = self.objects.keep(boxes, frame["scores"], frame["classes"])
            fields |= {"boxes": boxes[keep]}
            fields |= {name: frame[name][keep] for name in ("scores", "classes", "distances", "states")}
        if "lane_x" in frame:
            fields["lanes"], fields["lane_scores"], fields["lane_slots"] = self.lanes(frame, constants)
        if "drivable" in frame:
            fields["drivable"] = frame["drivable"]
        if "path" in frame:
            fields |= {"path": frame["path"].astype(np.float32), "curvature": float(frame["curvature"])}
        return Prediction(**fields)


def longest_run(mask: npt.NDArray[np.bool_]) -> Ints:
    """Indices of the longest run of True; the later one of equals."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) == 0:
        return np.zeros(0, np.int64)
    best = len(starts) - 1 - int(np.argmax((ends - starts)[::-1]))
    return np.arange(starts[best], ends[best], dtype=np.int64)


def _to_cell_ends(line: Floats, rows_px: Floats) -> Floats:
    """A polyline through row centres, continued by half a row at both ends: that far its rows speak for it."""
    half = float(rows_px[1] - rows_px[0]) / 2
    ends = []
    for end, inner in ((line[0], line[1]), (line[-1], line[-2])):
        step = end - inner
        ends.append(end + step * (half / max(abs(float(step[1])), 1e-6)))
    return np.concatenate([ends[0][None], line, ends[1][None]]).astype(np.float32)


def _ious(box: Floats, others: Floats) -> Floats:
    """IoU of one box [4] with others [N, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(inner / np.maximum(areas - inner, 1e-6), np.float32)
