"""Making a dataset version: joins the frames of sessions with one annotator's labels and splits them."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from avexp.catalog.renditions import rendition_parts
from avexp.catalog.split import Split
from avexp.core.errors import DataError
from avexp.core.files import digest_json, write_bytes, write_text
from avexp.records.dataset import Dataset, DatasetManifest, DatasetShard, versions
from avexp.records.index import CONDITIONS, ROW, SPLITS
from avexp.records.labels import OBJECT_CLASSES, Conditions, LabelFile, Labels
from avexp.records.session import Rendition, Session
from avexp.records.shard import Part, ShardIndex, read_index, read_part

IMAGE_PARTS = ("jpg", "jpeg", "png")


def create_version(
    root: Path,
    name: str,
    session_ids: Sequence[str],
    split: Split,
    annotators: Sequence[str] = (),
    object_classes: Sequence[str] = OBJECT_CLASSES,
    recipe: dict[str, Any] | None = None,
    rendition: str | None = None,
    sensor: str | None = None,
) -> Dataset:
    """Make the next version of a dataset, or return the newest one if its content is the same.

    Args:
        root: storage root.
        name: of the dataset.
        session_ids: sessions to take, in this order.
        split: frames -> train, val, test.
        annotators: whose labels to take, best first; empty for the first of each frame.
        object_classes: the class list that networks on it will use.
        recipe: what made it, for its manifest.
        rendition: the stored form of the images to read; None for the originals.
        sensor: the camera to take; None for all.

    Raises:
        DataError: no frames, or a session cannot be read.
    """
    if not name or "@" in name or "/" in name:
        raise DataError(f"data.name={name}", "no good name for a dataset", "use letters, digits, - and _")
    builder = _Builder(root, list(object_classes), list(annotators), rendition, sensor)
    for session_id in session_ids:
        builder.add(Session.from_file(root / "sessions" / session_id / "session.json"), split)
    if not builder.rows:
        remedy = "check the sessions, the split and the sensor"
        raise DataError(f"dataset {name}", "no frames in it", remedy)
    rows = np.array(builder.rows, ROW)
    index = rows[np.argsort(rows["split"], kind="stable")].tobytes()
    return publish(root, name, builder.content(index, recipe or {}), index)


def publish(root: Path, name: str, content: dict[str, Any], index: bytes) -> Dataset:
    """The next version of a dataset; the newest one if its content is the same.

    It is written aside and renamed to the first free number, so that two writers never share one.

    Args:
        root: storage root.
        name: of the dataset.
        content: all of the manifest that its digest covers.
        index: rows, sorted by split.
    """
    digest = digest_json(content)
    numbers = versions(root, name)
    if numbers and (newest := Dataset.open(root, f"{name}@{numbers[-1]}")).manifest.digest == digest:
        return newest
    created = datetime.now(UTC).isoformat(timespec="seconds")
    while True:
        number = (versions(root, name) or [0])[-1] + 1
        folder = root / "datasets" / name / str(number)
        aside = folder.with_name(f".{number}.tmp{os.getpid()}")
        aside.mkdir(parents=True, exist_ok=True)
        manifest = DatasetManifest(name=name, version=number, digest=digest, created_utc=created, **content)
        write_bytes(aside / "index.bin", index)
        write_text(aside / "manifest.json", manifest.model_dump_json(indent=1))
        try:
            aside.rename(folder)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not folder.exists():
                raise
            continue
        return Dataset.open(root, f"{name}@{number}")


class _Builder:
    """Collects rows and counts."""

    def __init__(
        self,
        root: Path,
        object_classes: list[str],
        annotators: list[str],
        rendition: str | None = None,
        only: str | None = None,
    ) -> None:
        self.root, self.object_classes, self.annotators, self.wanted = root, object_classes, annotators, rendition
        self.only = only
        self.rendition: Rendition | None = None
        self._stored: dict[str, tuple[int, Part]] = {}
        self.rows: list[tuple[int, ...]] = []
        self.shards: list[DatasetShard] = []
        self.sessions: list[str] = []
        self.session_splits: dict[str, str] = {}
        self.sensors: list[str] = []
        self.sizes: set[tuple[int, int]] = set()
        self.classes: Counter[str] = Counter()
        self.conditions: Counter[str] = Counter()
        self.tasks: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self.found_annotators: set[str] = set()
        self.skipped = 0

    def add(self, session: Session, split: Split) -> None:
        """Add a session's frames."""
        indexes = [read_index(self.root / "sessions" / session.id / shard.file) for shard in session.shards]
        times = [_timestamp(key) for index in indexes for key in index.frames()]
        chosen = dict(zip(times, split(session, times), strict=True))
        self.sessions.append(session.id)
        self.skipped += len(session.skipped)
        for sensor in session.sensors:
            if sensor.kind == "camera" and sensor.intrinsics is not None and self.only in (None, sensor.name):
                self.sizes.add((sensor.intrinsics.width_px, sensor.intrinsics.height_px))
        if self.wanted is not None:
            self._add_rendition(session, self.wanted)
        for shard, index in zip(session.shards, indexes, strict=True):
            path = f"sessions/{session.id}/{shard.file}"
            self.shards.append(DatasetShard(path=path, bytes=shard.bytes, sha256=shard.sha256, frames=shard.frames))
            self._add_shard(session, index, chosen)
        parts = sorted({part for part in chosen.values() if part})
        self.session_splits[session.id] = "+".join(parts)

    def _add_rendition(self, session: Session, name: str) -> None:
        """Its shards, and where each image lies in them."""
        file, parts = rendition_parts(self.root, session.id, name)
        if self.rendition not in (None, file.rendition):
            where = f"{session.id}/renditions/{name}"
            raise DataError(where, "was made otherwise than that of other sessions", "remove it and make it again")
        self.rendition = file.rendition
        first = len(self.shards)
        for shard in file.shards:
            path = f"sessions/{session.id}/renditions/{name}/{shard.file}"
            self.shards.append(DatasetShard(path=path, bytes=shard.bytes, sha256=shard.sha256, frames=shard.frames))
        self._stored = {key: (first + number, part) for key, (number, part) in parts.items()}

    def _add_shard(self, session: Session, index: ShardIndex, chosen: dict[int, str | None]) -> None:
        handle = os.open(index.tar, os.O_RDONLY)
        try:
            for key, parts in index.frames().items():
                part = chosen[_timestamp(key)]
                if part is not None:
                    self._add_frame(session, key, parts, part, handle)
        finally:
            os.close(handle)

    def _add_frame(self, session: Session, key: str, parts: dict[str, Part], split: str, handle: int) -> None:
        labels = self._labels(parts.get("labels.json"), handle, key)
        conditions = labels.conditions if labels else session.conditions
        conditions = _filled(conditions, session.conditions)
        shard = len(self.shards) - 1
        values = {name: getattr(conditions, name).value for name in CONDITIONS}
        codes = [CONDITIONS[name].index(value) for name, value in values.items()]
        label_part, ego = parts.get("labels.json") if labels else None, parts.get("ego.json")
        for name, part in parts.items():
            sensor, _, extension = name.rpartition(".")
            if extension not in IMAGE_PARTS or self.only not in (None, sensor):
                continue
            if sensor not in self.sensors:
                self.sensors.append(sensor)
            image_shard, image = self._image(key, sensor, shard, part)
            place = (_timestamp(key), image_shard, len(self.sessions) - 1, self.sensors.index(sensor))
            row = [*place, SPLITS.index(split), *codes, image.length, image.offset, image.crc32, shard]
            for other in (label_part, ego):
                row += (other.offset, other.length, other.crc32) if other else (0, 0, 0)
            self.rows.append((*row, shard, self._classes(labels, sensor)))
            self.splits[split] += 1
        self._count(labels, list(values.values()), split)

    def _image(self, key: str, sensor: str, shard: int, original: Part) -> tuple[int, Part]:
        """Shard and part of the wanted form of an image."""
        if self.wanted is None:
            return shard, original
        found = self._stored.get(f"{key}.{sensor}")
        if found is None:
            raise DataError(f"{key}.{sensor}", f"is not in rendition {self.wanted}", "remove it and make it again")
        return found

    def _classes(self, labels: Labels | None, sensor: str) -> int:
        """Bit i: an object of class i is labelled in this camera."""
        seen = {thing.category for thing in labels.objects if sensor in thing.box2d} if labels else set()
        return sum(1 << place for place, name in enumerate(self.object_classes[:64]) if name in seen)

    def _labels(self, part: Part | None, handle: int, key: str) -> Labels | None:
        if part is None:
            return None
        content = read_part(handle, key, part.offset, part.length, part.crc32)
        labels = choose_labels(LabelFile.from_json(content, key), self.annotators)
        if labels is not None:
            self.found_annotators.add(labels.annotator.name)
        return labels

    def _count(self, labels: Labels | None, conditions: list[str], split: str) -> None:
        self.conditions.update(f"{split}/{value}" for value in conditions)
        if labels is not None:
            self.tasks.update(f"{split}/{task}" for task in labels.tasks)
            self.classes.update(f"{split}/{thing.category}" for thing in labels.objects)

    def content(self, index: bytes, recipe: dict[str, Any]) -> dict[str, Any]:
        """All of the manifest that its digest covers."""
        return {
            "sensors": self.sensors,
            "image_sizes_px": sorted(self.sizes),
            "splits": dict(sorted(self.splits.items())),
            "sessions": self.sessions,
            "session_splits": self.session_splits,
            "object_classes": self.object_classes,
            "class_counts": dict(sorted(self.classes.items())),
            "condition_counts": dict(sorted(self.conditions.items())),
            "task_counts": dict(sorted(self.tasks.items())),
            "annotators": sorted(self.found_annotators),
            "skipped": self.skipped,
            "rendition": self.rendition.model_dump() if self.rendition else None,
            "sources": [],
            "recipe": {**recipe, "annotators": self.annotators},
            "shards": [shard.model_dump() for shard in self.shards],
            "index_sha256": hashlib.sha256(index).hexdigest(),
            "rows": len(self.rows),
        }


def choose_labels(content: LabelFile, annotators: Sequence[str]) -> Labels | None:
    """The labels of the best annotator on the list (or the first there is, if the list is empty); None if none is."""
    if not annotators:
        return content.labels[0] if content.labels else None
    by_name = {labels.annotator.name: labels for labels in content.labels}
    return next((by_name[name] for name in annotators if name in by_name), None)


def _filled(conditions: Conditions, default: Conditions) -> Conditions:
    known = {name: getattr(conditions, name) for name in CONDITIONS if getattr(conditions, name).value != "unknown"}
    return default.model_copy(update=known)


def _timestamp(key: str) -> int:
    try:
        return int(key.rpartition("/")[2])
    except ValueError:
        raise DataError(key, "the frame key is no timestamp", "name frames <session>/<timestamp_ns>") from None
