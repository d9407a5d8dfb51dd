"""Who reads and decodes: threads of this process, or processes, behind one interface.

Threads share memory with the trainer and start at once; the decoder releases the interpreter lock, but parsing labels holds
it (about a twentieth of a frame's time), so that beyond some sixteen threads they wait for each other: PROCESSES_FROM.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.loader.decode import Image
from avexp.loader.quarantine import BadFrame
from avexp.loader.sample import Sample, SampleReader
from avexp.loader.slots import Shape, Slot, attach
from avexp.records.dataset import Dataset

PROCESSES_FROM = 16
"""Cores from which processes decode. Threads are faster on 2 cores (measured); where they cross beyond is not known."""
MOST_CHUNK = 16
"""Rows that are read at a time, at most: their labels first and then their images, because a decoder and a parser that take
turns at each frame drive each other's code and tables out of the core's cache (3 % of a frame's time)."""
T = TypeVar("T")
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Task:
    """Rows to read into a slot.

    Attributes:
        rows: of the dataset's index; negative for a filler.
        slot: of the batch.
        first: place of the first row in it.
    """

    rows: npt.NDArray[np.int64]
    slot: Slot
    first: int


Found = Sequence[Sample | BadFrame]
"""Of each row; what cannot be read is named in its place."""


class Workers(Protocol):
    """A back end."""

    shared: bool
    """Whether it needs slots that other processes can map."""

    def submit(self, task: Task) -> Future[Found]:
        """Begin to read."""

    def close(self) -> None:
        """End; what has not begun is dropped."""


class ThreadWorkers:
    """Threads of this process.

    Args:
        reader: of the dataset.
        count: threads.
        keep_bytes: decoded frames that stay in memory, the first ones that are read.
    """

    shared = False

    def __init__(self, reader: SampleReader, count: int, keep_bytes: int = 0) -> None:
        self.reader, self.count = reader, count
        self.kept: dict[int, Sample] = {}
        self._room = keep_bytes
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="decode")

    def submit(self, task: Task) -> Future[Found]:
        """Begin to read."""
        return self._pool.submit(self._work, task)

    def _work(self, task: Task) -> Found:
        outs = task.slot.images[task.first : task.first + len(task.rows)]
        if not self.kept and self._room <= 0:
            return read_many(self.reader, task.rows, outs)
        return [self._one(int(row), outs[place]) for place, row in enumerate(task.rows)]

    def _one(self, row: int, out: Image) -> Sample | BadFrame:
        if (kept := self.kept.get(row)) is not None:
            np.copyto(out, kept.image)
            return replace(kept, image=out)
        found = read_one(self.reader, row, out)
        if self._room > 0 and row >= 0 and isinstance(found, Sample):
            self.kept[row] = replace(found, image=found.image.copy())
            self._room -= out.nbytes + sum(array.nbytes for array in found.arrays.values())
        return found

    def close(self) -> None:
        """End."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class ProcessWorkers:
    """Processes of this machine, started afresh (a forked child inherits the locks of whatever threads run here).

    Args:
        reader: of the dataset, which each process opens for itself.
        count: processes.
        shape: of the slots, [B, H, W, 3].
    """

    shared = True

    def __init__(self, reader: SampleReader, count: int, shape: Shape) -> None:
        self.reader, self.count, self.shape = reader, count, shape
        arguments = (reader.dataset, reader.least_width_px, reader.like, shape)
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=arguments)

    def submit(self, task: Task) -> Future[Found]:
        """Begin to read; the images arrive in the slot, the labels by message."""
        done: Future[Found] = Future()
        try:
            self._pool.submit(_work, task.rows, task.slot.path, task.first).add_done_callback(
                lambda future: self._arrived(future, task, done)
            )
        except BrokenProcessPool:
            done.set_exception(_died())
        return done

    def _arrived(self, future: "Future[Found]", task: Task, done: "Future[Found]") -> None:
        if future.cancelled():
            done.cancel()
            return
        fault = future.exception()
        if fault is not None:
            done.set_exception(_died() if isinstance(fault, BrokenProcessPool) else fault)
            return
        images = task.slot.images[task.first :]
        done.set_result(
            [
                replace(one, image=images[place]) if isinstance(one, Sample) else one
                for place, one in enumerate(future.result())
            ]
        )

    def close(self) -> None:
        """End."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def read_one(reader: SampleReader, row: int, out: Image) -> Sample | BadFrame:
    """One row; a negative one is a filler."""
    return read_many(reader, np.array([row], np.int64), out[None])[0]


def read_many(
    reader: SampleReader, rows: npt.NDArray[np.int64], outs: npt.NDArray[np.uint8]
) -> list[Sample | BadFrame]:
    """Rows into images [N, h, w, 3]: all labels, then all images."""
    described = [_caught(reader, int(row), reader.described, int(row)) if row >= 0 else None for row in rows]
    found: list[Sample | BadFrame] = []
    for row, one, out in zip(rows, described, outs, strict=True):
        if one is None:
            found.append(reader.filler(out))
        elif isinstance(one, BadFrame):
            found.append(one)
        else:
            found.append(_caught(reader, int(row), reader.shown, one, out))
    return found


def _caught(reader: SampleReader, row: int, step: Callable[..., T], *arguments: Any) -> T | BadFrame:
    """What a step gives, or its fault by name."""
    try:
        return step(*arguments)
    except DataError as fault:
        entry = reader.dataset.entry(row)
        shard = reader.dataset.manifest.shards[entry.shard].path
        return BadFrame(shard, reader.dataset.key_of(entry), entry.image_offset, fault.what, fault.remedy)


def _died() -> DataError:
    return DataError("loader", "a decoding process died", "see the kernel log for memory; or set loader.processes=0")


_READER: SampleReader | None = None
_SHAPE: Shape = ()
_SLOTS: dict[str, Image] = {}


def _begin(dataset: Dataset, least_width_px: int | None, like: npt.NDArray[np.int64], shape: Shape) -> None:
    """In the worker: open the dataset."""
    global _READER, _SHAPE
    _READER, _SHAPE = SampleReader(dataset, least_width_px, like), shape


def _work(rows: npt.NDArray[np.int64], path: str, first: int) -> Found:
    """In the worker: decode into the shared slot; only labels travel."""
    if path not in _SLOTS:
        _SLOTS[path] = attach(path, _SHAPE)
    assert _READER is not None
    found = read_many(_READER, rows, _SLOTS[path][first : first + len(rows)])
    return [replace(one, image=NO_IMAGE) if isinstance(one, Sample) else one for one in found]
