"""Reader ``tusimple``: frames with lane labels as JSON lines {raw_file, h_samples, lanes, timestamp_ns?}, -2 = no point.

A source is a folder of sessions: each sub-folder (or the folder itself) that holds ``*.json`` label files. A file
``lanes_<annotator>.json`` is one annotator's; any other name is the annotator's name itself.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avexp.core.errors import DataError
from avexp.core.files import digest_file
from avexp.ingest.images import camera_of, checked_image, image_size
from avexp.ingest.reader import SessionRef
from avexp.records.frame import Frame
from avexp.records.labels import Annotator, Conditions, Labels, Lane, Light, Road
from avexp.records.session import Session, Skipped

ABSENT = -2
DEFAULT_RATE_HZ = 20.0
"""TuSimple's own clips [1/s], where a label has no timestamp."""


class TuSimpleReader:
    """Folders of frames with TuSimple lane labels.

    Args:
        source: the folder.
        sensor: name for the camera.
        conditions: by session folder name, such as ``{rural_night: night+rural}``; else a word in the folder's name that
            is a light or a kind of road is taken.
        licence: of the recordings.
    """

    def __init__(
        self,
        source: str,
        sensor: str = "front",
        conditions: dict[str, str] | None = None,
        licence: str = "unknown",
    ) -> None:
        self.source, self.sensor, self.licence = source, sensor, licence
        self.conditions = dict(conditions or {})

    def list(self) -> list[SessionRef]:
        """One session a folder with label files.

        Raises:
            DataError: no such folder, or no label files.
        """
        root = Path(self.source)
        if not root.is_dir():
            raise DataError(self.source, "no such folder", "give the folder of the frames and labels as data.source")
        folders = sorted({path.parent for path in root.rglob("*.json")})
        if not folders:
            raise DataError(self.source, "holds no *.json label files", "see docs/records.md for the layout")
        return [
            SessionRef(
                folder.resolve().name,
                str(folder),
                {
                    "labels": {path.name: digest_file(path) for path in sorted(folder.glob("*.json"))},
                    "sensor": self.sensor,
                },
            )
            for folder in folders
        ]

    def describe(self, ref: SessionRef) -> Session:
        """Camera size from the first frame."""
        folder = Path(ref.source)
        files = [
            folder / entry["raw_file"] for _, entry in _entries(_label_files(folder)[0]) if isinstance(entry, dict)
        ]
        return Session(
            id=ref.id,
            sensors=[camera_of([path for path in files if path.is_file()], self.sensor, None)],
            conditions=self._conditions(folder.resolve().name),
            licence=self.licence,
        )

    def _conditions(self, name: str) -> Conditions:
        words = self.conditions.get(name, name.replace("_", "+").replace("-", "+")).split("+")
        light = next((Light(word) for word in words if word in {value.value for value in Light}), Light.unknown)
        road = next((Road(word) for word in words if word in {value.value for value in Road}), Road.unknown)
        return Conditions(light=light, road=road)

    def read(self, ref: SessionRef) -> Iterator[Frame | Skipped]:
        """Frames by time with the labels of every annotator."""
        folder = Path(ref.source)
        labels: dict[str, list[Labels]] = {}
        times: dict[str, int] = {}
        size: tuple[int, int] | None = None
        for file in _label_files(folder):
            for number, entry in _entries(file):
                where = f"{file}:{number}"
                reason = entry if isinstance(entry, str) else _fault(entry)
                if reason:
                    yield Skipped(where=where, reason=reason)
                    continue
                assert isinstance(entry, dict)
                name = str(entry["raw_file"])
                if size is None:
                    size = image_size([folder / name])
                lanes = list(self._lanes(entry, size))
                times.setdefault(name, int(entry.get("timestamp_ns", round(number * 1e9 / DEFAULT_RATE_HZ))))
                made = Labels(annotator=Annotator(name=_annotator(file)), tasks=["lanes"], lanes=lanes)
                labels.setdefault(name, []).append(made)
        for name in sorted(times, key=lambda key: times[key]):
            content, fault = checked_image(folder / name, size)
            if content is None:
                yield Skipped(where=str(folder / name), reason=fault)
                continue
            suffix = "png" if content[:4] == b"\x89PNG" else "jpg"
            yield Frame(timestamp_ns=times[name], sensors={f"{self.sensor}.{suffix}": content}, labels=labels[name])

    def _lanes(self, entry: dict[str, Any], size: tuple[int, int] | None) -> Iterator[Lane]:
        """Lanes near to far; points outside the image are left out."""
        width = size[0] if size else math.inf
        for number, xs in enumerate(entry["lanes"]):
            pairs = zip(xs, entry["h_samples"], strict=True)
            points = [(float(x), float(y)) for x, y in pairs if x != ABSENT and 0 <= x <= width]
            points.sort(key=lambda point: -point[1])
            if len(points) >= 2:
                yield Lane(id=str(number), image={self.sensor: points})


def _label_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def _annotator(file: Path) -> str:
    return file.stem.removeprefix("lanes_")


def _entries(file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line number, entry or the reason why it is none)."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as fault:
            yield number, f"no valid JSON ({fault.msg} at column {fault.colno})"
            continue
        yield number, entry if isinstance(entry, dict) else "is no JSON object"


def _fault(entry: dict[str, Any]) -> str:
    """What is wrong with an entry; empty if nothing."""
    missing = [key for key in ("raw_file", "lanes", "h_samples") if key not in entry]
    if missing:
        return f"has no {', '.join(missing)}"
    samples = entry["h_samples"]
    for number, lane in enumerate(entry["lanes"]):
        if len(lane) != len(samples):
            return f"lanes[{number}] has {len(lane)} points, h_samples has {len(samples)}"
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in lane):
            return f"lanes[{number}] holds a value that is no finite number"
    if not all(isinstance(y, int | float) and math.isfinite(y) for y in samples):
        return "h_samples holds a value that is no finite number"
    return ""
