"""Where a shard lies: under the storage root, else in the level-0 cache, filled from an object store, ahead of use."""

import atexit
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from avexp.core.errors import AvexpError
from avexp.core.files import digest_file
from avexp.loader.cache import ShardCache
from avexp.loader.cache_stats import CacheStats
from avexp.loader.remote import RemoteStore
from avexp.records.dataset import DatasetShard

DEFAULT_CACHE_GIB = 10.0
"""Where the hardware profile names no size [GiB]."""
RECENT_S = 30.0
"""A shard that could not be had is not asked for again this long: its other frames fail at once [s]."""
LOOK_AGAIN_S = 1.0
"""A fetcher that finds nothing to do, or no room, looks again after this long, or at the next hint [s]."""
CLOSE_S = 5.0


class Tiers:
    """Opens shards wherever they lie, and fetches ahead. Safe between threads; can be sent to a spawned process.

    Args:
        root: storage root; what lies there is used as it is.
        remote: the object store with the same layout below its URL.
        cache: what is fetched lies here.
        fetchers: shards that are fetched ahead at a time.
    """

    def __init__(self, root: Path, remote: RemoteStore, cache: ShardCache, fetchers: int = 2) -> None:
        self.root, self.remote, self.cache, self.fetchers = root, remote, cache, fetchers
        self._coming: list[DatasetShard] = []
        self._keep: list[str] = []
        self._busy: set[str] = set()
        self._failed: dict[str, tuple[float, AvexpError]] = {}
        self._seen: dict[str, float] = {}
        self._sound: set[str] = set()
        self._bad_local: set[str] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._pid, self._closed = os.getpid(), False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root, self.remote, self.cache, self.fetchers)

    def stats(self) -> CacheStats:
        """What this process's cache did so far."""
        return self.cache.stats

    def open_shard(self, shard: DatasetShard) -> int:
        """A descriptor of a shard, for the caller to close; fetched first where it must be.

        Raises:
            DataError: it cannot be had.
        """
        if (handle := self._local(shard)) is not None:
            return handle
        when, fault = self._failed.get(shard.sha256, (0.0, None))
        if fault is not None and time.monotonic() - when < RECENT_S:
            raise fault
        try:
            return self.cache.get(shard.sha256, shard.bytes, partial(self._fetch, shard), keep=self._keep)
        except AvexpError as fault:
            self._failed[shard.sha256] = (time.monotonic(), fault)
            raise

    def mend(self, shard: DatasetShard) -> None:
        """A part of this shard was wrong: see whether the stored copy is, and have it fetched anew then. A shard that was
        found sound is not read again.
        """
        with self._changed:
            if shard.sha256 in self._sound:
                return
        path = self.root / shard.path
        if shard.path not in self._bad_local and path.is_file():
            sound = digest_file(path) == shard.sha256
            if not sound:
                self._bad_local.add(shard.path)
        else:
            sound = self.cache.check(shard.sha256)
        if sound:
            with self._changed:
                self._sound.add(shard.sha256)

    def ahead(self, shards: Sequence[DatasetShard]) -> None:
        """Shards in the order of their coming use. Returns at once; each call replaces the one before."""
        if self._pid != os.getpid():  # forked: the fetchers stayed in the parent
            self._pid, self._threads, self._changed, self._busy = os.getpid(), [], threading.Condition(), set()
        window, room = [], self.cache.limit_bytes
        for shard in shards:
            room -= shard.bytes
            if room < 0:
                break
            window.append(shard)
        with self._changed:
            if self._closed or window == self._coming:
                return
            self._coming, self._keep = window, [shard.sha256 for shard in window]
            self._changed.notify_all()
        if window and not self._threads:
            atexit.register(self.close)
            self._threads = [
                threading.Thread(target=self._run, name="ahead", daemon=True) for _ in range(self.fetchers)
            ]
            for thread in self._threads:
                thread.start()

    def close(self) -> None:
        """End the fetchers, and add to the cache's statistics."""
        with self._changed:
            self._closed, self._coming = True, []
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_S)
        atexit.unregister(self.close)
        with suppress(AvexpError, OSError):
            self.cache.flush()

    def _local(self, shard: DatasetShard) -> int | None:
        if shard.path in self._bad_local:
            return None
        try:
            handle = os.open(self.root / shard.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        if os.fstat(handle).st_size == shard.bytes:
            return handle
        os.close(handle)
        return None

    def _fetch(self, shard: DatasetShard, handle: int) -> str:
        return self.remote.fetch(shard.path, handle, shard.bytes, shard.sha256)

    def _run(self) -> None:
        while not self._closed:
            shard = self._next()
            if shard is None:
                with self._changed:
                    self._changed.wait(LOOK_AGAIN_S)
                continue
            try:
                fetch = partial(self._fetch, shard)
                if not self.cache.fill(shard.sha256, shard.bytes, fetch, keep=self._keep):
                    with self._changed:
                        self._changed.wait(LOOK_AGAIN_S)
            except AvexpError as fault:
                self._failed[shard.sha256] = (time.monotonic(), fault)
            except RuntimeError:  # the interpreter ends, and starts no thread any more
                return
            finally:
                with self._changed:
                    self._busy.discard(shard.sha256)

    def _next(self) -> DatasetShard | None:
        """The first coming shard that is nowhere here and that nobody fetches."""
        with self._changed:
            coming = list(self._coming)
        for shard in coming:
            if self._recently(shard) or self._here(shard):
                continue
            with self._changed:
                if shard.sha256 not in self._busy:
                    self._busy.add(shard.sha256)
                    return shard
        return None

    def _recently(self, shard: DatasetShard) -> bool:
        """Whether it was seen here, or failed, a short while ago."""
        failed = self._failed[shard.sha256][0] if shard.sha256 in self._failed else -RECENT_S
        return time.monotonic() - max(failed, self._seen.get(shard.sha256, -RECENT_S)) < RECENT_S

    def _here(self, shard: DatasetShard) -> bool:
        local = shard.path not in self._bad_local and (self.root / shard.path).is_file()
        found = local or self.cache.has(shard.sha256)
        if found:
            self._seen[shard.sha256] = time.monotonic()
        return found


def open_tiers(root: Path, remote: str | None, cache: str | None = None, cache_gib: float = 0.0) -> Tiers | None:
    """The tiers of a run; None where all lies under the storage root.

    Args:
        root: storage root.
        remote: URL of the object store.
        cache: folder of the level-0 cache; ``<root>/cache`` if None.
        cache_gib: its limit [GiB]; DEFAULT_CACHE_GIB if 0.

    Raises:
        DataError: the URL is wrong, or the cache folder cannot be used.
    """
    if not remote:
        return None
    limit = int((cache_gib or DEFAULT_CACHE_GIB) * 2**30)
    return Tiers(root, RemoteStore(remote), ShardCache(Path(cache) if cache else root / "cache", limit))
