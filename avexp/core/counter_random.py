"""Random numbers as a pure function of their key: no state, so no rank, worker or batch can change them.

Method: splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") as a hash over counters.
"""

import zlib

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
U64 = npt.NDArray[np.uint64]


def mix(value: U64) -> U64:
    """The splitmix64 finaliser on an array of uint64."""
    with np.errstate(over="ignore"):
        value = value + np.uint64(_GAMMA)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(value ^ (value >> np.uint64(31)), dtype=np.uint64)


def name_hash(name: str) -> int:
    """A stable 32-bit number of a name (not Python's salted hash)."""
    return zlib.crc32(name.encode())


def hash64(*parts: int | str | U64) -> U64:
    """One uint64 per element from integers, names and arrays (broadcast against each other)."""
    state: U64 = np.zeros((), np.uint64)
    for part in parts:
        if isinstance(part, str):
            part = name_hash(part)
        number = np.asarray(part & _MASK if isinstance(part, int) else part, dtype=np.uint64)
        state = mix(state ^ number)
    return state


def uniform(count: int, *parts: int | str | U64) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), shape [..., count], of the key's shape [...]."""
    key = hash64(*parts)
    bits = mix(key[..., None] ^ mix(np.arange(count, dtype=np.uint64)))
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) / (1 << 53))


def generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator seeded by a key, for a sequence that one place draws (a session of the world)."""
    return np.random.Generator(np.random.Philox(int(hash64(*parts))))


def seed32(*parts: int | str) -> int:
    """A 31-bit seed of a key, for torch.manual_seed."""
    return int(hash64(*parts)) & 0x7FFFFFFF
