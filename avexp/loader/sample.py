"""One row of a dataset -> arrays: the decoded image and the labels that one camera shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import name_hash
from avexp.core.errors import DataError
from avexp.loader.decode import Image, decode
from avexp.records.dataset import CONDITIONS, Dataset
from avexp.records.frame import EgoState
from avexp.records.labels import LIGHT_STATES, TASKS, IgnoreRegion, LabelFile, Labels
from avexp.records.session import Sensor

Floats = npt.NDArray[np.float32]
NAN = float("nan")
AHEAD_RAD, AHEAD_M = 0.05, 0.5
"""How far a camera that looks ahead may be turned, and stand off the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One frame of one camera.

    Attributes:
        key: ``<session>/<timestamp_ns>.<sensor>``; empty for a filler that counts nowhere.
        image: uint8 [h, w, 3] RGB.
        image_size: full size (width, height) [px] that the labels refer to.
        labels: of the chosen annotator; None where there are none.
        sensor: the camera's name.
        arrays: padded-to-be label arrays by Batch field.
    """

    key: str
    image: Image
    image_size: tuple[int, int]
    labels: Labels | None
    sensor: str
    arrays: dict[str, npt.NDArray[Any]]


def read_sample(dataset: Dataset, row: int, least_width_px: int | None) -> Sample:
    """Read, check and decode one row.

    Raises:
        DataError: names shard, key and reason.
    """
    key, sensor = dataset.key(row), dataset.sensor(row)
    content = dataset.read(row, "image")
    if content is None:
        raise DataError(key, "no image in this frame", "ingest it again")
    image, size = decode(content, key, least_width_px)
    labels = read_labels(dataset, row, key)
    ego_json = dataset.read(row, "ego")
    ego = EgoState.from_json(ego_json, key) if ego_json else EgoState()
    arrays = label_arrays(labels, sensor, dataset.manifest.object_classes, size)
    entry = dataset.rows[row]
    arrays["conditions"] = np.array([int(entry[name]) for name in CONDITIONS], np.int64)
    arrays["speed"] = np.array([NAN if ego.speed_mps is None else ego.speed_mps], np.float32)
    arrays["camera_matrix"], arrays["camera_pose"] = camera_arrays(_camera(dataset, row, sensor))
    return Sample(key=key, image=image, image_size=size, labels=labels, sensor=sensor, arrays=arrays)


def read_labels(dataset: Dataset, row: int, key: str) -> Labels | None:
    """Labels of the dataset's best annotator for one row; None where there are none.

    Raises:
        DataError: the labels are damaged or wrong.
    """
    content = dataset.read(row, "labels")
    if content is None:
        return None
    file = LabelFile.from_json(content, key)
    wanted = dataset.manifest.recipe.get("annotators") or []
    if not wanted:
        return file.labels[0] if file.labels else None
    by_name = {labels.annotator.name: labels for labels in file.labels}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _camera(dataset: Dataset, row: int, sensor: str) -> Sensor | None:
    try:
        return dataset.session(row).camera(sensor)
    except KeyError:
        return None


def camera_arrays(camera: Sensor | None) -> tuple[Floats, Floats]:
    """K [3, 3] [px] and pose [3] (height [m], pitch down [rad], forward [m]) of a camera that looks ahead; NaN where unknown.

    A pose of three numbers cannot describe a camera that stands or looks aside: it is unknown then.
    """
    matrix, pose = np.full((3, 3), NAN, np.float32), np.full(3, NAN, np.float32)
    if camera is not None and camera.intrinsics is not None and camera.intrinsics.camera_matrix is not None:
        matrix = np.array(camera.intrinsics.camera_matrix, np.float32)
    if camera is not None and camera.extrinsics is not None:
        w, x, y, z = camera.extrinsics.rotation_wxyz
        # the camera's z axis (forward) in vehicle axes; its downward slope is the pitch
        forward_x, forward_y, forward_z = 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)
        if abs(np.arctan2(forward_y, forward_x)) > AHEAD_RAD or abs(camera.extrinsics.translation_m[1]) > AHEAD_M:
            return matrix, pose
        pose = np.array(
            [
                camera.extrinsics.translation_m[2],
                -np.arcsin(np.clip(forward_z, -1, 1)),
                camera.extrinsics.translation_m[0],
            ],
            np.float32,
        )
    return matrix, pose


def label_arrays(
    labels: Labels | None, sensor: str, classes: list[str], size: tuple[int, int]
) -> dict[str, npt.NDArray[Any]]:
    """The labels of one camera as arrays, by Batch field; unknown classes become ignore boxes."""
    labelled = np.array([labels is not None and task in labels.tasks for task in TASKS])
    boxes: list[tuple[float, ...]] = []
    ignore: list[tuple[float, ...]] = []
    facts: list[tuple[int, float, int]] = []
    for thing in labels.objects if labels else []:
        box = thing.box2d.get(sensor)
        if box is None:
            continue
        corners = (box.x1, box.y1, box.x2, box.y2)
        if thing.category not in classes:
            ignore.append(corners)
            continue
        boxes.append(corners)
        state = thing.attributes.get("state", "")
        code = LIGHT_STATES.index(state) if state in LIGHT_STATES else -1
        facts.append((classes.index(thing.category), NAN if thing.distance_m is None else thing.distance_m, code))
    ignore += [region.box for region in (labels.ignore if labels else []) if _counts(region, sensor)]
    lanes = [lane.image[sensor] for lane in (labels.lanes if labels else []) if len(lane.image.get(sensor, [])) > 1]
    rings = [ring for region in (labels.drivable if labels else []) if region.sensor == sensor for ring in region.rings]
    path = labels.path if labels else None
    future = [(t, *xy) for t, xy in zip(path.times_s, path.positions_m, strict=True)] if path else []
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "classes": np.array([fact[0] for fact in facts], np.int64),
        "distances": np.array([fact[1] for fact in facts], np.float32),
        "states": np.array([fact[2] for fact in facts], np.int64),
        "ignore": np.array(ignore, np.float32).reshape(-1, 4),
        "lanes": _ragged(lanes),
        "rings": _ragged(rings),
        "path": np.array(future, np.float32).reshape(-1, 3),
        "curvature": np.array([path.curvature_1pm if path else NAN], np.float32),
        "labelled": labelled,
    }


def _ragged(lines: list[list[tuple[float, float]]]) -> Floats:
    """[L, P, 2], padded with NaN."""
    padded = np.full((len(lines), max((len(line) for line in lines), default=0), 2), NAN, np.float32)
    for row, line in enumerate(lines):
        padded[row, : len(line)] = line
    return padded


def filler(like: Sample | None, size: tuple[int, int], classes: list[str], key: str = "") -> Sample:
    """A black frame without labels: keeps a batch's shape and adds no loss."""
    image = np.zeros_like(like.image) if like is not None else np.zeros((size[1], size[0], 3), np.uint8)
    arrays = label_arrays(None, "", classes, size)
    arrays["conditions"] = np.array([len(values) - 1 for values in CONDITIONS.values()], np.int64)
    arrays["speed"] = np.full(1, NAN, np.float32)
    arrays["camera_matrix"], arrays["camera_pose"] = camera_arrays(None)
    full = like.image_size if like is not None else size
    return Sample(key=key, image=image, image_size=full, labels=None, sensor="", arrays=arrays)


def key_hash(key: str) -> int:
    """What a frame's augmentation is drawn from."""
    return name_hash(key) << 32 | name_hash(key[::-1])


def _counts(region: IgnoreRegion, sensor: str) -> bool:
    """Whether a region is ignored by objects in this camera."""
    return region.sensor == sensor and "objects" in region.tasks
