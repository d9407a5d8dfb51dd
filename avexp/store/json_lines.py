"""Append-only files of JSON objects, one a line: what survives kill -9, a full disk and a torn last line."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

LATE_BYTES_MAX = 16 * 2**20
"""What is kept in memory while the disk is full."""


class JsonLines:
    """Writer of such a file. A line is one system call and stays in the kernel's hands if the process is killed.

    ``append`` never raises for a bad disk: what cannot be written is kept (up to a bound) and written with the next line.
    ``NaN`` and ``Infinity`` are written as Python's json does.

    Args:
        path: the file; what is there already stays. A torn last line is ended, so that the next one is whole.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.fault: str = ""
        self.lost = 0
        self._late = bytearray()
        self._lock = Lock()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            self._late += b"\n"

    def append(self, value: Mapping[str, Any]) -> None:
        """Add a line; values that JSON does not know become text."""
        line = json.dumps(value, default=str, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            if len(self._late) + len(line) > LATE_BYTES_MAX:
                self.lost += 1
                return
            self._late += line
            self._flush()

    def _flush(self) -> None:
        try:
            while self._late:
                del self._late[: os.write(self._handle, self._late)]
        except OSError as fault:
            self.fault = fault.strerror or str(fault)

    @property
    def unwritten(self) -> int:
        """Lines that the disk did not take: still in memory, or lost beyond the bound."""
        return self._late.count(b"\n") + self.lost

    def close(self) -> None:
        """Try once more to write what is late; the file takes no lines after this."""
        with self._lock:
            self._flush()
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


class Line(NamedTuple):
    """A line as read: its object (None if it is damaged), and the offset [bytes] behind it."""

    value: dict[str, Any] | None
    end: int


def read_lines(path: Path, offset: int = 0, end: int | None = None) -> Iterator[Line]:
    """Whole lines from a byte offset on; a line that has no end yet is left for later.

    Args:
        path: the file; one that does not exist has no lines.
        offset: where to begin [bytes].
        end: where to stop [bytes]; the file's end if None.
    """
    if not path.is_file():
        return
    with path.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            offset += len(line)
            if not line.endswith(b"\n") or (end is not None and offset > end):
                return
            if line != b"\n":
                yield Line(_parsed(line), offset)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None


def read_metrics(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Series of (step, value) by name from a run's metrics.jsonl, rising in step.

    A resumed run repeats the steps after its checkpoint: the last value of a step counts.
    """
    series: dict[str, dict[int, float]] = {}
    for line in read_lines(path):
        if line.value is not None and "values" in line.value:
            for name, value in line.value["values"].items():
                series.setdefault(name, {})[int(line.value["step"])] = float(value)
    return {name: sorted(points.items()) for name, points in series.items()}
