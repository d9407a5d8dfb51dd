"""Shards: WebDataset tars of frames, each with an index beside it, so that one part is one pread.

The index ``<shard>.idx`` is text: a JSON header (format, tar's bytes and sha256), then a line a part:
key, part, offset, length, crc32 (hex), separated by tabs. It can be rebuilt from the tar.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from zlib_ng.zlib_ng import crc32 as crc32_of  # zlib's, nine times as fast on images

from avexp.core.errors import DataError
from avexp.core.files import sync_folder, write_text

INDEX_FORMAT = 1


class PartError(DataError):
    """One part of a shard does not hold the bytes that were indexed."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where one part of a frame lies: ``<key>.<part>`` at [offset, offset + length) of the tar."""

    key: str
    part: str
    offset: int
    length: int
    crc32: int


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The index of one shard."""

    tar: Path
    bytes: int
    sha256: str
    parts: list[Part]

    def frames(self) -> dict[str, dict[str, Part]]:
        """Parts by frame key, then by part name, in the tar's order."""
        frames: dict[str, dict[str, Part]] = {}
        for part in self.parts:
            frames.setdefault(part.key, {})[part.part] = part
        return frames


def index_path(tar: Path) -> Path:
    """Where a shard's index lies."""
    return tar.with_name(tar.name + ".idx")


class ShardWriter:
    """Writes one shard aside; the tar appears under its name, with its index, when it is closed well.

    Args:
        path: the tar to be.

    Raises:
        DataError: the file exists already, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        import webdataset

        if path.exists():
            raise DataError(
                str(path), "a shard of this name exists", "shards are never overwritten; choose another name"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.frames = 0
        self._aside = path.with_name(f".{path.name}.tmp{os.getpid()}")
        self._stream: IO[bytes] = self._aside.open("wb")
        self._tar = webdataset.TarWriter(self._stream, mtime=0, encoder=False, user="avexp", group="avexp")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._stream.tell()

    def write(self, key: str, parts: dict[str, bytes]) -> None:
        """Add one frame.

        Raises:
            DataError: the disk is full.
        """
        try:
            self._tar.write({"__key__": key, **parts})
        except OSError as fault:
            self.discard()
            raise DataError(str(self.path), f"cannot be written ({fault.strerror})", "free space and repeat") from fault
        self.frames += 1

    def close(self) -> ShardIndex:
        """Finish, index and rename the shard."""
        try:
            self._tar.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as fault:
            self.discard()
            raise DataError(str(self.path), f"cannot be written ({fault.strerror})", "free space and repeat") from fault
        self._stream.close()
        index = build_index(self._aside)
        write_index(ShardIndex(self.path, index.bytes, index.sha256, index.parts))
        self._aside.replace(self.path)
        sync_folder(self.path.parent)
        return ShardIndex(self.path, index.bytes, index.sha256, index.parts)

    def discard(self) -> None:
        """Leave nothing behind."""
        # closing writes the tar's end: on a full disk that fails too, and does not matter any more
        with suppress(OSError, ValueError):
            self._tar.close()
        with suppress(OSError):
            self._stream.close()
        self._aside.unlink(missing_ok=True)


def build_index(tar: Path) -> ShardIndex:
    """Index a tar by walking its headers.

    Raises:
        DataError: the tar is truncated or holds garbage; names the offset.
    """
    parts: list[Part] = []
    try:
        with tarfile.open(tar, "r:") as archive, tar.open("rb") as stream:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                stream.seek(member.offset_data)
                content = stream.read(member.size)
                if len(content) != member.size:
                    raise DataError(f"{tar}@{member.offset_data}", f"{member.name} is cut off", "restore the shard")
                key = f"{folder}/{stem}" if folder else stem
                parts.append(Part(key, extension, member.offset_data, member.size, crc32_of(content)))
            end = archive.offset
    except (tarfile.TarError, OSError) as fault:
        raise DataError(str(tar), f"no readable tar ({fault})", "restore the shard or ingest it again") from fault
    if tar.stat().st_size < end:
        raise DataError(f"{tar}@{tar.stat().st_size}", "the tar is truncated", "restore the shard")
    with tar.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ShardIndex(tar, tar.stat().st_size, digest, parts)


def write_index(index: ShardIndex) -> None:
    """Write a shard's index beside it."""
    header: dict[str, Any] = {
        "format": INDEX_FORMAT,
        "tar": index.tar.name,
        "bytes": index.bytes,
        "sha256": index.sha256,
    }
    rows = [f"{p.key}\t{p.part}\t{p.offset}\t{p.length}\t{p.crc32:08x}" for p in index.parts]
    write_text(index_path(index.tar), "\n".join([json.dumps(header), *rows]) + "\n")


def read_index(tar: Path) -> ShardIndex:
    """Read a shard's index and hold it against the tar's size.

    Raises:
        DataError: index or tar is missing, damaged, or the index is stale.
    """
    path = index_path(tar)
    try:
        header_line, *lines = path.read_text().splitlines()
        header = json.loads(header_line)
        parts = list(_parse_rows(lines))
        size = tar.stat().st_size
    except FileNotFoundError as fault:
        raise DataError(str(fault.filename), "no such file", "restore the shard or ingest it again") from None
    except ValueError as fault:
        raise DataError(str(path), f"damaged index ({fault})", "delete it and rebuild it from the tar") from None
    if header.get("format") != INDEX_FORMAT:
        raise DataError(str(path), f"index format {header.get('format')} is unknown here", "update avexp")
    if size != header["bytes"]:
        raise DataError(str(tar), f"has {size} bytes but its index says {header['bytes']}", "restore the shard")
    return ShardIndex(tar, header["bytes"], header["sha256"], parts)


def _parse_rows(lines: list[str]) -> Iterator[Part]:
    for line in lines:
        key, part, offset, length, crc32 = line.split("\t")
        yield Part(key, part, int(offset), int(length), int(crc32, 16))


def read_part(handle: int, where: str, offset: int, length: int, crc32: int) -> bytes:
    """Read one part with one pread and check it.

    Args:
        handle: file descriptor of the tar.
        where: shard and key to name in an error.
        offset: where the part begins [bytes].
        length: its length [bytes].
        crc32: its checksum.

    Raises:
        PartError: the shard is truncated there, or the bytes are not those that were indexed.
    """
    return bytes(read_part_into(handle, where, offset, memoryview(bytearray(length)), crc32))


def read_part_into(handle: int, where: str, offset: int, buffer: memoryview, crc32: int) -> memoryview:
    """The same into memory that is there, as long as the part; returns it."""
    done = os.preadv(handle, [buffer], offset)
    while 0 < done < len(buffer) and (more := os.preadv(handle, [buffer[done:]], offset + done)):
        done += more  # a network file system may give less than asked for
    if done != len(buffer):
        raise PartError(
            f"{where}@{offset}", f"{done} of {len(buffer)} bytes: the shard is cut off", "restore the shard"
        )
    if crc32_of(buffer) != crc32:
        raise PartError(f"{where}@{offset}", "checksum differs: the bytes were changed", "restore the shard")
    return buffer
