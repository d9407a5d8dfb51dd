"""The order of frames: a permutation that is a pure function of (seed, epoch), computed and never stored.

Method: a balanced Feistel network over the next even power of two with cycle walking (Black and Rogaway 2002, "Ciphers
with arbitrary finite domains"): bijective for any n, O(1) memory, each position by itself.
"""

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import U64, hash64, mix

ROUNDS = 6
Positions = npt.NDArray[np.int64]


def permute(positions: Positions, count: int, seed: int, epoch: int) -> Positions:
    """Where the epoch's positions lie in the index.

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
