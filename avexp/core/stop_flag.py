"""The one owner of signals: a handler that only sets a flag, so that whoever works can save and stop at a sound place.

Nothing heavy is imported here: a job installs it in its first lines, because a cluster's signal may come while torch is
still being imported, and would kill by default.
"""

import os
import signal
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""Asked to end, Ctrl-C, and what SLURM sends ahead of a time limit or a preemption."""

_before: dict[int, Any] = {}
_seen: list[int] = []


def install() -> bool:
    """Take the signals over; False if they were taken already. Once more is harmless, and undoes what a library did."""
    fresh = not _before
    for number in SIGNALS:
        before = signal.signal(number, _note)
        _before.setdefault(number, before)
    return fresh


def release() -> None:
    """Give the handlers back, and forget what was asked."""
    for number, handler in _before.items():
        signal.signal(number, handler)
    _before.clear()
    _seen.clear()


def asked() -> bool:
    """Whether a signal came."""
    return bool(_seen)


def _note(number: int, frame: FrameType | None) -> None:
    # SLURM sends several, of different kinds: only a person's second Ctrl-C, or the same plea twice, means at once
    if number in _seen and number in (signal.SIGINT, signal.SIGTERM):
        os._exit(128 + number)
    if not _seen:
        os.write(2, b"\nstopping after this step (once more kills)\n")
    _seen.append(number)
