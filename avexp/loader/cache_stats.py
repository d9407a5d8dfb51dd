"""What a cache did: counted by each process, and added up for all in the cache's folder."""

import json
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass
class CacheStats:
    """Openings that found the shard, those that had to wait for it, and what was fetched for both."""

    hits: int = 0
    misses: int = 0
    fetched: int = 0  # shards
    bytes_fetched: int = 0
    evictions: int = 0
    dropped: int = 0  # entries whose bytes were wrong
    wait_s: float = 0.0  # that readers waited for shards

    def __str__(self) -> str:
        opened = self.hits + self.misses
        share = f"{100 * self.hits / opened:.1f} %" if opened else "nothing opened"
        text = f"{self.hits} hits, {self.misses} misses ({share}); fetched {self.fetched} shards, "
        text += f"{self.bytes_fetched / 2**20:.0f} MiB; {self.evictions} evicted, waited {self.wait_s:.1f} s"
        return text + (f"; {self.dropped} damaged and dropped" if self.dropped else "")

    def plus(self, other: "CacheStats", sign: int = 1) -> "CacheStats":
        """The sum, or with sign -1 the difference."""
        return CacheStats(**{f.name: getattr(self, f.name) + sign * getattr(other, f.name) for f in fields(self)})


class Counter:
    """The counts of one process. Safe between threads."""

    def __init__(self) -> None:
        self.stats, self.told_at = CacheStats(), time.monotonic()
        self._told, self._lock = CacheStats(), threading.Lock()

    def add(self, **counts: float) -> None:
        """Raise some of the counts."""
        with self._lock:
            for name, count in counts.items():
                setattr(self.stats, name, getattr(self.stats, name) + count)

    def tell(self, folder: Path, limit_bytes: int) -> None:
        """Add what is new to the statistics of all. The caller holds the cache's lock."""
        with self._lock:
            now = CacheStats(**asdict(self.stats))
            new, self._told, self.told_at = now.plus(self._told, -1), now, time.monotonic()
        with suppress(OSError):  # statistics stop no run
            whole = asdict(read_stats(folder).plus(new))
            replace_small(stats_path(folder), json.dumps({**whole, "limit_bytes": limit_bytes}))


def stats_path(folder: Path) -> Path:
    """Where the statistics of all lie."""
    return folder / "stats.json"


def read_stats(folder: Path) -> CacheStats:
    """What all processes together did with a cache folder."""
    found = read_facts(folder)
    return CacheStats(**{f.name: found[f.name] for f in fields(CacheStats) if f.name in found})


def read_facts(folder: Path) -> dict[str, Any]:
    """The statistics and the limit that was used last; empty where there are none."""
    try:
        found = json.loads(stats_path(folder).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def replace_small(path: Path, text: str) -> None:
    """A small file, whole or as before. Not synced: after a power cut it is counted anew. Needs the cache's lock."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.replace(path)
