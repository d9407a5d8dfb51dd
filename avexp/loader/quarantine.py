"""What could not be read: named, counted, and bounded."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from avexp.core.errors import DataError

MOST_BAD_SHARE = 0.001
"""Of the frames; the run stops beyond it."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that cannot be read.

    Attributes:
        shard: path below the storage root.
        key: ``<session>/<timestamp_ns>.<sensor>``.
        offset: of its image in the shard [bytes].
        reason: why not.
        remedy: what to do about it.
    """

    shard: str
    key: str
    offset: int
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.shard}:{self.key}@{self.offset}: {self.reason}"


class Quarantine:
    """The frames that were left out.

    Args:
        most_share: the run stops when more than this share of the frames is bad; one is borne unless it is 0.
        on_bad: told of each once, such as a line in the run's ledger.
    """

    def __init__(self, most_share: float = MOST_BAD_SHARE, on_bad: Callable[[BadFrame], None] | None = None) -> None:
        self.most_share, self.on_bad = most_share, on_bad
        self.bad: dict[str, BadFrame] = {}
        self._lock = Lock()

    def add(self, frame: BadFrame, frames: int) -> None:
        """Take note of a bad frame of a dataset of so many frames.

        Raises:
            DataError: too many.
        """
        with self._lock:
            if frame.key in self.bad:
                return
            self.bad[frame.key] = frame
        if self.on_bad is not None:
            self.on_bad(frame)
        if len(self.bad) > (max(1.0, self.most_share * frames) if self.most_share else 0):
            what = f"{len(self.bad)} bad frames of {frames}, the last: {frame}; {frame.remedy}"
            remedy = "find all with avexp dataset verify, or raise loader.most_bad_share"
            raise DataError("data", what, remedy)
