"""Splits that neighbours never straddle: by session, or by contiguous time within a session."""

from collections.abc import Sequence
from typing import Protocol

from avexp.core.counter_random import uniform
from avexp.core.errors import DataError
from avexp.records.session import Session


class Split(Protocol):
    """Says which split each frame of a session belongs to."""

    def __call__(self, session: Session, timestamps_ns: Sequence[int]) -> list[str | None]:
        """``train``, ``val``, ``test``, or None for a frame that is left out, by frame."""


class BySession:
    """Whole sessions: those whose id holds ``val_mark`` are validation; else a share of them, drawn by id.

    Args:
        val_mark: text in the id that marks a validation session, such as ``-val-``; empty for none.
        val_share: share of the other sessions that is drawn for validation.
        seed: of the draw.
    """

    def __init__(self, val_mark: str = "", val_share: float = 0.0, seed: int = 0) -> None:
        if not 0.0 <= val_share < 1.0:
            raise DataError("split.val_share", f"{val_share} is outside 0..1", "choose a share such as 0.2")
        self.val_mark, self.val_share, self.seed = val_mark, val_share, seed

    def __call__(self, session: Session, timestamps_ns: Sequence[int]) -> list[str | None]:
        """One split for all frames."""
        marked = bool(self.val_mark) and self.val_mark in session.id
        drawn = bool(uniform(1, self.seed, "split", session.id)[0] < self.val_share)
        return ["val" if marked or drawn else "train"] * len(timestamps_ns)


class ByTime:
    """The first part of each session trains, the last validates; a gap between is left out, because frames a moment
    apart show the same scene.

    Args:
        val_share: share of a session's time span, at its end, for validation.
        gap_s: time [s] left out before it.
    """

    def __init__(self, val_share: float = 0.25, gap_s: float = 0.0) -> None:
        if not 0.0 < val_share < 1.0:
            raise DataError("split.val_share", f"{val_share} is outside 0..1", "choose a share such as 0.25")
        self.val_share, self.gap_s = val_share, gap_s

    def __call__(self, session: Session, timestamps_ns: Sequence[int]) -> list[str | None]:
        """By each frame's place in the session's time span."""
        if not timestamps_ns:
            return []
        first, last = min(timestamps_ns), max(timestamps_ns)
        border = first + (last - first) * (1.0 - self.val_share)
        gap_ns = self.gap_s * 1e9
        return ["val" if t > border else "train" if t <= border - gap_ns else None for t in timestamps_ns]
