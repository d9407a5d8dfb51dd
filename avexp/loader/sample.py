"""One row of a dataset -> the decoded image and the labels that one camera shows, as arrays."""

from dataclasses import dataclass
from threading import local

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import name_hash
from avexp.core.errors import DataError
from avexp.loader.decode import Image, decode_into, image_sizes
from avexp.loader.label_arrays import Arrays, LabelParser
from avexp.records.dataset import Dataset
from avexp.records.frame import EgoState
from avexp.records.index import CONDITIONS, Entry, conditions_of
from avexp.records.labels import LabelFile, Labels
from avexp.records.session import Sensor

Floats = npt.NDArray[np.float32]
NAN = float("nan")
AHEAD_RAD, AHEAD_M = 0.05, 0.5
"""How far a camera that looks ahead may be turned, and stand off the middle."""
PROBED = 64
"""Rows that are tried for one whose image tells the dataset's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One frame of one camera.

    Attributes:
        key: ``<session>/<timestamp_ns>.<sensor>``; empty for a filler that counts nowhere.
        image: uint8 [h, w, 3] RGB.
        image_size: the camera's full size (width, height) [px], which the labels refer to.
        arrays: label arrays by Batch field, still without padding.
    """

    key: str
    image: Image
    image_size: tuple[int, int]
    arrays: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A row of the index with its labels, as in Sample, before its image is decoded."""

    entry: Entry
    key: str
    image_size: tuple[int, int]
    arrays: Arrays


class SampleReader:
    """Reads rows of one dataset into memory that is there. Safe under threads.

    Args:
        dataset: opened.
        least_width_px: decode no smaller than this; None for full size.
        like: rows to learn the image size from: the first readable one counts.
    """

    def __init__(self, dataset: Dataset, least_width_px: int | None, like: npt.NDArray[np.int64]) -> None:
        self.dataset, self.least_width_px, self.like = dataset, least_width_px, like[:PROBED]
        recipe = dataset.manifest.recipe
        self.parse = LabelParser(dataset.manifest.object_classes, recipe.get("annotators") or [])
        self._cameras: dict[tuple[int, int], tuple[Floats, Floats, tuple[int, int] | None]] = {}
        self._buffers = local()
        self.stored_size, self.size = self._probe()

    def _probe(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size as stored, and as decoded, (width, height) [px]."""
        fault: DataError | None = None
        for row in self.like:
            try:
                content = self.dataset.read(int(row), "image")
                if content is not None:
                    return image_sizes(content, self.dataset.key(int(row)), self.least_width_px)
            except DataError as one:
                fault = fault or one
        if fault is not None:
            raise fault
        size = (self.dataset.manifest.image_sizes_px or [(640, 360)])[0]
        return size, size

    def read(self, row: int, out: Image) -> Sample:
        """Read, check and decode one row.

        Args:
            row: of the dataset's index.
            out: uint8 [h, w, 3] that the image is decoded into, of ``size``.

        Raises:
            DataError: names shard, key, offset and reason.
        """
        return self.shown(self.described(row), out)

    def described(self, row: int) -> Described:
        """All of a row but its image.

        Raises:
            DataError: as ``read``.
        """
        dataset, entry = self.dataset, self.dataset.entry(row)
        key, sensor = dataset.key_of(entry), dataset.manifest.sensors[entry.sensor]
        if entry.image_length == 0:
            raise DataError(key, "no image in this frame", "ingest it again")
        matrix, pose, size = self._camera(row, entry, sensor)
        arrays = self.parse(dataset.read_entry(entry, "labels"), sensor, key)
        arrays["conditions"] = np.array([entry.light, entry.weather, entry.road], np.int64)
        arrays["speed"] = np.array([self._speed(entry, key)], np.float32)
        arrays["camera_matrix"], arrays["camera_pose"] = matrix, pose
        return Described(entry=entry, key=key, image_size=size or self.stored_size, arrays=arrays)

    def shown(self, one: Described, out: Image) -> Sample:
        """With its image, decoded into ``out``.

        Raises:
            DataError: as ``read``.
        """
        dataset, entry = self.dataset, one.entry
        content = dataset.read_entry_into(entry, "image", self._buffer(entry.image_length))
        decode_into(content, f"{dataset.manifest.shards[entry.shard].path}:{one.key}@{entry.image_offset}", out)
        return Sample(key=one.key, image=out, image_size=one.image_size, arrays=one.arrays)

    def filler(self, out: Image, key: str = "") -> Sample:
        """A black frame without labels: keeps a batch's shape, adds no loss and counts nowhere."""
        out[:] = 0
        arrays = self.parse(None, "", "")
        arrays["conditions"] = np.array([len(values) - 1 for values in CONDITIONS.values()], np.int64)
        arrays["speed"] = np.full(1, NAN, np.float32)
        arrays["camera_matrix"], arrays["camera_pose"] = camera_arrays(None)
        return Sample(key=key, image=out, image_size=self.camera_size, arrays=arrays)

    @property
    def camera_size(self) -> tuple[int, int]:
        """Full size (width, height) [px] of the camera's image, which the stored one may be a rendition of."""
        sizes = self.dataset.manifest.image_sizes_px
        return sizes[0] if self.dataset.manifest.rendition is not None and sizes else self.stored_size

    def _speed(self, entry: Entry, key: str) -> float:
        content = self.dataset.read_entry(entry, "ego")
        speed = EgoState.from_json(content, key).speed_mps if content else None
        return NAN if speed is None else speed

    def _camera(self, row: int, entry: Entry, sensor: str) -> tuple[Floats, Floats, tuple[int, int] | None]:
        """K, pose, and the full size where a rendition is read; of each session's camera once."""
        found = self._cameras.get((entry.session, entry.sensor))
        if found is None:
            camera, size = _camera(self.dataset, row, sensor), None
            if self.dataset.manifest.rendition is not None and camera is not None and camera.intrinsics is not None:
                size = camera.intrinsics.width_px, camera.intrinsics.height_px
            found = self._cameras[entry.session, entry.sensor] = *camera_arrays(camera), size
        return found

    def _buffer(self, length: int) -> memoryview:
        """Memory of this thread, kept: fresh pages for each image cost a hundredth of decoding it."""
        buffer = getattr(self._buffers, "memory", None)
        if buffer is None or len(buffer) < length:
            buffer = self._buffers.memory = memoryview(bytearray(length * 5 // 4))
        return buffer[:length]


def read_sample(dataset: Dataset, row: int, least_width_px: int | None) -> Sample:
    """One row by itself.

    Raises:
        DataError: names shard, key and reason.
    """
    reader = SampleReader(dataset, least_width_px, np.array([row], np.int64))
    return reader.read(row, np.empty((reader.size[1], reader.size[0], 3), np.uint8))


def read_labels(dataset: Dataset, row: int, key: str) -> Labels | None:
    """Labels of the dataset's best annotator for one row, with the row's conditions; None where there are none.

    Raises:
        DataError: the labels are damaged or wrong.
    """
    entry = dataset.entry(row)
    content = dataset.read_entry(entry, "labels")
    if content is None:
        return None
    file = LabelFile.from_json(content, key)
    wanted = dataset.manifest.recipe.get("annotators") or []
    by_name = {labels.annotator.name: labels for labels in reversed(file.labels)}
    names = wanted or [labels.annotator.name for labels in file.labels[:1]]
    chosen = next((by_name[name] for name in names if name in by_name), None)
    return chosen and chosen.model_copy(update={"conditions": conditions_of(entry)})


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


def key_hash(key: str) -> int:
    """What a frame's augmentation is drawn from."""
    return name_hash(key) << 32 | name_hash(key[::-1])
