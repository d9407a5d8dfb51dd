"""Open shards: a bounded number, however many a dataset has; safe under threads."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

MOST_OPEN = 256
"""Below the usual limit of 1024 files a process."""


class Handle:
    """A file descriptor that is closed when its last user lets go of it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class Handles:
    """The handles used last.

    Args:
        most: open at once.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self.most = most
        self._lock = Lock()
        self._open: OrderedDict[Hashable, Handle] = OrderedDict()

    def get(self, key: Hashable, opener: Callable[[], int]) -> Handle:
        """The handle of a key, opened if it is not; hold it while reading."""
        with self._lock:
            handle = self._open.get(key)
            if handle is not None:
                self._open.move_to_end(key)
                return handle
        handle = Handle(opener())  # outside the lock: a store that is slow stops only who waits for it
        with self._lock:
            handle = self._open.setdefault(key, handle)
            while len(self._open) > self.most:
                self._open.popitem(last=False)
        return handle

    def drop(self, key: Hashable) -> None:
        """Open it anew next time."""
        with self._lock:
            self._open.pop(key, None)
