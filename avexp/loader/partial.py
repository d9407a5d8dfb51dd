"""Partial files of the cache: each belongs to the one process that holds its lock, and to nobody once that is dead."""

import os
import time
from contextlib import suppress
from pathlib import Path

from avexp.core.file_lock import taken


def claim_partial(path: Path) -> int | None:
    """A descriptor of the partial file, made if absent and locked; None if another process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    # between open and lock it may have become an entry, or have been removed
    if taken(handle) and names(path, handle):
        return handle
    os.close(handle)
    return None


def names(path: Path, handle: int) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def removed_leftover(path: Path) -> bool:
    """Remove a partial file whose fetcher is dead; False if it lives. Needs the cache's lock."""
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not taken(handle):
            return False
        if names(path, handle):
            path.unlink()
        return True
    finally:
        os.close(handle)


class Watch:
    """Notices a partial file that does not grow any more."""

    def __init__(self, path: Path) -> None:
        self._path, self._state, self._since = path, (0, 0), time.monotonic()

    def quiet_s(self) -> float:
        """Seconds since it was last written."""
        state = (0, 0)
        with suppress(FileNotFoundError):
            facts = self._path.stat()
            state = (facts.st_ino, facts.st_mtime_ns)
        if state != self._state:
            self._state, self._since = state, time.monotonic()
        return time.monotonic() - self._since

    def remove(self) -> None:
        """Take its name away, if it is still the one that was watched. Needs the cache's lock."""
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._state[0]:
                self._path.unlink()
