"""Batches in an order that is a pure function of (seed, epoch, position), with an O(1) resume.

The contract with Lightning (facts: it calls ``iter()`` before ``set_epoch``, needs ``__len__`` of the full epoch, stores
``state_dict``): see the attributes.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avexp.core.counter_random import hash64
from avexp.core.errors import DataError
from avexp.core.hardware import usable_cores
from avexp.loader.assembly import Assembly
from avexp.loader.device import copied_ahead
from avexp.loader.order import Order, Positions, Shuffle, Straight
from avexp.loader.quarantine import BadFrame, Quarantine
from avexp.loader.sample import Sample, SampleReader
from avexp.loader.slots import Slots
from avexp.loader.workers import MOST_CHUNK, PROCESSES_FROM, ProcessWorkers, Task, ThreadWorkers, Workers, read_one
from avexp.records.batch import Batch
from avexp.records.dataset import Dataset

STRETCH, KEPT_STRETCHES = 8192, 8
"""Positions whose order is computed at once, and how many such are kept."""
HINT_EVERY, HINT_AHEAD = 2048, 4 * 8192
"""Positions between two hints at the shards that come, and how far a hint looks."""
SPARES = 8
"""Frames that are tried in place of a bad one."""


class EpochSampler:
    """What Lightning's epoch hook reaches: it only keeps the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch


