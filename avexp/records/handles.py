"""Open files of shards: leased to readers, closed when many are open or when the file was removed meanwhile."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MOST_OPEN = 256
"""Far below what a process may have open (1024 by default)."""
SWEEP_S = 1.0
"""Removed files are looked for no more often than this [s]."""


@dataclass
class _Handle:
    file: int
    users: int = 0
    unwanted: bool = False


class Handles:
    """Descriptors by shard number, the least recently used closed beyond a bound. Safe between threads.

    A descriptor that is in use is never closed. One whose file was removed (evicted from a cache) is closed at the next
    opening, so that its space is freed.

    Args:
        opener: opens a shard; may take long, and is called by one thread at a time for the same shard.
        most_open: descriptors that stay open.
    """

    def __init__(self, opener: Callable[[int], int], most_open: int = MOST_OPEN) -> None:
        self.opener, self.most_open = opener, most_open
        self._open: OrderedDict[int, _Handle] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()
        self._swept = 0.0

    @contextmanager
    def lease(self, shard: int) -> Iterator[int]:
        """A descriptor, open for as long as the block runs."""
        handle = self._taken(shard)
        if handle is None:
            with self._lock:
                opening = self._opening.setdefault(shard, threading.Lock())
            with opening:
                handle = self._taken(shard) or self._opened(shard)
        try:
            yield handle.file
        finally:
            with self._lock:
                handle.users -= 1
                self._close_if_unwanted(handle)

    def forget(self, shard: int) -> None:
        """The next lease opens the shard anew."""
        with self._lock:
            self._drop(shard)

    def __len__(self) -> int:
        return len(self._open)

    def __del__(self) -> None:
        for handle in self._open.values():
            os.close(handle.file)

    def _taken(self, shard: int) -> _Handle | None:
        with self._lock:
            handle = self._open.get(shard)
            if handle is not None:
                handle.users += 1
                self._open.move_to_end(shard)
            return handle

    def _opened(self, shard: int) -> _Handle:
        handle = _Handle(self.opener(shard), users=1)
        with self._lock:
            self._opening.pop(shard, None)
            self._open[shard] = handle
            if time.monotonic() - self._swept > SWEEP_S:
                self._sweep()
            while len(self._open) > self.most_open:
                self._drop(next(iter(self._open)))
        return handle

    def _sweep(self) -> None:
        self._swept = time.monotonic()
        for number in [number for number, one in self._open.items() if os.fstat(one.file).st_nlink == 0]:
            self._drop(number)

    def _drop(self, shard: int) -> None:
        handle = self._open.pop(shard, None)
        if handle is not None:
            handle.unwanted = True
            self._close_if_unwanted(handle)

    def _close_if_unwanted(self, handle: _Handle) -> None:
        if handle.unwanted and handle.users == 0:
            handle.users = -1
            os.close(handle.file)
