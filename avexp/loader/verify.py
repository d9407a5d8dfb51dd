"""A whole dataset version read and checked ahead of a run: every fault at once, each with its place."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from avexp.core.errors import DataError
from avexp.core.files import digest_file
from avexp.loader.quarantine import BadFrame
from avexp.loader.sample import SampleReader
from avexp.records.dataset import Dataset, find_version
from avexp.records.frame import EgoState
from avexp.records.labels import LabelFile
from avexp.records.shard import index_path, read_index

Advance = Callable[[int, int], None]
CHUNK = 64


def verify(dataset: Dataset, root: Path, threads: int = 2, advance: Advance | None = None) -> list[BadFrame]:
    """Check the index, every shard's size and digest, and every part of every row: crc32, a whole decode, the labels.

    Args:
        dataset: an opened version.
        root: storage root.
        threads: that read and decode.
        advance: told how many rows of how many are done.

    Returns:
        What is wrong, in the order of the index; a fault of a whole shard has an empty key.
    """
    faults = _index_faults(dataset, root)
    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(lambda number: list(_shard_faults(dataset, number)), range(len(dataset.manifest.shards))):
            faults += found
        done = 0
        chunks = [range(start, min(start + CHUNK, len(dataset.rows))) for start in range(0, len(dataset.rows), CHUNK)]
        reader = _reader(dataset)
        for chunk, found in zip(chunks, pool.map(lambda rows: _row_faults(dataset, reader, rows), chunks), strict=True):
            faults += found
            done += len(chunk)
            if advance is not None:
                advance(done, len(dataset.rows))
    return faults


def _index_faults(dataset: Dataset, root: Path) -> list[BadFrame]:
    path = find_version(root, dataset.manifest.reference) / "index.bin"
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest == dataset.manifest.index_sha256:
        return []
    return [BadFrame(str(path), "", 0, "is not the index that the manifest names", "restore it or make a new version")]


def _shard_faults(dataset: Dataset, number: int) -> Iterator[BadFrame]:
    """Of a shard as a whole, and of the index beside it."""
    shard = dataset.manifest.shards[number]
    path = dataset.root / shard.path
    if not path.is_file():
        if dataset.source is None:
            yield BadFrame(shard.path, "", 0, "no such file", "restore the shard")
        return
    if path.stat().st_size != shard.bytes:
        what = f"has {path.stat().st_size} bytes, the dataset says {shard.bytes}"
        yield BadFrame(shard.path, "", min(path.stat().st_size, shard.bytes), what, "restore the shard")
    elif digest_file(path) != shard.sha256:
        yield BadFrame(shard.path, "", 0, "its digest is not the dataset's", "restore the shard")
    else:
        try:
            if read_index(path).sha256 != shard.sha256:
                yield BadFrame(f"{shard.path}.idx", "", 0, "is stale: made of another tar", "rebuild it from the tar")
        except DataError as fault:
            yield BadFrame(str(index_path(Path(shard.path))), "", 0, fault.what, fault.remedy)


def _reader(dataset: Dataset) -> SampleReader | None:
    """None where no image can be read at all: every row then says so itself."""
    try:
        return SampleReader(dataset, None, np.arange(len(dataset.rows), dtype=np.int64))
    except DataError:
        return None


def _row_faults(dataset: Dataset, reader: SampleReader | None, rows: range) -> list[BadFrame]:
    found = []
    for row in rows:
        entry = dataset.entry(row)
        where = dataset.manifest.shards[entry.shard].path, dataset.key_of(entry), entry.image_offset
        try:
            if reader is None:
                dataset.read(row, "image")
            else:
                reader.read(row, np.empty((reader.size[1], reader.size[0], 3), np.uint8))
            if (labels := dataset.read(row, "labels")) is not None:
                LabelFile.from_json(labels, where[1])
            if (ego := dataset.read(row, "ego")) is not None:
                EgoState.from_json(ego, where[1])
        except DataError as fault:
            found.append(BadFrame(*where, fault.what, fault.remedy))
    return found