class Loader:
    """Batches of one split of a dataset version.

    Training: an order of (seed, epoch), the last incomplete global batch left out, so that every rank makes the same
    steps. Evaluation: index order, every frame exactly once over all ranks; ranks that run out get fillers with an empty
    key. The state is how many frames of the epoch all ranks together were given.

    Args:
        dataset: the opened dataset version.
        rows: index rows to use.
        batch_size: frames a batch and rank.
        training: in the given order, or in index order.
        seed: of the order, and of what stands in for bad frames.
        order: of training; a global shuffle if None.
        least_width_px: decode no smaller than this; None for full size.
        rank: of this process.
        ranks: processes.
        threads: decoding threads; by the machine's cores if None.
        processes: decoding processes instead of threads; 0 for none, by the machine's cores if None.
        ahead: batches that are prepared ahead.
        read_ahead: batches beyond those whose bytes are asked for from the disk.
        quarantine: takes note of bad frames.
        pin: page-locked batches.
        keep_mib: [MiB] of decoded frames that stay in memory, the first ones that were read (threads only).
        timeout_s: no batch may take longer [s].
        device: batches are copied to it one ahead.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: npt.NDArray[np.int64],
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        order: Order | None = None,
        least_width_px: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        threads: int | None = None,
        processes: int | None = 0,
        ahead: int = 3,
        read_ahead: int = 2,
        quarantine: Quarantine | None = None,
        pin: bool = False,
        keep_mib: int = 0,
        timeout_s: float = 120.0,
        device: str = "cpu",
    ) -> None:
        if training and len(rows) < batch_size * ranks:
            what = f"{len(rows)} training frames make no batch of {batch_size} on {ranks} rank(s)"
            raise DataError(f"dataset {dataset.manifest.reference}", what, "lower loader.batch_size or add data")
        self.dataset, self.rows, self.batch_size, self.training = dataset, rows, batch_size, training
        self.seed, self.least_width_px, self.rank, self.ranks = seed, least_width_px, rank, ranks
        self.sequence = order or (Shuffle(len(rows), seed) if training else Straight(len(rows)))
        self.threads, self.processes = worker_counts(threads, processes, ranks)
        self.ahead, self.read_ahead, self.pin, self.timeout_s = max(1, ahead), read_ahead, pin, timeout_s
        self.quarantine, self.keep_bytes = quarantine or Quarantine(), keep_mib << 20
        self.sampler, self.batch_sampler = EpochSampler(), None
        self.device = torch.device(device)
        self.waited_s = 0.0
        self._frames, self._hinted = 0, -1
        self._lock = Lock()
        self._stretches: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        self._reader_ahead = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._started: tuple[SampleReader, Workers, Slots] | None = None

    @property
    def global_batch(self) -> int:
        """Frames that all ranks together take in a step."""
        return self.batch_size * self.ranks

    def __len__(self) -> int:
        """Batches of the full epoch, wherever it stands."""
        count = self.sequence.count
        return count // self.global_batch if self.training else -(-count // self.global_batch)

    def state_dict(self) -> dict[str, Any]:
        """Frames of this epoch that all ranks together were given."""
        return {"frames": self._frames % max(1, len(self) * self.global_batch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after those frames; no skipping takes place. Ranks may have changed."""
        # before format 2 batches were counted, and the global batch could not change
        self._frames = int(state["frames"] if "frames" in state else state["position"] * self.global_batch)

    def positions(self, first: int) -> Positions:
        """This rank's positions of the global batch that begins there; beyond the end in an evaluation's last batch."""
        places = np.arange(self.batch_size, dtype=np.int64)
        if self.training:
            return first + self.rank * self.batch_size + places
        positions = first + places * self.ranks + self.rank
        # a last short batch stays short on one rank, but is filled up where ranks must keep step
        return positions if self.ranks > 1 else positions[positions < self.sequence.count]

    def rows_at(self, epoch: int, positions: Positions) -> npt.NDArray[np.int64]:
        """Index rows of positions; -1 beyond the end."""
        found = np.full(len(positions), -1, np.int64)
        for stretch in np.unique(positions // STRETCH):
            here = positions // STRETCH == stretch
            rows, places = self._stretch(epoch, int(stretch)), positions[here] - stretch * STRETCH
            found[here] = np.where(places < len(rows), rows[np.minimum(places, len(rows) - 1)] if len(rows) else -1, -1)
        return found

    def _stretch(self, epoch: int, number: int) -> npt.NDArray[np.int64]:
        """Rows of many neighbouring positions, computed at once and kept: the batches that come next need them."""
        key = (epoch, number)
        with self._lock:
            rows = self._stretches.get(key)
        if rows is None:
            stop = min((number + 1) * STRETCH, self.sequence.count)
            positions = np.arange(number * STRETCH, max(stop, number * STRETCH), dtype=np.int64)
            rows = self.rows[self.sequence(epoch, positions)] if len(positions) else positions
            with self._lock:
                while len(self._stretches) >= KEPT_STRETCHES:
                    self._stretches.pop(next(iter(self._stretches)))
                self._stretches[key] = rows
        return rows

    def order(self, epoch: int, batch: int) -> npt.NDArray[np.int64]:
        """Rows of this rank's share of one global batch; -1 for a filler."""
        return self.rows_at(epoch, self.positions(batch * self.global_batch))

    def __iter__(self) -> Iterator[Batch]:
        """Starts lazily: epoch and position are read at the first batch."""
        for batch in copied_ahead(self._batches(), self.device):
            self._frames += self.global_batch
            yield batch

    def _batches(self) -> Iterator[Batch]:
        whole = len(self) * self.global_batch
        if not self.training or self._frames >= whole:
            self._frames = 0
        epoch, queue = self.sampler.epoch, deque[Future[Batch]]()
        usable = self.sequence.count if not self.training else whole
        steps = iter(
            range(self._frames, usable if not self.training else usable - self.global_batch + 1, self.global_batch)
        )
        for first in steps:
            queue.append(self._begin(epoch, first))
            if len(queue) > self.ahead:
                break
        while queue:
            batch = self._wait(queue.popleft())
            if (first := next(steps, -1)) >= 0:
                queue.append(self._begin(epoch, first))
            yield batch

    def _wait(self, future: Future[Batch]) -> Batch:
        began = time.perf_counter()
        try:
            return future.result(timeout=self.timeout_s)
        except TimeoutError:
            what = f"no batch within {self.timeout_s:g} s"
            remedy = "see whether the storage answers; loader.timeout_s is the bound"
            raise DataError(f"dataset {self.dataset.manifest.reference}", what, remedy) from None
        finally:
            self.waited_s += time.perf_counter() - began

    def _begin(self, epoch: int, first: int) -> Future[Batch]:
        """Hand a batch to the workers; the one that ends last puts it together."""
        _, workers, slots = self.start()
        positions = self.positions(first)
        rows = self.rows_at(epoch, positions)
        slot = slots.take()
        assembly = Assembly(
            slot.images[: len(rows)],
            lambda place, bad: self._stand_in(bad, epoch, int(positions[place]), slot.images[place]),
            self.pin,
        )
        chunk = max(1, min(MOST_CHUNK, -(-len(rows) // (self.processes or self.threads))))
        for start in range(0, len(rows), chunk):
            assembly.expect(start, workers.submit(Task(rows[start : start + chunk], slot, start)))
        later = first + (self.ahead + self.read_ahead) * self.global_batch
        if self.read_ahead and later < self.sequence.count:
            rows = self.rows_at(epoch, self.positions(later))
            # not here: storage that hangs must not stop the trainer's thread
            self._reader_ahead.submit(self.dataset.advise, rows[rows >= 0].tolist())
        if self.dataset.source is not None and first // HINT_EVERY != self._hinted:
            self._hinted = first // HINT_EVERY
            self._reader_ahead.submit(self._hint, epoch, first)
        return assembly.result

    def _hint(self, epoch: int, first: int) -> None:
        """Name the shards that come next, soonest first; those of the next epoch's beginning too, near the end."""
        near = np.arange(first, first + HINT_AHEAD, dtype=np.int64)
        rows = self.rows_at(epoch, near)
        if self.training and rows[-1] < 0:
            rows = np.concatenate([rows, self.rows_at(epoch + 1, near[rows < 0] - self.sequence.count)])
        shards = self.dataset.rows["shard"][rows[rows >= 0]]
        _, places = np.unique(shards, return_index=True)
        self.dataset.ahead(shards[np.sort(places)].tolist())

    def start(self) -> tuple[SampleReader, Workers, Slots]:
        """Workers and memory, made at the first batch."""
        if self._started is None:
            reader = SampleReader(self.dataset, self.least_width_px, self.rows)
            shape = (self.batch_size, reader.size[1], reader.size[0], 3)
            workers: Workers
            if self.processes:
                workers = ProcessWorkers(reader, self.processes, shape)
            else:
                workers = ThreadWorkers(reader, self.threads, self.keep_bytes)
            self._started = reader, workers, Slots(shape, shared=workers.shared, pinned=self.pin and not workers.shared)
        return self._started

    def close(self) -> None:
        """End the workers; the next batch starts them anew."""
        if self._started is not None:
            self._started[1].close()
            self._started = None

    def _stand_in(self, bad: BadFrame, epoch: int, position: int, out: npt.NDArray[np.uint8]) -> Sample:
        """Another frame for a bad one (training), a pure function of its position; a filler in an evaluation."""
        self.quarantine.add(bad, len(self.rows))
        reader = self.start()[0]
        if self.training:
            draws = hash64(self.seed, "spare", epoch, position, np.arange(SPARES, dtype=np.uint64))
            spares = self.sequence(epoch, (draws % np.uint64(self.sequence.count)).astype(np.int64))
            for row in self.rows[spares]:
                found = read_one(reader, int(row), out)
                if isinstance(found, Sample):
                    return found
                self.quarantine.add(found, len(self.rows))
        return reader.filler(out)


def worker_counts(threads: int | None, processes: int | None, ranks: int) -> tuple[int, int]:
    """Decoding threads and processes of a rank: as asked, or by the machine's cores."""
    cores = max(1, usable_cores() // ranks)
    if processes is None:
        processes = cores if cores >= PROCESSES_FROM and threads is None else 0
    return (threads or cores), processes


__all__ = ["EpochSampler", "Loader", "worker_counts"]
