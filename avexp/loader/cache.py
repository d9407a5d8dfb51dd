"""The level-0 cache: whole shards in a folder of bounded size, shared by all processes of a node, least recently used
evicted first. No daemon: short file locks, and the files' own times.

``entries/<2 digits>/<sha256>`` are complete and were checked against their digest. ``partial/<sha256>`` is one that is being
fetched: its fetcher holds the file's lock, which the kernel frees however the fetcher dies, so a partial whose lock can be
taken is a leftover. It becomes an entry by a rename of that same file. ``usage`` counts the bytes of both, and errs to the
high side only (it is raised before a file grows and lowered after one is gone); a scan puts it right.
"""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from avexp.core.errors import DataError
from avexp.core.file_lock import file_lock
from avexp.loader.cache_stats import CacheStats, Counter, read_facts, read_stats, replace_small
from avexp.loader.partial import Watch, claim_partial, names, removed_leftover

Fetch = Callable[[int], str]
"""Writes the whole content to a file descriptor; returns the sha256 (hex) of what it wrote."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOCK_S = 30.0
"""The short lock is held for milliseconds; after this long something is badly wrong [s]."""
POLL_S = 0.01
FLUSH_S = 5.0
"""Hits are written to the shared statistics this often [s]."""
MANY = 256
"""From so many entries on, an eviction frees a little more than it must, so that not every fetch scans the folder."""


@dataclass(frozen=True)
class _Entry:
    path: Path
    bytes: int
    used_ns: int


class ShardCache:
    """A cache folder, as one process uses it.

    Args:
        folder: made if absent.
        limit_bytes: of all files together; a lower limit than before evicts at once.
        wait_s: how long to wait for a shard that another process fetches [s].
        stall_s: a fetcher that writes nothing for this long is given up, and the shard fetched here [s].

    Raises:
        DataError: the folder cannot be used.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, wait_s: float = 600.0, stall_s: float = 120.0) -> None:
        self.folder, self.limit_bytes, self.wait_s, self.stall_s = folder, limit_bytes, wait_s, stall_s
        self._counter = Counter()
        try:
            (folder / "entries").mkdir(parents=True, exist_ok=True)
            (folder / "partial").mkdir(exist_ok=True)
        except OSError as fault:
            raise DataError(str(folder), f"no cache can be there ({fault.strerror})", "set storage.cache") from fault
        self.trim(limit_bytes)

    @property
    def stats(self) -> CacheStats:
        """What this process did with it."""
        return self._counter.stats

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.folder, self.limit_bytes, self.wait_s, self.stall_s)

    def get(self, sha256: str, size: int, fetch: Fetch, *, keep: Sequence[str] = ()) -> int:
        """An open descriptor of an entry, fetched first where it is not there. The caller closes it.

        Args:
            sha256: of the content, hex.
            size: of the content [bytes].
            fetch: called in one process at a time.
            keep: digests that are needed soon, soonest first: evicted only when nothing else is left, the last first.

        Raises:
            DataError: no room, a full disk, wrong bytes, or nobody could fetch it in time.
        """
        handle = self.open(sha256, size)
        if handle is not None:
            self._counter.add(hits=1)
            if time.monotonic() - self._counter.told_at > FLUSH_S:
                self.flush()
            return handle
        began = time.monotonic()
        try:
            handle = self._fetched(sha256, size, fetch, keep, last_resort=True)
        finally:
            self._counter.add(misses=1, wait_s=time.monotonic() - began)
        if handle is None:
            limit, wanted = f"{self.limit_bytes / 2**30:.2f} GiB", f"{size / 2**30:.2f} GiB"
            what = f"a shard of {wanted} finds no room within the cache's limit of {limit}"
            raise DataError(str(self.folder), what, "raise hardware.cache_gib")
        return handle

    def fill(self, sha256: str, size: int, fetch: Fetch, *, keep: Sequence[str] = ()) -> bool:
        """Make sure that an entry is there; False if only an entry of ``keep`` could make room for it.

        Raises:
            DataError: as ``get``.
        """
        handle = self.open(sha256, size)
        if handle is None:
            handle = self._fetched(sha256, size, fetch, keep, last_resort=False)
        if handle is None:
            return False
        os.close(handle)
        return True

    def has(self, sha256: str) -> bool:
        """Whether an entry is there; it counts as used, so that processes with other hints keep it too."""
        now = time.time_ns()
        try:
            os.utime(self._entry(sha256), ns=(now, now))
        except FileNotFoundError:
            return False
        except OSError:  # another user's entry
            return self._entry(sha256).is_file()
        return True

    def open(self, sha256: str, size: int) -> int | None:
        """A descriptor of an entry, which is now the most recently used one; None if it is not there."""
        try:
            handle = os.open(self._entry(sha256), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(handle).st_size != size:  # only a power cut leaves such a file
            os.close(handle)
            self.drop(sha256)
            return None
        now = time.time_ns()
        with suppress(OSError):
            os.utime(handle, ns=(now, now))
        return handle

    def check(self, sha256: str) -> bool:
        """Whether an entry holds the bytes of its digest; one that does not is dropped."""
        with suppress(FileNotFoundError), self._entry(sha256).open("rb") as stream:
            if hashlib.file_digest(cast(Any, stream), "sha256").hexdigest() == sha256:
                return True
            self.drop(sha256)
        return False

    def drop(self, sha256: str) -> None:
        """Remove an entry whose bytes are wrong."""
        with self._locked(), suppress(FileNotFoundError):
            path, used = self._entry(sha256), self._usage()
            size = path.stat().st_size
            path.unlink()
            self._set_usage(used - size)
            self._counter.add(dropped=1)

    def trim(self, to_bytes: int) -> int:
        """Remove leftovers, and entries until no more than this is used; returns the bytes that are used then."""
        with self._locked():
            return self._make_room(to_bytes, 0, ())

    def flush(self) -> None:
        """Add what this process did to the statistics of all; called from time to time and at the end."""
        with self._locked():
            pass

    def _entry(self, sha256: str) -> Path:
        return self.folder / "entries" / sha256[:2] / sha256

    def _partial(self, sha256: str) -> Path:
        return self.folder / "partial" / sha256

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock():
            yield
            self._counter.tell(self.folder, self.limit_bytes)

    def _lock(self) -> AbstractContextManager[None]:
        return file_lock(self.folder / "lock", LOCK_S)

    def _fetched(self, sha256: str, size: int, fetch: Fetch, keep: Sequence[str], *, last_resort: bool) -> int | None:
        """Fetch here, or wait for another that does."""
        try:
            return self._fetched_or_awaited(sha256, size, fetch, keep, last_resort)
        except OSError as fault:
            remedy = "free space, or set storage.cache to another disk"
            raise DataError(str(self.folder), f"cannot be written ({fault.strerror})", remedy) from fault

    def _fetched_or_awaited(
        self, sha256: str, size: int, fetch: Fetch, keep: Sequence[str], last_resort: bool
    ) -> int | None:
        deadline = time.monotonic() + self.wait_s
        watch = Watch(self._partial(sha256))
        while time.monotonic() < deadline:
            claim = claim_partial(self._partial(sha256))
            found = self.open(sha256, size)
            if claim is not None:
                if found is None:
                    return self._fill(claim, sha256, size, fetch, keep, last_resort)
                self._discard(claim, sha256)
            if found is not None:
                return found
            if watch.quiet_s() > self.stall_s:
                with self._lock():
                    watch.remove()
            time.sleep(POLL_S)
        what = f"another process has been fetching it for {self.wait_s:.0f} s"
        raise DataError(str(self._partial(sha256)), what, "see what it does, or end it and repeat")

    def _fill(
        self, claim: int, sha256: str, size: int, fetch: Fetch, keep: Sequence[str], last_resort: bool
    ) -> int | None:
        try:
            if not self._reserve(claim, size, keep, last_resort):
                self._discard(claim, sha256)
                return None
            digest = self._written(claim, size, fetch, keep, last_resort)
            if digest != sha256:
                raise DataError(sha256, f"the bytes that were fetched have sha256 {digest}", "restore the shard")
            self._publish(claim, sha256, size)
        except BaseException:
            self._discard(claim, sha256)
            raise
        fcntl.flock(claim, fcntl.LOCK_UN)
        return claim

    def _publish(self, claim: int, sha256: str, size: int) -> None:
        with self._locked():
            self._counter.add(fetched=1, bytes_fetched=size)
            # one that was given up as stalled has lost its name: its bytes are right, and serve its reader alone
            if names(self._partial(sha256), claim):
                self._entry(sha256).parent.mkdir(exist_ok=True)
                self._partial(sha256).rename(self._entry(sha256))

    def _reserve(self, claim: int, size: int, keep: Sequence[str], last_resort: bool) -> bool:
        if size > self.limit_bytes:
            return False
        os.ftruncate(claim, 0)
        with self._locked():
            used = self._usage()
            if used + size > self.limit_bytes:
                used = self._make_room(self.limit_bytes - size, size, keep, last_resort=last_resort)
            if used + size > self.limit_bytes:
                return False
            self._set_usage(used + size)
            os.ftruncate(claim, size)
        return True

    def _written(self, claim: int, size: int, fetch: Fetch, keep: Sequence[str], last_resort: bool) -> str:
        """Fetch; on a full disk evict and fetch again, until nothing is left to evict."""
        while True:
            try:
                return fetch(claim)
            except OSError as fault:
                if fault.errno not in FULL:
                    raise
                with self._locked():
                    before = self._usage()
                    if self._make_room(before - size, 0, keep, last_resort=last_resort) >= before:
                        raise

    def _discard(self, claim: int, sha256: str) -> None:
        """Give up a partial file."""
        try:
            with self._locked():
                used = self._usage()
                if names(self._partial(sha256), claim):
                    self._partial(sha256).unlink()
                    self._set_usage(used - os.fstat(claim).st_size)
        finally:
            os.close(claim)

    def _make_room(self, target: int, need: int, keep: Sequence[str], *, last_resort: bool = False) -> int:
        """Evict until no more than ``target`` is used; scans. Returns what is used. Needs the lock."""
        entries, used = self._scan()
        coming = {sha256: -place for place, sha256 in enumerate(keep)}
        if used > target:
            spare = self.limit_bytes // 64 if need and len(entries) >= MANY else 0
            past = sorted(
                (entry for entry in entries if entry.path.name not in coming), key=lambda entry: entry.used_ns
            )
            for entry in past:
                if used <= target - spare:
                    break
                used -= self._evict(entry)
        if last_resort and used > target:
            for entry in sorted((e for e in entries if e.path.name in coming), key=lambda e: coming[e.path.name]):
                if used <= target:
                    break
                used -= self._evict(entry)
        self._set_usage(used)
        return used

    def _evict(self, entry: _Entry) -> int:
        entry.path.unlink(missing_ok=True)
        self._counter.add(evictions=1)
        return entry.bytes

    def _scan(self) -> tuple[list[_Entry], int]:
        """All entries, and the bytes of all files; leftovers of dead fetchers are removed."""
        entries = list(_entries(self.folder))
        used = sum(entry.bytes for entry in entries)
        for path in (self.folder / "partial").iterdir():
            with suppress(FileNotFoundError):
                used += 0 if removed_leftover(path) else path.stat().st_size
        return entries, used

    def _usage(self) -> int:
        try:
            return int((self.folder / "usage").read_bytes())
        except (FileNotFoundError, ValueError):
            return self._scan()[1]

    def _set_usage(self, used: int) -> None:
        path = self.folder / "usage"
        try:
            replace_small(path, str(max(0, used)))
        except OSError:  # not even this fits on the disk: unknown, so that the next one scans
            path.unlink(missing_ok=True)


def summary(folder: Path) -> dict[str, Any]:
    """What a cache folder holds and did, without a change to it.

    Raises:
        DataError: there is none.
    """
    if not (folder / "entries").is_dir():
        raise DataError(str(folder), "no cache is there", "it is made by the first run with storage.remote")
    entries = list(_entries(folder))
    partial = list((folder / "partial").iterdir())
    oldest = min((entry.used_ns for entry in entries), default=None)
    return {
        "folder": str(folder),
        "limit_bytes": read_facts(folder).get("limit_bytes"),
        "entries": len(entries),
        "bytes": sum(entry.bytes for entry in entries),
        "being_fetched": len(partial),
        "longest_unused_s": None if oldest is None else round((time.time_ns() - oldest) / 1e9, 1),
        **asdict(read_stats(folder)),
    }


def _remade(folder: Path, limit_bytes: int, wait_s: float, stall_s: float) -> ShardCache:
    return ShardCache(folder, limit_bytes, wait_s=wait_s, stall_s=stall_s)


def _entries(folder: Path) -> Iterator[_Entry]:
    for group in os.scandir(folder / "entries"):
        for entry in os.scandir(group.path):
            with suppress(FileNotFoundError):
                facts = entry.stat()
                yield _Entry(Path(entry.path), facts.st_size, facts.st_mtime_ns)
