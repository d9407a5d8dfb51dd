"""Dataset versions on disk: an immutable manifest and one memory-mapped index of fixed-size rows.

``<root>/datasets/<name>/<version>/manifest.json`` and ``index.bin``; a row is one frame seen by one camera.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError, did_you_mean
from avexp.records.handles import Handles
from avexp.records.labels import Light, Road, Weather
from avexp.records.record import Record
from avexp.records.session import Session
from avexp.records.shard import PartError, read_part

ROW = np.dtype(
    [
        ("timestamp_ns", "<i8"),
        ("shard", "<u4"),
        ("session", "<u4"),
        ("sensor", "<u4"),
        ("split", "u1"),
        ("light", "u1"),
        ("weather", "u1"),
        ("road", "u1"),
        ("image_length", "<u4"),
        ("image_offset", "<u8"),
        ("image_crc", "<u4"),
        ("labels_shard", "<u4"),
        ("labels_offset", "<u8"),
        ("labels_length", "<u4"),
        ("labels_crc", "<u4"),
        ("ego_offset", "<u8"),
        ("ego_length", "<u4"),
        ("ego_crc", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""One row: 80 bytes. A length of 0 means that the part does not exist."""

CONDITIONS: dict[str, list[str]] = {
    "light": [value.value for value in Light],
    "weather": [value.value for value in Weather],
    "road": [value.value for value in Road],
}
SPLITS = ("train", "val", "test")
Rows = npt.NDArray[Any]
MOST_AHEAD = 512
"""No hint at coming shards is longer."""


class DatasetShard(Record):
    """A shard of a dataset version, by its path below the storage root."""

    path: str
    bytes: int
    sha256: str
    frames: int


class DatasetManifest(Record):
    """What a dataset version is. ``digest`` is the sha256 of all else but name, version and time of making."""

    format: Literal[1] = 1
    name: str
    version: int
    digest: str
    parent: str | None = None
    created_utc: str
    sensors: list[str]
    image_sizes_px: list[tuple[int, int]]
    splits: dict[str, int]
    sessions: list[str]
    session_splits: dict[str, str] = {}
    object_classes: list[str]
    class_counts: dict[str, int] = {}
    condition_counts: dict[str, int] = {}
    task_counts: dict[str, int] = {}
    annotators: list[str] = []
    skipped: int = 0
    recipe: dict[str, Any] = {}
    shards: list[DatasetShard]
    index_sha256: str
    rows: int

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


class ShardSource(Protocol):
    """Where shards come from that do not lie under the storage root (avexp.loader.tiers.Tiers)."""

    def open_shard(self, shard: DatasetShard) -> int:
        """A descriptor, for the caller to close."""

    def mend(self, shard: DatasetShard) -> None:
        """A part of it was wrong: forget the copy if it is damaged."""

    def ahead(self, shards: Sequence[DatasetShard]) -> None:
        """Those that are needed next, soonest first. Returns at once."""


