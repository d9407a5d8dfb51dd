"""Quantities that are easily confused: time is nanoseconds inside, seconds only at the edge."""

from typing import NewType

TimestampNs = NewType("TimestampNs", int)
"""A point in time [ns]; its zero is that of the session's clock."""


def from_seconds(seconds: float) -> TimestampNs:
    """Nearest nanosecond to a time in seconds."""
    return TimestampNs(round(seconds * 1e9))


def to_seconds(timestamp_ns: int) -> float:
    """Seconds [s] of a time in nanoseconds."""
    return timestamp_ns / 1e9
