"""Which order a training epoch has: shuffled, in blocks of shards, blended by weight, or balanced over classes or conditions."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import hash64
from avexp.core.errors import ConfigError, did_you_mean
from avexp.loader.order import Blend, BlockShuffle, Order, Positions, Share, Shuffle
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset
from avexp.records.index import CONDITIONS

BALANCES = (*CONDITIONS, "classes")


def make_order(
    dataset: Dataset,
    rows: npt.NDArray[np.int64],
    seed: int,
    *,
    balance: str | None = None,
    balance_power: float = 0.0,
    window_shards: int | None = None,
) -> Order:
    """The order of a training epoch over rows of a dataset.

    Args:
        dataset: a version; one that was blended from others keeps their weights.
        rows: of its index.
        seed: of the run.
        balance: ``light``, ``weather``, ``road`` or ``classes``: groups of frames are drawn by weight instead of by how
            many there are. A frame of several classes is in several groups.
        balance_power: weight of a group is its count to this power: 0 draws all groups alike, 1 as they are.
        window_shards: shuffle so many shards into each other at a time instead of all, for storage that is far away.

    Raises:
        ConfigError: an unknown balance, or the dataset does not know its classes.
    """
    shares = []
    for number, (members, weight) in enumerate(_sources(dataset, rows)):
        groups = [(members, 1.0)] if balance is None else list(_groups(dataset, rows, members, balance, balance_power))
        total = sum(part for _, part in groups)
        for place, (group, part) in enumerate(groups):
            salt = seed if len(members) == len(group) == len(rows) else int(hash64(seed, "share", number, place))
            order = _shuffled(dataset, rows[group], salt, window_shards)
            shares.append(Share(group, order, weight * part / total))
    return shares[0].order if len(shares) == 1 else Blend(shares, seed)


def _shuffled(dataset: Dataset, rows: npt.NDArray[np.int64], seed: int, window_shards: int | None) -> Order:
    if window_shards is None:
        return Shuffle(len(rows), seed)
    return BlockShuffle([stop - start for _, start, stop in shard_blocks(dataset, rows)], window_shards, seed)


def check_window(dataset: Dataset, rows: npt.NDArray[np.int64], window_shards: int | None) -> None:
    """Shards that come from an object store must fit the cache, or be shuffled in windows of which two do.

    Raises:
        ConfigError: they do not fit, with a window that does.
    """
    if not isinstance(dataset.source, Tiers):
        return
    numbers = {shard for shard, _, _ in shard_blocks(dataset, rows)}
    sizes = [dataset.manifest.shards[number].bytes for number in numbers]
    room = dataset.source.cache.limit_bytes
    used = sum(sizes) if window_shards is None else 2 * window_shards * max(sizes)
    if used > room:
        what = f"{used / 2**30:.3g} GiB of shards are in use at a time, the cache holds {room / 2**30:.3g}"
        remedy = f"set loader.window_shards={max(1, room // (2 * max(sizes)))}, or raise hardware.cache_gib"
        raise ConfigError([f"loader.window_shards={window_shards}: {what}; {remedy}"])


def shard_blocks(dataset: Dataset, rows: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(shard, first, behind the last) of the runs of rows that lie in one shard.

    Rows of an index are sorted by split and then by shard, so that a run's end is found by bisection, without reading
    every row.
    """
    blocks, start = [], 0
    while start < len(rows):
        shard = dataset.entry(int(rows[start])).shard
        low, step = start, 1
        while low + step < len(rows) and dataset.entry(int(rows[low + step])).shard == shard:
            low, step = low + step, step * 2
        high = min(low + step, len(rows))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if dataset.entry(int(rows[middle])).shard == shard else (low, middle)
        blocks.append((shard, start, high))
        start = high
    return blocks


def _sources(dataset: Dataset, rows: npt.NDArray[np.int64]) -> Iterator[tuple[Positions, float]]:
    """Places in ``rows`` of each source of a blend, with its weight."""
    if not dataset.manifest.sources:
        yield np.arange(len(rows), dtype=np.int64), 1.0
        return
    sessions = dataset.rows["session"][rows]
    for source in dataset.manifest.sources:
        members = np.flatnonzero((sessions >= source.sessions[0]) & (sessions < source.sessions[1]))
        if len(members):
            yield members.astype(np.int64), source.weight


def _groups(
    dataset: Dataset, rows: npt.NDArray[np.int64], members: Positions, balance: str, power: float
) -> Iterator[tuple[Positions, float]]:
    if balance not in BALANCES:
        hint = did_you_mean(balance, list(BALANCES))
        raise ConfigError([f"loader.balance={balance}: no such balance{hint}; known: {', '.join(BALANCES)}"])
    chosen = rows[members]
    if balance == "classes":
        if dataset.manifest.format < 2:
            remedy = "make a new version of it"
            raise ConfigError([f"loader.balance=classes: {dataset.manifest.reference} does not know them; {remedy}"])
        bits = dataset.rows["classes"][chosen]
        count = min(64, len(dataset.manifest.object_classes))
        masks = [bits == 0, *((bits >> np.uint64(code)) & np.uint64(1) == 1 for code in range(count))]
    else:
        values = dataset.rows[balance][chosen]
        masks = [values == code for code in range(len(CONDITIONS[balance]))]
    for mask in masks:
        if mask.any():
            yield members[mask], float(mask.sum()) ** power
