"""The order of frames: pure functions of (seed, epoch, position), computed and never stored.

An order maps the positions of an epoch to indices of a list of frames. Orders know neither ranks, workers nor batches: a
global batch is a range of positions, and the state of a run is one position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import U64, hash64, mix

ROUNDS = 6
BLEND_SLOTS = 4096
"""Shares of a blend are exact to one of so many positions."""
Positions = npt.NDArray[np.int64]


class Order(Protocol):
    """Positions of an epoch -> indices of frames."""

    @property
    def count(self) -> int:
        """Positions of an epoch."""

    def __call__(self, epoch: int, positions: Positions) -> Positions:
        """Indices [N] of positions [N], each in 0..count-1."""


def permute(positions: Positions, count: int, seed: int, epoch: int) -> Positions:
    """Where the epoch's positions lie in the list.

    Method: a balanced Feistel network over the next even power of two with cycle walking (Black and Rogaway 2002,
    "Ciphers with arbitrary finite domains"): bijective for any n, O(1) memory, each position by itself.

    Args:
        positions: [N], each in 0..count-1.
        count: frames in the epoch.
        seed: of the run.
        epoch: from 0.

    Returns:
        [N], a bijection of 0..count-1 over all positions.
    """
    if count < 2:
        return np.zeros_like(positions)
    half_bits = max(1, ((count - 1).bit_length() + 1) // 2)
    keys = hash64(seed, "order", epoch, np.arange(ROUNDS, dtype=np.uint64))
    values = _feistel(positions.astype(np.uint64), keys, half_bits)
    while (outside := values >= count).any():
        values[outside] = _feistel(values[outside], keys, half_bits)
    return values.astype(np.int64)


def _feistel(values: U64, keys: U64, half_bits: int) -> U64:
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & mask)
    return np.asarray((left << bits) | right, dtype=np.uint64)


@dataclass(frozen=True)
class Straight:
    """Index order: evaluation.

    Attributes:
        count: frames.
    """

    count: int

    def __call__(self, epoch: int, positions: Positions) -> Positions:
        """The positions themselves."""
        return positions


@dataclass(frozen=True)
class Shuffle:
    """A true global shuffle.

    Attributes:
        count: frames.
        seed: of the run.
    """

    count: int
    seed: int

    def __call__(self, epoch: int, positions: Positions) -> Positions:
        """One permutation an epoch."""
        return permute(positions, self.count, self.seed, epoch)


class BlockShuffle:
    """Blocks (shards) in a permuted order, taken a window at a time; the frames of a window fully shuffled.

    For storage that is far away: at any time only two windows of blocks are in use, and which come next is known.

    Args:
        sizes: frames of each block; a block's frames are neighbours in the list.
        window: blocks that are shuffled into each other.
        seed: of the run.
    """

    def __init__(self, sizes: Sequence[int], window: int, seed: int) -> None:
        self.sizes, self.window, self.seed = np.asarray(sizes, np.int64), max(1, window), seed
        self.first = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]
        self._laid: tuple[int, Positions, Positions] = -1, np.zeros(0, np.int64), np.zeros(0, np.int64)

    @property
    def count(self) -> int:
        """Frames of all blocks."""
        return int(self.sizes.sum())

    def blocks(self, epoch: int) -> Positions:
        """The blocks in the order of their use."""
        return permute(np.arange(len(self.sizes), dtype=np.int64), len(self.sizes), self.seed, epoch)

    def __call__(self, epoch: int, positions: Positions) -> Positions:
        """The window of each position, then its place in that window's permutation."""
        blocks, ends = self._epoch(epoch)
        last_blocks = np.minimum(np.arange(self.window, len(blocks) + self.window, self.window), len(blocks)) - 1
        window_ends = ends[last_blocks]
        windows = np.searchsorted(window_ends, positions, side="right")
        found = np.empty_like(positions)
        for window in np.unique(windows):
            here = windows == window
            start = int(window_ends[window - 1]) if window else 0
            size = int(window_ends[window]) - start
            salt = int(hash64(self.seed, "window", epoch, int(window)))
            places = start + permute(positions[here] - start, size, salt, epoch)
            slots = np.searchsorted(ends, places, side="right")
            found[here] = self.first[blocks[slots]] + places - (ends[slots] - self.sizes[blocks[slots]])
        return found

    def _epoch(self, epoch: int) -> tuple[Positions, Positions]:
        """Blocks in order and where each ends; of the last epoch asked for."""
        laid = self._laid
        if laid[0] != epoch:
            blocks = self.blocks(epoch)
            laid = self._laid = epoch, blocks, np.cumsum(self.sizes[blocks])
        return laid[1], laid[2]


@dataclass(frozen=True)
class Share:
    """A part of a blend.

    Attributes:
        members: indices of its frames in the common list.
        order: of its frames; its epochs are passes over them.
        weight: share of the positions, relative to the others'.
    """

    members: Positions
    order: Order
    weight: float


class Blend:
    """Several orders mixed by weight: each pass over a part visits each of its frames once, however often it is passed.

    Every BLEND_SLOTS positions hold exactly each part's share (largest remainder), in a permuted arrangement. Positions go
    on over epochs, so that a small part is not cut short by an epoch's end.

    Args:
        shares: the parts; a frame may be in several.
        seed: of the run.
    """

    def __init__(self, shares: Sequence[Share], seed: int) -> None:
        self.shares, self.seed = [share for share in shares if len(share.members)], seed
        self.slots = apportion([share.weight for share in self.shares], BLEND_SLOTS)
        self.starts = np.concatenate([[0], np.cumsum(self.slots)])

    @cached_property
    def count(self) -> int:
        """As many positions as the parts hold frames."""
        return sum(len(share.members) for share in self.shares)

    def __call__(self, epoch: int, positions: Positions) -> Positions:
        """Slot of each position within its block, the part that owns the slot, and how often it was asked before."""
        blocks, within = np.divmod(epoch * self.count + positions, BLEND_SLOTS)
        slots = np.empty_like(positions)
        for block in np.unique(blocks):
            here = blocks == block
            slots[here] = permute(within[here], BLEND_SLOTS, self.seed, int(hash64("blend", int(block))))
        owners = np.searchsorted(self.starts, slots, side="right") - 1
        found = np.empty_like(positions)
        for number, share in enumerate(self.shares):
            mine = owners == number
            asked = blocks[mine] * int(self.slots[number]) + slots[mine] - int(self.starts[number])
            passes, places = np.divmod(asked, share.order.count)
            chosen = np.empty_like(places)
            for one in np.unique(passes):
                chosen[passes == one] = share.order(int(one), places[passes == one])
            found[mine] = share.members[chosen]
        return found


def apportion(weights: Sequence[float], total: int) -> Positions:
    """Whole numbers that add up to the total, by weight, by largest remainder; at least 1 each.

    Raises:
        ValueError: a weight is not positive.
    """
    if not weights or min(weights) <= 0:
        raise ValueError("weights must be positive")
    exact = np.asarray(weights, np.float64) / sum(weights) * (total - len(weights))
    whole = np.floor(exact).astype(np.int64)
    for part in np.argsort(whole - exact, kind="stable")[: total - len(weights) - int(whole.sum())]:
        whole[part] += 1
    return np.asarray(whole + 1, np.int64)
