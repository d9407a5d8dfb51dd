"""Batches in an order that is a pure function of (seed, epoch, position), with an O(1) resume.

The contract with Lightning (facts: it calls ``iter()`` before ``set_epoch``, needs ``__len__`` of the full epoch, stores
``state_dict``): see the attributes. Decoding runs in threads: the decoder releases the interpreter lock.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.loader.collate import collate
from avexp.loader.order import permute
from avexp.loader.sample import Sample, filler, key_hash, read_sample
from avexp.records.batch import Batch
from avexp.records.dataset import Dataset

WAIT_S = 120.0
"""No batch may take longer [s]."""


class Quarantine:
    """What could not be read: counted, named, and bounded.

    Args:
        most_share: the run stops when more than this share of the frames asked for was bad.
        least: ... but not before this many were.
        on_bad: told of each, such as a line in the run's ledger.
    """

    def __init__(
        self, most_share: float = 0.01, least: int = 10, on_bad: Callable[[DataError], None] | None = None
    ) -> None:
        self.most_share, self.least, self.on_bad = most_share, least, on_bad
        self.faults: dict[str, DataError] = {}

    def add(self, fault: DataError, frames: int) -> None:
        """Take note of a bad frame of a dataset of so many frames.

        Raises:
            DataError: too many.
        """
        if fault.where in self.faults:
            return
        self.faults[fault.where] = fault
        if self.on_bad is not None:
            self.on_bad(fault)
        if len(self.faults) > max(self.least, self.most_share * frames):
            what = f"{len(self.faults)} bad frames of {frames}, the last: {fault}"
            raise DataError("data", what, "repair the dataset, or raise loader.most_bad_share")


class EpochSampler:
    """What Lightning's epoch hook reaches: it only keeps the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch


class Loader:
    """Batches of one split of a dataset version.

    Training: the permutation of (seed, epoch), the last incomplete global batch left out, so that every rank makes the
    same steps. Evaluation: index order, every frame exactly once over all ranks; ranks that run out get fillers with
    an empty key.

    Args:
        dataset: the opened dataset version.
        rows: index rows to use.
        batch_size: frames a batch and rank.
        training: permuted, or in order.
        seed: of the permutation.
        least_width_px: decode no smaller than this; None for full size.
        rank: of this process.
        ranks: processes.
        threads: decoding threads.
        ahead: batches that are prepared ahead.
        quarantine: takes note of bad frames.
        pin: page-locked batches.
        keep_mib: [MiB] of decoded frames that stay in memory, the first ones that were read; without their Labels.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: npt.NDArray[np.int64],
        batch_size: int,
        *,
        training: bool,
        seed: int = 0,
        least_width_px: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        threads: int = 2,
        ahead: int = 3,
        quarantine: Quarantine | None = None,
        pin: bool = False,
        keep_mib: int = 0,
    ) -> None:
        if training and len(rows) < batch_size * ranks:
            what = f"{len(rows)} training frames make no batch of {batch_size} on {ranks} rank(s)"
            raise DataError(f"dataset {dataset.manifest.reference}", what, "lower loader.batch_size or add data")
        self.dataset, self.rows, self.batch_size, self.training = dataset, rows, batch_size, training
        self.seed, self.least_width_px, self.rank, self.ranks = seed, least_width_px, rank, ranks
        self.threads, self.ahead, self.pin = max(1, threads), max(1, ahead), pin
        self.quarantine = quarantine or Quarantine()
        self.sampler, self.batch_sampler = EpochSampler(), None
        self._position = 0
        self._kept: dict[int, Sample] = {}
        self._room = keep_mib << 20
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Batches of the full epoch, wherever it stands."""
        per_step = self.batch_size * self.ranks
        return len(self.rows) // per_step if self.training else -(-len(self.rows) // per_step)

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out in this epoch."""
        return {"position": self._position % max(1, len(self))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after that batch; no skipping takes place."""
        self._position = int(state["position"])

    def order(self, epoch: int, batch: int) -> npt.NDArray[np.int64]:
        """Rows of this rank's share of one global batch; -1 for a filler."""
        first = batch * self.batch_size * self.ranks
        if self.training:
            positions = first + self.rank * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
            return self.rows[permute(positions, len(self.rows), self.seed, epoch)]
        positions = first + np.arange(self.batch_size, dtype=np.int64) * self.ranks + self.rank
        real = positions < len(self.rows)
        # a last short batch stays short on one rank, but is filled up where ranks must keep step
        wanted = positions if self.ranks > 1 else positions[real]
        return np.where(wanted < len(self.rows), self.rows[np.minimum(wanted, len(self.rows) - 1)], -1)

    def __iter__(self) -> Iterator[Batch]:
        """Starts lazily: epoch and position are read at the first batch."""
        if not self.training or self._position >= len(self):
            self._position = 0
        epoch, queue = self.sampler.epoch, deque[Future[Batch]]()
        upcoming = iter(range(self._position, len(self)))
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")
        for number in upcoming:
            queue.append(self._pool.submit(self._batch, epoch, number))
            if len(queue) > self.ahead:
                break
        while queue:
            batch = queue.popleft().result(timeout=WAIT_S)
            if (number := next(upcoming, -1)) >= 0:
                queue.append(self._pool.submit(self._batch, epoch, number))
            self._position += 1
            yield batch

    def _batch(self, epoch: int, number: int) -> Batch:
        return collate(self.samples(self.order(epoch, number)), self.pin)

    def samples(self, rows: npt.NDArray[np.int64]) -> list[Sample]:
        """Read rows; a bad frame becomes a black one without labels (training) or with an empty key (evaluation)."""
        found: list[Sample | None] = [self._sample(int(row)) for row in rows]
        like = next((sample for sample in found if sample is not None), None)
        sizes = self.dataset.manifest.image_sizes_px
        size = sizes[0] if sizes else (self.least_width_px or 640, 360)
        classes = self.dataset.manifest.object_classes
        return [sample if sample is not None else filler(like, size, classes) for sample in found]

    def _sample(self, row: int) -> Sample | None:
        if row < 0:
            return None
        if (kept := self._kept.get(row)) is not None:
            return kept
        try:
            sample = read_sample(self.dataset, row, self.least_width_px)
        except DataError as fault:
            self.quarantine.add(fault, len(self.rows))
            return None
        if self._room > 0:
            self._kept[row] = replace(sample, labels=None)
            self._room -= sample.image.nbytes + sum(array.nbytes for array in sample.arrays.values())
        return sample


__all__ = ["EpochSampler", "Loader", "Quarantine", "key_hash"]
