"""The rows of a dataset version's index: fixed size, memory-mapped, so that ten million frames open in no time."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.records.labels import Conditions, Light, Road, Weather

_FIELDS = [
    ("timestamp_ns", "<i8"),
    ("shard", "<u4"),
    ("session", "<u4"),
    ("sensor", "<u4"),
    ("split", "u1"),
    ("light", "u1"),
    ("weather", "u1"),
    ("road", "u1"),
    ("image_length", "<u4"),
    ("image_offset", "<u8"),
    ("image_crc", "<u4"),
    ("labels_shard", "<u4"),
    ("labels_offset", "<u8"),
    ("labels_length", "<u4"),
    ("labels_crc", "<u4"),
    ("ego_offset", "<u8"),
    ("ego_length", "<u4"),
    ("ego_crc", "<u4"),
]
ROW_V1 = np.dtype([*_FIELDS, ("reserved", "<u4")])
"""Format 1: the ego state lies in the image's shard, classes are not known, rows lie as they come."""
ROW = np.dtype([*_FIELDS, ("ego_shard", "<u4"), ("classes", "<u8")])
"""Format 2, 88 bytes: rows are sorted by split. A length of 0 means that the part does not exist; bit i of ``classes`` says
that an object of the manifest's class i is labelled (of the first 64)."""
FORMATS = {1: ROW_V1, 2: ROW}
Rows = npt.NDArray[Any]

CONDITIONS: dict[str, list[str]] = {
    "light": [value.value for value in Light],
    "weather": [value.value for value in Weather],
    "road": [value.value for value in Road],
}
SPLITS = ("train", "val", "test")


class Entry(NamedTuple):
    """One row as plain numbers: reading all fields at once costs a tenth of reading them one by one."""

    timestamp_ns: int
    shard: int
    session: int
    sensor: int
    split: int
    light: int
    weather: int
    road: int
    image_length: int
    image_offset: int
    image_crc: int
    labels_shard: int
    labels_offset: int
    labels_length: int
    labels_crc: int
    ego_offset: int
    ego_length: int
    ego_crc: int
    ego_shard: int
    classes: int


def conditions_of(entry: Entry) -> Conditions:
    """Conditions of a row: its labels' own, or those of its session."""
    return Conditions(
        light=Light(CONDITIONS["light"][entry.light]),
        weather=Weather(CONDITIONS["weather"][entry.weather]),
        road=Road(CONDITIONS["road"][entry.road]),
    )


def open_rows(path: Path, format_: int, count: int) -> Rows:
    """Map an index; rows of an older format are brought to the present one in memory.

    Raises:
        DataError: it does not hold that many rows.
    """
    stored = FORMATS[format_]
    if not path.is_file() or path.stat().st_size != count * stored.itemsize:
        raise DataError(str(path), f"does not hold {count} rows", "restore the file or make a new version")
    if count == 0:
        return np.zeros(0, ROW)
    rows = np.memmap(path, dtype=stored, mode="r")
    return rows if format_ == 2 else _from_v1(rows)


def _from_v1(old: Rows) -> Rows:
    rows = np.zeros(len(old), ROW)
    for name, _ in _FIELDS:
        rows[name] = old[name]
    rows["ego_shard"] = old["shard"]
    return rows
