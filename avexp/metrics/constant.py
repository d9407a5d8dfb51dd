"""The image-blind predictor: one answer for all frames, the best that the training labels allow.

It is the floor of every table: what a network gains above it, it gained by looking.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from avexp.metrics.lanes import TUSIMPLE_ROWS
from avexp.metrics.matching import MATCH_IOU, overlaps
from avexp.metrics.path import point_at
from avexp.metrics.segmentation import true_mask
from avexp.records.labels import LIGHT_STATES, Labels, Lane, Object
from avexp.records.prediction import Prediction

Singles = npt.NDArray[np.float32]

MASK_ROWS = 90
ARC_LENGTHS_M = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0)
BOXES_PER_CLASS = 10
MOST_CANDIDATES = 1500
"""True boxes per class that are tried as an answer; beyond that, evenly thinned."""


@dataclass(frozen=True, slots=True)
class ConstantPredictor:
    """Says the same of every frame."""

    answer: Prediction

    def predict(self) -> Prediction:
        """The one answer."""
        return self.answer

    @classmethod
    def fit(cls, truths: Sequence[Labels], sensor: str, image_size: tuple[int, int], classes: Sequence[str]) -> Self:
        """The best constant of each task that the labels have; None for the others.

        Args:
            truths: labels of training frames.
            sensor: camera name.
            image_size: width, height [px].
            classes: object class names, in the order of the prediction's indices.
        """
        by_task = {
            name: [truth for truth in truths if name in truth.tasks] for name in ("objects", "lanes", "drivable")
        }
        objects = _objects(by_task["objects"], sensor, classes)
        lanes = _lanes(by_task["lanes"], sensor, image_size)
        path = _path(truths)
        return cls(
            Prediction(
                boxes=objects[:, :4] if by_task["objects"] else None,
                scores=objects[:, 4],
                classes=objects[:, 5].astype(np.int64),
                distances=objects[:, 6],
                states=objects[:, 7].astype(np.int64),
                lanes=list(lanes.values()) if by_task["lanes"] else None,
                lane_scores=np.ones(len(lanes), np.float32),
                lane_slots=np.array(list(lanes), np.int64),
                drivable=_majority(by_task["drivable"], sensor, image_size),
                path=None if path is None else path[0],
                curvature=None if path is None else path[1],
            )
        )


def _objects(truths: Sequence[Labels], sensor: str, classes: Sequence[str]) -> Singles:
    """[N, 8]: box, score, class, distance, state; best score first."""
    rows: list[list[float]] = []
    for index, name in enumerate(classes):
        seen = [
            (number, thing)
            for number, truth in enumerate(truths)
            for thing in truth.objects
            if thing.category == name and sensor in thing.box2d
        ]
        step = max(-(-len(seen) // MOST_CANDIDATES), 1)
        rows += _frequent_boxes(seen[::step], sensor, index, step / max(len(truths), 1))
    return np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 8)


def _frequent_boxes(seen: list[tuple[int, Object]], sensor: str, index: int, share: float) -> list[list[float]]:
    """Greedy cover: the true box that hits most frames, then the one that hits most of what is left, and so on."""
    if not seen:
        return []
    things = [thing for _number, thing in seen]
    sides = [(box.x1, box.y1, box.x2, box.y2) for box in (thing.box2d[sensor] for thing in things)]
    boxes = np.array(sides, np.float32)
    near = overlaps(boxes, boxes) >= MATCH_IOU
    owner = np.array([number for number, _thing in seen])
    frames = (owner[:, None] == np.unique(owner)[None]).astype(np.float32)
    rows: list[list[float]] = []
    for _ in range(BOXES_PER_CLASS):
        hits = ((near.astype(np.float32) @ frames) > 0).sum(1)
        best = int(hits.argmax())
        if hits[best] == 0:
            break
        covered = np.flatnonzero(near[best])
        known = [things[place].distance_m for place in covered]
        distances = [value for value in known if value is not None]
        states = Counter(things[place].attributes.get("state", "off") for place in covered)
        state = states.most_common(1)[0][0]
        code = LIGHT_STATES.index(state) if state in LIGHT_STATES else 0
        distance = float(np.median(distances)) if distances else float("nan")
        rows.append([*boxes[best].tolist(), min(float(hits[best]) * share, 1.0), index, distance, code])
        near[:, covered] = False
    return rows


def _lanes(truths: Sequence[Labels], sensor: str, image_size: tuple[int, int]) -> dict[int, Singles]:
    """Position -> mean boundary [P, 2] px, near to far, in the rows that at least half the frames have."""
    width, height = image_size
    rows = TUSIMPLE_ROWS[::-1] * height
    gathered: dict[int, list[npt.NDArray[np.float64]]] = {}
    for truth in truths:
        lanes = [lane for lane in truth.lanes if len(lane.image.get(sensor, [])) > 1]
        for position, lane in _positions(lanes, sensor, width, height).items():
            points = np.array(sorted(lane.image[sensor], key=lambda point: point[1]))
            inside = (rows >= points[0, 1] - 1e-3) & (rows <= points[-1, 1] + 1e-3)
            x = np.interp(rows, points[:, 1], points[:, 0])
            gathered.setdefault(position, []).append(np.where(inside & (x >= 0) & (x <= width), x, np.nan))
    result = {}
    for position, lines in sorted(gathered.items()):
        table = np.array(lines)
        kept = np.isfinite(table).sum(0) * 2 >= len(truths)
        if kept.sum() > 1:
            result[position] = np.stack([np.nanmean(table[:, kept], 0), rows[kept]], 1).astype(np.float32)
    return result


def _positions(lanes: list[Lane], sensor: str, width: int, height: int) -> dict[int, Lane]:
    """Lanes by place seen from the car: as labelled, else counted from the image's middle at its bottom."""
    placed = {lane.position: lane for lane in lanes if lane.position is not None}
    if len(placed) == len(lanes):
        return placed
    feet = []
    for lane in lanes:
        (x1, y1), (x2, y2) = sorted(lane.image[sensor], key=lambda point: -point[1])[:2]
        slope = (x1 - x2) / (y1 - y2) if y1 != y2 else 0.0
        feet.append((x1 + slope * (height - y1) - width / 2, lane))
    left = sorted((foot for foot in feet if foot[0] < 0), key=lambda foot: -foot[0])
    right = sorted((foot for foot in feet if foot[0] >= 0), key=lambda foot: foot[0])
    placed = {-number: lane for number, (_foot, lane) in enumerate(left, 1)}
    return placed | {number: lane for number, (_foot, lane) in enumerate(right, 1)}


