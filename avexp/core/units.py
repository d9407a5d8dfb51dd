"""Quantities that are easily confused: time is nanoseconds inside, seconds only at the edge; sizes have their unit said."""

import re
from typing import NewType

from avexp.core.errors import DataError

SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SIZES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

TimestampNs = NewType("TimestampNs", int)
"""A point in time [ns]; its zero is that of the session's clock."""


def from_seconds(seconds: float) -> TimestampNs:
    """Nearest nanosecond to a time in seconds."""
    return TimestampNs(round(seconds * 1e9))


def to_seconds(timestamp_ns: int) -> float:
    """Seconds [s] of a time in nanoseconds."""
    return timestamp_ns / 1e9


def to_bytes(text: str) -> int:
    """Bytes of a size such as ``10GiB``, ``500 MB`` or ``1048576``.

    Raises:
        DataError: it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in SIZES:
        raise DataError(text, "is no size", "give one such as 10GiB, 500MB or a number of bytes")
    return int(float(found[1]) * SIZES[found[2].upper()])


def size_text(count: float) -> str:
    """A number of bytes for people, such as ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