@dataclass(frozen=True)
class Dataset:
    """An opened dataset version.

    Attributes:
        root: the storage root that its shards lie under.
        manifest: what it is.
        rows: memory-mapped index, one ROW a frame and camera.
        source: opens its shards; None where all lie under the root.
    """

    root: Path
    manifest: DatasetManifest
    rows: Rows
    source: ShardSource | None = None

    @staticmethod
    def open(root: Path, reference: str, source: ShardSource | None = None) -> "Dataset":
        """Open ``name@3``, ``name@latest``, ``name`` or a digest.

        Raises:
            DataError: there is none; or its index is damaged.
        """
        folder = find_version(root, reference)
        manifest = DatasetManifest.from_file(folder / "manifest.json")
        index = folder / "index.bin"
        if not index.is_file() or index.stat().st_size != manifest.rows * ROW.itemsize:
            raise DataError(str(index), f"does not hold {manifest.rows} rows", "restore the file or make a new version")
        rows = np.memmap(index, dtype=ROW, mode="r") if manifest.rows else np.zeros(0, ROW)
        return Dataset(root, manifest, rows, source)

    @cached_property
    def _handles(self) -> Handles:
        return Handles(self._open_shard)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_handles"}

    def _open_shard(self, number: int) -> int:
        shard = self.manifest.shards[number]
        path = self.root / shard.path
        if self.source is not None:
            return self.source.open_shard(shard)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as fault:
            raise DataError(str(path), f"cannot be opened ({fault.strerror})", "restore the shard") from fault
        if (size := os.fstat(handle).st_size) != shard.bytes:
            os.close(handle)
            raise DataError(str(path), f"has {size} bytes, the dataset says {shard.bytes}", "restore the shard")
        return handle

    def ahead(self, shards: Sequence[int]) -> None:
        """Hint at the shards that are needed next, by number, soonest first. Returns at once; each call replaces the last."""
        if self.source is not None:
            soonest = list(dict.fromkeys(shards))[:MOST_AHEAD]
            self.source.ahead([self.manifest.shards[number] for number in soonest])

    def lease(self, shard: int) -> AbstractContextManager[int]:
        """A descriptor of a shard, by number, that stays open for as long as the block runs.

        Raises:
            DataError: missing, or of a wrong size.
        """
        return self._handles.lease(shard)

    def key(self, row: int) -> str:
        """``<session>/<timestamp_ns>.<sensor>`` of a row."""
        entry = self.rows[row]
        session = self.manifest.sessions[int(entry["session"])]
        return f"{session}/{int(entry['timestamp_ns']):019d}.{self.manifest.sensors[int(entry['sensor'])]}"

    def sensor(self, row: int) -> str:
        """Sensor name of a row."""
        return self.manifest.sensors[int(self.rows[row]["sensor"])]

    def read(self, row: int, kind: Literal["image", "labels", "ego"]) -> bytes | None:
        """One part of a row; None where the frame has no such part.

        Raises:
            DataError: shard missing, cut off, or changed.
        """
        entry = self.rows[row]
        length = int(entry[f"{kind}_length"])
        if length == 0:
            return None
        shard = int(entry["labels_shard"] if kind == "labels" else entry["shard"])
        where = f"{self.manifest.shards[shard].path}:{self.key(row)}"
        part = (where, int(entry[f"{kind}_offset"]), length, int(entry[f"{kind}_crc"]))
        try:
            with self.lease(shard) as handle:
                return read_part(handle, *part)
        except PartError:
            if self.source is None:
                raise
        # a copy that was damaged is fetched again, once
        self.source.mend(self.manifest.shards[shard])
        self._handles.forget(shard)
        with self.lease(shard) as handle:
            return read_part(handle, *part)

    def select(self, split: str | None = None, slice_: str = "all") -> npt.NDArray[np.int64]:
        """Rows of a split and slice, in index order.

        Args:
            split: one of SPLITS, or None for all.
            slice_: ``all``, a condition value such as ``night``, or several joined by ``+`` (values of one condition
                are alternatives, different conditions must all hold): ``night+rain``, ``dusk+night``.

        Raises:
            DataError: unknown split or slice.
        """
        mask = np.ones(len(self.rows), bool)
        if split is not None:
            if split not in SPLITS:
                raise DataError(f"split={split}", "no such split", f"known: {', '.join(SPLITS)}")
            mask &= self.rows["split"] == SPLITS.index(split)
        for condition, values in parse_slice(slice_).items():
            mask &= np.isin(self.rows[condition], [CONDITIONS[condition].index(value) for value in values])
        return np.flatnonzero(mask).astype(np.int64)

    def session(self, row: int) -> Session:
        """The session record of a row's frame."""
        name = self.manifest.sessions[int(self.rows[row]["session"])]
        return self.sessions[name]

    @cached_property
    def sessions(self) -> dict[str, Session]:
        """Session records by id."""
        folder = self.root / "sessions"
        return {name: Session.from_file(folder / name / "session.json") for name in self.manifest.sessions}


def parse_slice(text: str) -> dict[str, list[str]]:
    """Condition values by condition, of a slice such as ``night+rain``.

    Raises:
        DataError: an unknown value, with the known ones.
    """
    wanted: dict[str, list[str]] = {}
    for word in [part.strip() for part in text.split("+")]:
        if word in ("all", ""):
            continue
        condition = next((name for name, values in CONDITIONS.items() if word in values and word != "unknown"), None)
        if condition is None:
            known = [value for values in CONDITIONS.values() for value in values if value != "unknown"]
            raise DataError(
                f"slice={text}", f"unknown value {word}{did_you_mean(word, known)}", f"known: {', '.join(known)}"
            )
        wanted.setdefault(condition, []).append(word)
    return wanted


def versions(root: Path, name: str) -> list[int]:
    """Version numbers of a dataset, rising."""
    folder = root / "datasets" / name
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.is_dir() else []


def names(root: Path) -> list[str]:
    """Names of the datasets under a storage root."""
    folder = root / "datasets"
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def find_version(root: Path, reference: str) -> Path:
    """Folder of ``name@3``, ``name@latest``, ``name``, or a digest of at least 8 hex digits.

    Raises:
        DataError: there is none, with the known names.
    """
    name, _, version = reference.partition("@")
    numbers = versions(root, name)
    if numbers:
        if version in ("", "latest"):
            return root / "datasets" / name / str(numbers[-1])
        if version.isdigit() and int(version) in numbers:
            return root / "datasets" / name / version
        remedy = f"versions: {', '.join(map(str, numbers))}"
        raise DataError(f"dataset {reference}", "no such version", remedy)
    if len(name) >= 8 and all(letter in "0123456789abcdef" for letter in name):
        for other in names(root):
            for number in versions(root, other):
                folder = root / "datasets" / other / str(number)
                if DatasetManifest.from_file(folder / "manifest.json").digest.startswith(name):
                    return folder
    known = names(root)
    remedy = (
        f"known: {', '.join(known)}{did_you_mean(name, known)}" if known else "make one with train.py or avexp ingest"
    )
    raise DataError(f"dataset {reference}", f"not found under {root}/datasets", remedy)
