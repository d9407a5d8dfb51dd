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
from avexp.records.index import CONDITIONS, SPLITS, Entry, Rows, open_rows
from avexp.records.record import Record
from avexp.records.session import Rendition, Session
from avexp.records.shard import PartError, read_part_into

MOST_AHEAD = 512
"""No hint at coming shards is longer."""
Kind = Literal["image", "labels", "ego"]


class DatasetShard(Record):
    """A shard of a dataset version, by its path below the storage root."""

    path: str
    bytes: int
    sha256: str
    frames: int


class Source(Record):
    """A dataset version that another was blended from.

    Attributes:
        reference: ``name@version``.
        digest: of that version.
        weight: share of a training epoch's positions, relative to the others'.
        sessions: of the blend's session list, first and behind the last.
    """

    reference: str
    digest: str
    weight: float
    sessions: tuple[int, int]


class DatasetManifest(Record):
    """What a dataset version is. ``digest`` is the sha256 of all else but format, name, version and time of making.

    ``image_sizes_px`` are those of the cameras, to which labels refer; a rendition says how large the stored images are.
    """

    format: Literal[1, 2] = 2
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
    rendition: Rendition | None = None
    sources: list[Source] = []
    recipe: dict[str, Any] = {}
    shards: list[DatasetShard]
    index_sha256: str
    rows: int

    @property
    def stored_size_px(self) -> tuple[int, int]:
        """(width, height) of the images that are read: the first camera's, or its rendition's."""
        width, height = self.image_sizes_px[0]
        if self.rendition is None or self.rendition.width_px >= width:
            return width, height
        return self.rendition.width_px, round(height * self.rendition.width_px / width)

    @property
    def stored_as(self) -> str:
        """Which form of the images is read."""
        return f"rendition {self.rendition.name}" if self.rendition else "original images"

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
        rows = open_rows(folder / "index.bin", manifest.format, manifest.rows)
        return Dataset(root, manifest, rows, source)

    @cached_property
    def _handles(self) -> Handles:
        return Handles(self._open_shard)

    def _open_shard(self, number: int) -> int:
        shard = self.manifest.shards[number]
        if self.source is not None:
            return self.source.open_shard(shard)
        return open_local(self.root / shard.path, shard.bytes)

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens it for itself."""
        return Dataset.open, (self.root, self.manifest.reference, self.source)

    def entry(self, row: int) -> Entry:
        """One row as plain numbers."""
        return Entry(*self.rows[row].item())

    def key(self, row: int) -> str:
        """``<session>/<timestamp_ns>.<sensor>`` of a row."""
        return self.key_of(self.entry(row))

    def key_of(self, entry: Entry) -> str:
        """The same of a row that was read."""
        return (
            f"{self.manifest.sessions[entry.session]}/{entry.timestamp_ns:019d}.{self.manifest.sensors[entry.sensor]}"
        )

    def sensor(self, row: int) -> str:
        """Sensor name of a row."""
        return self.manifest.sensors[self.entry(row).sensor]

    def read(self, row: int, kind: Kind) -> bytes | None:
        """One part of a row; None where the frame has no such part.

        Raises:
            DataError: shard missing, cut off, or changed.
        """
        return self.read_entry(self.entry(row), kind)

    def read_entry(self, entry: Entry, kind: Kind) -> bytes | None:
        """The same of a row that was read."""
        length = part_of(entry, kind)[2]
        if length == 0:
            return None
        return bytes(self.read_entry_into(entry, kind, memoryview(bytearray(length))))

    def read_entry_into(self, entry: Entry, kind: Kind, buffer: memoryview) -> memoryview:
        """The same into memory that is there, as long as the part."""
        shard, offset, _, crc32 = part_of(entry, kind)
        where = f"{self.manifest.shards[shard].path}:{self.key_of(entry)}"
        try:
            with self.lease(shard) as handle:
                return read_part_into(handle, where, offset, buffer, crc32)
        except PartError:
            if self.source is None:
                raise
        # a copy that was damaged is fetched again, once
        self.source.mend(self.manifest.shards[shard])
        self._handles.forget(shard)
        with self.lease(shard) as handle:
            return read_part_into(handle, where, offset, buffer, crc32)

    def advise(self, rows: Sequence[int]) -> None:
        """Tell the kernel which images are read soon; a hint only."""
        for row in rows:
            entry = self.entry(int(row))
            try:
                with self.lease(entry.shard) as handle:
                    os.posix_fadvise(handle, entry.image_offset, entry.image_length, os.POSIX_FADV_WILLNEED)
            except (DataError, OSError):
                continue  # whoever reads it will say so

    def select(self, split: str | None = None, slice_: str = "all") -> npt.NDArray[np.int64]:
        """Rows of a split and slice, in index order.

        Args:
            split: one of SPLITS, or None for all.
            slice_: ``all``, a condition value such as ``night``, or several joined by ``+`` (values of one condition
                are alternatives, different conditions must all hold): ``night+rain``, ``dusk+night``.

        Raises:
            DataError: unknown split or slice.
        """
        conditions = parse_slice(slice_)
        if split is not None and split not in SPLITS:
            raise DataError(f"split={split}", "no such split", f"known: {', '.join(SPLITS)}")
        if self.manifest.format >= 2 and not conditions:
            return self._range(split)  # without touching the rows
        mask = np.ones(len(self.rows), bool)
        if split is not None:
            mask &= self.rows["split"] == SPLITS.index(split)
        for condition, values in conditions.items():
            mask &= np.isin(self.rows[condition], [CONDITIONS[condition].index(value) for value in values])
        return np.flatnonzero(mask).astype(np.int64)

    def _range(self, split: str | None) -> npt.NDArray[np.int64]:
        """Rows are sorted by split."""
        if split is None:
            return np.arange(len(self.rows), dtype=np.int64)
        counts = [self.manifest.splits.get(name, 0) for name in SPLITS]
        place = SPLITS.index(split)
        return np.arange(sum(counts[:place]), sum(counts[: place + 1]), dtype=np.int64)

    def session(self, row: int) -> Session:
        """The session record of a row's frame."""
        return self.session_of(self.manifest.sessions[self.entry(row).session])

    def session_of(self, name: str) -> Session:
        """A session record by id."""
        if name not in self._sessions:
            self._sessions[name] = Session.from_file(self.root / "sessions" / name / "session.json")
        return self._sessions[name]

    @cached_property
    def _sessions(self) -> dict[str, Session]:
        """Those that were asked for."""
        return {}


def part_of(entry: Entry, kind: Kind) -> tuple[int, int, int, int]:
    """Shard, offset [bytes], length [bytes] and crc32 of one part."""
    if kind == "image":
        return entry.shard, entry.image_offset, entry.image_length, entry.image_crc
    if kind == "labels":
        return entry.labels_shard, entry.labels_offset, entry.labels_length, entry.labels_crc
    return entry.ego_shard, entry.ego_offset, entry.ego_length, entry.ego_crc


def open_local(path: Path, size: int) -> int:
    """A file descriptor of a shard.

    Args:
        path: of the shard.
        size: that it must have [bytes].

    Raises:
        DataError: missing, or of another size.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        raise DataError(str(path), f"cannot be opened ({fault.strerror})", "restore the shard") from fault
    if (found := os.fstat(handle).st_size) != size:
        os.close(handle)
        raise DataError(str(path), f"has {found} bytes, the dataset says {size}", "restore the shard")
    return handle


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
