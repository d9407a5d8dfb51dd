"""A batch that is put together by whichever worker ends last, so that the trainer's thread does not."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from threading import Lock

from avexp.loader.collate import collate
from avexp.loader.decode import Image
from avexp.loader.quarantine import BadFrame
from avexp.loader.sample import Sample
from avexp.loader.workers import Found
from avexp.records.batch import Batch


class Assembly:
    """Collects the parts of one batch.

    Args:
        images: uint8 [B, H, W, 3], which the workers fill.
        stand_in: gives a Sample for a bad frame, by its place.
        pin: page-locked tensors.
    """

    def __init__(self, images: Image, stand_in: Callable[[int, BadFrame], Sample], pin: bool) -> None:
        self.images, self.stand_in, self.pin = images, stand_in, pin
        self.result: Future[Batch] = Future()
        self._found: dict[int, Sample] = {}
        self._lock = Lock()

    def expect(self, first: int, part: "Future[Found]") -> None:
        """Take in a part when it is done."""
        part.add_done_callback(lambda done: self._arrived(first, done))

    def _arrived(self, first: int, part: "Future[Found]") -> None:
        try:
            found = {
                first + place: self.stand_in(first + place, one) if isinstance(one, BadFrame) else one
                for place, one in enumerate(part.result())
            }
            with self._lock:
                self._found |= found
                whole = len(self._found) == len(self.images)
            if whole:
                samples = [self._found[place] for place in range(len(self.images))]
                self.result.set_result(collate(samples, self.images, self.pin))
        except (Exception, CancelledError) as fault:
            with self._lock:
                if not self.result.done():
                    self.result.set_exception(fault)
