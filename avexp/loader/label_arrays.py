"""The labels of one frame as arrays, straight from their JSON.

The bytes were checked field by field when the dataset version was made (records.labels), and their crc32 says that they
are the same: here only what a network learns from is parsed, which costs a sixth of checking all of it again.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.records.labels import LIGHT_STATES, TASKS

Arrays = dict[str, npt.NDArray[Any]]
Line = list[tuple[float, float]]
NAN = float("nan")
STATES = {name: code for code, name in enumerate(LIGHT_STATES)}


class _Box(msgspec.Struct):
    x1: float
    y1: float
    x2: float
    y2: float


class _Object(msgspec.Struct):
    category: str
    box2d: dict[str, _Box] = {}
    distance_m: float | None = None
    attributes: dict[str, str] = {}


class _Lane(msgspec.Struct):
    image: dict[str, Line] = {}


class _Region(msgspec.Struct):
    sensor: str
    rings: list[Line] = []


class _Path(msgspec.Struct):
    times_s: list[float]
    positions_m: Line
    curvature_1pm: float = 0.0


class _Ignore(msgspec.Struct):
    sensor: str
    box: tuple[float, float, float, float]
    tasks: tuple[str, ...] = ("objects",)


class _Annotator(msgspec.Struct):
    name: str


class _Labels(msgspec.Struct):
    annotator: _Annotator
    tasks: list[str]
    objects: list[_Object] = []
    lanes: list[_Lane] = []
    drivable: list[_Region] = []
    path: _Path | None = None
    ignore: list[_Ignore] = []


class _File(msgspec.Struct):
    labels: list[_Labels]


_DECODER = msgspec.json.Decoder(_File)


class LabelParser:
    """Label JSON -> arrays by Batch field.

    Args:
        classes: object classes by index; objects of others become ignore boxes.
        annotators: whose labels to take, best first; empty for the first of each frame.
    """

    def __init__(self, classes: Sequence[str], annotators: Sequence[str]) -> None:
        self.codes: Mapping[str, int] = {name: code for code, name in enumerate(classes)}
        self.annotators = list(annotators)

    def __call__(self, content: bytes | None, sensor: str, where: str) -> Arrays:
        """What one camera shows.

        Args:
            content: of the ``labels.json`` part; None where there is none.
            sensor: the camera.
            where: shard and key to name in an error.

        Raises:
            DataError: no label JSON.
        """
        labels = None
        if content is not None:
            try:
                labels = self._choose(_DECODER.decode(content).labels)
            except msgspec.DecodeError as fault:
                raise DataError(where, f"labels cannot be read ({fault})", "ingest the frame again") from None
        labelled = np.array([labels is not None and task in labels.tasks for task in TASKS])
        if labels is None:
            return {**self._objects([], [], sensor), **_lines([], [], None), "labelled": labelled}
        lanes = [lane.image[sensor] for lane in labels.lanes if len(lane.image.get(sensor, ())) > 1]
        rings = [ring for region in labels.drivable if region.sensor == sensor for ring in region.rings]
        objects = self._objects(labels.objects, labels.ignore, sensor)
        return {**objects, **_lines(lanes, rings, labels.path), "labelled": labelled}

    def _choose(self, all_labels: list[_Labels]) -> _Labels | None:
        if not self.annotators:
            return all_labels[0] if all_labels else None
        by_name = {labels.annotator.name: labels for labels in all_labels}
        return next((by_name[name] for name in self.annotators if name in by_name), None)

    def _objects(self, objects: Sequence[_Object], regions: Sequence[_Ignore], sensor: str) -> Arrays:
        boxes: list[tuple[float, ...]] = []
        ignore: list[tuple[float, ...]] = []
        facts: list[tuple[int, float, int]] = []
        for thing in objects:
            box = thing.box2d.get(sensor)
            if box is None:
                continue
            code = self.codes.get(thing.category)
            if code is None:
                ignore.append((box.x1, box.y1, box.x2, box.y2))
                continue
            boxes.append((box.x1, box.y1, box.x2, box.y2))
            state = STATES.get(thing.attributes.get("state", ""), -1) if thing.attributes else -1
            facts.append((code, NAN if thing.distance_m is None else thing.distance_m, state))
        ignore += [region.box for region in regions if region.sensor == sensor and "objects" in region.tasks]
        columns = flat(facts).reshape(-1, 3)
        return {
            "boxes": flat(boxes).reshape(-1, 4),
            "classes": columns[:, 0].astype(np.int64),
            "distances": columns[:, 1],
            "states": columns[:, 2].astype(np.int64),
            "ignore": flat(ignore).reshape(-1, 4),
        }


def _lines(lanes: list[Line], rings: list[Line], path: _Path | None) -> Arrays:
    future = [(t, x, y) for t, (x, y) in zip(path.times_s, path.positions_m, strict=True)] if path else []
    return {
        "lanes": _ragged(lanes),
        "rings": _ragged(rings),
        "path": flat(future).reshape(-1, 3),
        "curvature": np.array([path.curvature_1pm if path else NAN], np.float32),
    }


def _ragged(lines: list[Line]) -> npt.NDArray[np.float32]:
    """[L, P, 2], padded with NaN."""
    padded = np.full((len(lines), max(map(len, lines), default=0), 2), NAN, np.float32)
    for row, line in enumerate(lines):
        padded[row, : len(line)] = flat(line).reshape(-1, 2)
    return padded


def flat(rows: Sequence[tuple[float, ...]]) -> npt.NDArray[np.float32]:
    """All numbers of rows in one array: half the time that np.array takes for a list of tuples."""
    return np.fromiter(chain.from_iterable(rows), np.float32)