def _majority(truths: Sequence[Labels], sensor: str, image_size: tuple[int, int]) -> npt.NDArray[np.uint8] | None:
    """uint8 [h, w]: cells that are drivable in at least half of the frames."""
    if not truths:
        return None
    size = (round(MASK_ROWS * image_size[0] / image_size[1]), MASK_ROWS)
    total = np.zeros((size[1], size[0]), np.int64)
    for truth in truths:
        total += true_mask(truth, sensor, size, image_size)
    return (2 * total >= len(truths)).astype(np.uint8)


def _path(truths: Sequence[Labels]) -> tuple[Singles, float] | None:
    """Mean point at each arc length, over the paths that reach it, and mean curvature."""
    paths = [truth.path for truth in truths if "path" in truth.tasks and truth.path is not None]
    paths = [path for path in paths if path.positions_m]
    if not paths:
        return None
    lines = [np.array(path.positions_m, np.float32) for path in paths]
    steps = [np.diff(line, axis=0, prepend=np.zeros((1, 2))) for line in lines]
    lengths = [float(np.linalg.norm(step, axis=1).sum()) for step in steps]
    points = []
    for arc_m in ARC_LENGTHS_M:
        reaching = [point_at(line, arc_m) for line, length in zip(lines, lengths, strict=True) if length >= arc_m]
        if reaching:
            points.append(np.mean(reaching, 0))
    if not points:
        points.append(np.array([ARC_LENGTHS_M[0], 0.0]))
    return np.array(points, np.float32), float(np.mean([path.curvature_1pm for path in paths]))
