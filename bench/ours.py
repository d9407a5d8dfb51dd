"""avexp's loader, and the bare decoder that bounds it: run by loader.py, each in a process of its own."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from meter import main

from avexp.loader.loader import Loader
from avexp.records.batch import Batch
from avexp.records.dataset import Dataset

AHEAD = 3


class Ours:
    """Batches without end; a new iteration at the end of an epoch."""

    def __init__(self, root: str, workers: int, batch: int, size: tuple[int, int], processes: int, **_: Any) -> None:
        torch.set_num_threads(1)
        dataset = Dataset.open(Path(root), "big")
        self.loader = Loader(
            dataset,
            dataset.select("train"),
            batch,
            training=True,
            least_width_px=size[0],
            threads=workers,
            processes=processes,
            ahead=AHEAD,
        )
        self.extra: dict[str, float] = {}

    def __iter__(self) -> Iterator[torch.Tensor]:
        first: Batch = next(iter(self.loader))
        yield first.images
        time.sleep(1.0)  # what was prepared ahead ends
        began = time.perf_counter()
        again = iter(self.loader)
        first = next(again)
        self.extra["first_batch_up_s"] = time.perf_counter() - began  # workers are up, memory is there
        yield first.images
        while True:
            for one in again:
                yield one.images
            self.loader.sampler.epoch += 1
            again = iter(self.loader)


def threads(**options: Any) -> Ours:
    """Decoding threads."""
    return Ours(processes=0, **options)


def processes(**options: Any) -> Ours:
    """Decoding processes."""
    return Ours(processes=options["workers"], **options)


def bare(root: str, workers: int, batch: int, size: tuple[int, int], **_: Any) -> Iterator[np.ndarray]:
    """The decoder alone: JPEG from memory into batches that are there, nothing read, nothing else made."""
    dataset = Dataset.open(Path(root), "big")
    jpegs = [dataset.read(int(row), "image") or b"" for row in dataset.select("train")]
    np.random.default_rng(0).shuffle(jpegs)
    slots = [np.zeros((batch, size[1], size[0], 3), np.uint8) for _ in range(AHEAD + 2)]
    pool, chunk = ThreadPoolExecutor(workers), 8

    def fill(slot: np.ndarray, place: int, start: int) -> None:
        for number in range(chunk):
            jpeg = jpegs[(start + number) % len(jpegs)]
            simplejpeg.decode_jpeg(
                jpeg, "RGB", min_height=size[1] - 1, min_width=size[0] - 1, buffer=slot[place + number]
            )

    def begin(number: int) -> tuple[np.ndarray, list[Future[None]]]:
        slot = slots[number % len(slots)]
        return slot, [pool.submit(fill, slot, place, number * batch + place) for place in range(0, batch, chunk)]

    def batches() -> Iterator[np.ndarray]:
        number, queue = 0, deque[tuple[np.ndarray, list[Future[None]]]]()
        while True:
            while len(queue) <= AHEAD:
                queue.append(begin(number))
                number += 1
            slot, parts = queue.popleft()
            for part in parts:
                part.result()
            yield slot

    return batches()


if __name__ == "__main__":
    main({"ours": threads, "ours, processes": processes, "bare": bare})
