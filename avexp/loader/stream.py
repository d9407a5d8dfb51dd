"""Batches from WebDataset streams: pipes, and pools that have no index yet.

The webdataset library reads and shuffles; samples and batches are the same as those of the indexed loader. Its promises are
weaker: frames are shuffled within a buffer, an epoch is so many frames as is asked for, a run that is stopped begins its
epoch anew with other frames, and ranks see their own streams.
"""

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

import numpy as np

from avexp.core.counter_random import seed32
from avexp.core.errors import DataError
from avexp.core.hardware import usable_cores
from avexp.loader.collate import collate
from avexp.loader.decode import Image, decode_into, image_sizes
from avexp.loader.label_arrays import NAN, LabelParser
from avexp.loader.loader import EpochSampler
from avexp.loader.quarantine import BadFrame, Quarantine
from avexp.loader.sample import Sample, camera_arrays
from avexp.loader.slots import Slots
from avexp.records.batch import Batch
from avexp.records.frame import EgoState
from avexp.records.index import CONDITIONS

IMAGES = ("jpg", "jpeg", "png")
PROMISES = "a stream: shuffled within a buffer only, no exact resume, an epoch is as long as data.frames_per_epoch says"


class StreamLoader:
    """Training batches from tars that have no index.

    Args:
        urls: WebDataset addresses: files, ``pipe:`` commands, braces for many.
        frames_per_epoch: that all ranks together take.
        batch_size: frames a batch and rank.
        classes: object classes by index.
        annotators: whose labels to take, best first; empty for the first.
        seed: of the shuffle.
        shuffle_frames: frames in the buffer that is shuffled.
        least_width_px: decode no smaller than this.
        rank: of this process.
        ranks: processes.
        threads: decoding threads.
        ahead: batches that are prepared ahead.
        quarantine: takes note of bad frames.
        pin: page-locked batches.
        timeout_s: no batch may take longer [s].
    """

    def __init__(
        self,
        urls: Sequence[str],
        frames_per_epoch: int,
        batch_size: int,
        *,
        classes: Sequence[str],
        annotators: Sequence[str] = (),
        seed: int = 0,
        shuffle_frames: int = 1000,
        least_width_px: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        threads: int | None = None,
        ahead: int = 3,
        quarantine: Quarantine | None = None,
        pin: bool = False,
        timeout_s: float = 120.0,
    ) -> None:
        self.urls, self.frames_per_epoch, self.batch_size = list(urls), frames_per_epoch, batch_size
        self.seed, self.shuffle_frames, self.least_width_px = seed, shuffle_frames, least_width_px
        self.rank, self.ranks, self.ahead, self.pin, self.timeout_s = rank, ranks, ahead, pin, timeout_s
        self.threads = threads or max(1, usable_cores() // ranks)
        self.quarantine = quarantine or Quarantine()
        self.sampler, self.batch_sampler = EpochSampler(), None
        self.waited_s = 0.0
        self._parse = LabelParser(classes, annotators)
        self._given = 0
        if len(self) == 0:
            what = f"{frames_per_epoch} frames make no batch of {batch_size} on {ranks} rank(s)"
            raise DataError("data.frames_per_epoch", what, "raise it, or lower loader.batch_size")

    @property
    def global_batch(self) -> int:
        """Frames that all ranks together take in a step."""
        return self.batch_size * self.ranks

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.frames_per_epoch // self.global_batch

    def state_dict(self) -> dict[str, Any]:
        """Frames of this epoch that all ranks together were given."""
        return {"frames": self._given * self.global_batch % max(1, len(self) * self.global_batch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Only the beginning of an epoch can be gone on from.

        Raises:
            DataError: the checkpoint is from within an epoch.
        """
        if state.get("frames"):
            what = f"a stream cannot go on within an epoch (after {state['frames']} frames)"
            remedy = "ingest it and train on the dataset version, or begin a new run"
            raise DataError("data", what, remedy)

    def __iter__(self) -> Iterator[Batch]:
        """A reading thread puts batches into a bounded queue."""
        epoch, self._given = self.sampler.epoch, 0
        queue: Queue[Batch | BaseException] = Queue(maxsize=self.ahead)
        ended = Event()
        reader = Thread(target=self._fill, args=(epoch, queue, ended), name="stream", daemon=True)
        reader.start()
        try:
            for _ in range(len(self)):
                item = self._next(queue)
                if isinstance(item, BaseException):
                    raise item
                self._given += 1
                yield item
        finally:
            ended.set()

    def _next(self, queue: "Queue[Batch | BaseException]") -> Batch | BaseException:
        began = time.perf_counter()
        try:
            return queue.get(timeout=self.timeout_s)
        except Empty:
            what = f"no batch within {self.timeout_s:g} s"
            raise DataError(self.urls[0], what, "see whether the pipe answers; loader.timeout_s is the bound") from None
        finally:
            self.waited_s += time.perf_counter() - began

    def _fill(self, epoch: int, queue: "Queue[Batch | BaseException]", ended: Event) -> None:
        def hand_over(item: Batch | BaseException) -> bool:
            while not ended.is_set():
                with suppress(Full):
                    queue.put(item, timeout=0.2)
                    return True
            return False

        try:
            with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
                for batch in self._batches(epoch, pool):
                    if not hand_over(batch):
                        return
        except BaseException as fault:  # whatever it is, the trainer's thread must hear of it
            hand_over(fault)

    def _batches(self, epoch: int, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        slots: Slots | None = None
        size = (0, 0)
        frames = self._frames(epoch)
        while True:
            raw = list(islice(frames, self.batch_size))
            if slots is None:
                size = image_sizes(raw[0].image, raw[0].where, self.least_width_px)[1]
                slots = Slots((self.batch_size, size[1], size[0], 3), pinned=self.pin)
            images = slots.take().images
            found: dict[int, Sample] = {}
            while len(found) < self.batch_size:
                places = [place for place in range(self.batch_size) if place not in found]
                tries = raw if len(places) == self.batch_size else list(islice(frames, len(places)))
                for place, sample in zip(
                    places, pool.map(self._sample, tries, [images[p] for p in places]), strict=True
                ):
                    if sample is not None:
                        found[place] = sample
            yield collate([found[place] for place in range(self.batch_size)], images, self.pin)

    def _sample(self, frame: "RawFrame", out: Image) -> Sample | None:
        try:
            decode_into(frame.image, frame.where, out)
            arrays = self._parse(frame.labels, frame.sensor, frame.where)
            speed = EgoState.from_json(frame.ego, frame.where).speed_mps if frame.ego else None
        except DataError as fault:
            self.quarantine.add(BadFrame(frame.url, frame.key, 0, fault.what, fault.remedy), self.frames_per_epoch)
            return None
        arrays["conditions"] = np.array([len(values) - 1 for values in CONDITIONS.values()], np.int64)
        arrays["speed"] = np.array([NAN if speed is None else speed], np.float32)
        arrays["camera_matrix"], arrays["camera_pose"] = camera_arrays(None)
        full = image_sizes(frame.image, frame.where, None)[0]
        return Sample(key=frame.key, image=out, image_size=full, arrays=arrays)

    def _frames(self, epoch: int) -> Iterator["RawFrame"]:
        """Without an end: one pass after the other.

        Raises:
            DataError: a whole pass gave no frame.
        """
        for number in count():
            some = False
            for sample in self._pass(epoch, number):
                for name, content in sample.items():
                    sensor, _, extension = name.rpartition(".")
                    if extension in IMAGES:
                        some = True
                        key = f"{sample['__key__']}.{sensor}"
                        yield RawFrame(
                            url=str(sample.get("__url__", "")),
                            key=key,
                            sensor=sensor,
                            image=content,
                            labels=sample.get("labels.json"),
                            ego=sample.get("ego.json"),
                        )
            if not some:
                raise DataError(self.urls[0], "the stream gives no frame", "check data.urls; pipe:curl needs -f")

    def _pass(self, epoch: int, number: int) -> Iterator[dict[str, Any]]:
        import webdataset

        salt = seed32(self.seed, "stream", epoch, number)
        shards = list(webdataset.SimpleShardList(self.urls, seed=salt))
        mine = shards[self.rank :: self.ranks]
        if not mine:  # fewer shards than ranks: all read all, shuffled differently
            mine, salt = shards, salt + self.rank
        stages = webdataset.DataPipeline(
            lambda: iter(mine),
            webdataset.tarfile_to_samples(handler=self._bad),
            webdataset.shuffle(self.shuffle_frames, rng=random.Random(salt), handler=self._bad),
        )
        yield from stages

    def _bad(self, fault: Exception) -> bool:
        """The library's handler: note it and go on with the next shard."""
        url = str(getattr(fault, "args", ("",))[-1])[:200]
        bad = BadFrame(url, f"{url}#{len(self.quarantine.bad)}", 0, str(fault)[:200], "restore the shard")
        self.quarantine.add(bad, self.frames_per_epoch)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFrame:
    """One camera's frame, still encoded."""

    url: str
    key: str
    sensor: str
    image: bytes
    labels: bytes | None
    ego: bytes | None

    @property
    def where(self) -> str:
        """For an error."""
        return f"{self.url}:{self.key}"
