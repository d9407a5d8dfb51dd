"""What ``avexp predict`` takes in: a video, an image, a folder of images, a shard or a session, as one stream of frames."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.ingest.images import SUFFIXES as IMAGES
from avexp.ingest.images import image_files
from avexp.ingest.video import SUFFIXES as VIDEOS
from avexp.ingest.video import decoded, opened
from avexp.loader.decode import decode
from avexp.loader.sample import camera_arrays
from avexp.records.session import Sensor, Session, Skipped
from avexp.records.shard import build_index, index_path, read_index, read_part
from avexp.report.ground import GroundCamera

Image = npt.NDArray[np.uint8]
IMAGE_RATE_HZ = 10.0
"""Frames a second of an overlay made from single images."""


@dataclass
class FrameStream:
    """Frames of an input.

    Attributes:
        source: as given.
        rate_hz: for the overlay video.
        frames: (key, timestamp [ns], uint8 [H, W, 3] RGB), or what could not be read.
        camera: for drawing the path, where it is known.
        count: frames, where it is known.
    """

    source: Path
    rate_hz: float
    frames: Iterator[tuple[str, int, Image] | Skipped]
    camera: GroundCamera | None = None
    count: int | None = None
    sessions: dict[str, Session] = field(default_factory=dict)


def open_input(path: Path) -> FrameStream:
    """Find out what an input is.

    Raises:
        DataError: none of the known kinds.
    """
    if path.is_file() and path.suffix.lower() in VIDEOS:
        rate_hz, count = video_facts(path)
        return FrameStream(path, rate_hz, _video(path), count=count)
    if path.is_file() and path.suffix.lower() in IMAGES:
        return FrameStream(path, IMAGE_RATE_HZ, _images([path]), count=1)
    if path.is_file() and path.suffix == ".tar":
        return _shards(path, [path], _session_beside(path))
    if path.is_dir() and (path / "session.json").is_file():
        session = Session.from_file(path / "session.json")
        return _shards(path, [path / shard.file for shard in session.shards], session)
    if path.is_dir() and (files := image_files(path)):
        return FrameStream(path, IMAGE_RATE_HZ, _images(files), count=len(files))
    known = f"a video ({', '.join(VIDEOS)}), an image, a folder of images, a shard (.tar) or a session folder"
    raise DataError(f"input={path}", "is nothing that can be predicted on", f"give {known}")


def video_facts(path: Path) -> tuple[float, int | None]:
    """Mean frames a second of a video, and how many its container says there are.

    Raises:
        DataError: no readable video.
    """
    with opened(path) as container:
        stream = container.streams.video[0]
        return float(stream.average_rate or 25.0), stream.frames or None


def _video(path: Path) -> Iterator[tuple[str, int, Image] | Skipped]:
    for item in decoded(path):
        if isinstance(item, Skipped):
            yield item
        else:
            nanoseconds = round(item[0] * 1e9)
            yield f"{path.stem}/{nanoseconds:019d}", nanoseconds, item[1]


def _images(files: list[Path]) -> Iterator[tuple[str, int, Image] | Skipped]:
    for number, path in enumerate(files):
        try:
            image, _ = decode(path.read_bytes(), str(path))
        except (DataError, OSError) as fault:
            yield Skipped(where=str(path), reason=str(fault))
            continue
        yield path.name, round(number * 1e9 / IMAGE_RATE_HZ), image


def _session_beside(tar: Path) -> Session | None:
    file = tar.parent / "session.json"
    return Session.from_file(file) if file.is_file() else None


def _shards(source: Path, tars: list[Path], session: Session | None) -> FrameStream:
    camera: Sensor | None = (
        next((sensor for sensor in session.sensors if sensor.kind == "camera"), None) if session else None
    )
    matrix, pose = camera_arrays(camera)
    ground = GroundCamera(matrix, float(pose[0]), float(pose[1]), float(pose[2]))
    rate = camera.rate_hz if camera is not None and camera.rate_hz else IMAGE_RATE_HZ
    name = camera.name if camera is not None else None
    return FrameStream(source, rate, _tars(tars, name), ground, session.frames if session else None)


def _tars(tars: list[Path], sensor: str | None) -> Iterator[tuple[str, int, Image] | Skipped]:
    for tar in tars:
        index = read_index(tar) if index_path(tar).is_file() else build_index(tar)
        with tar.open("rb") as stream:
            for key, parts in index.frames().items():
                names = [part for part in parts if part.rpartition(".")[2] in ("jpg", "jpeg", "png")]
                wanted = next((part for part in names if sensor is None or part.startswith(f"{sensor}.")), None)
                if wanted is None:
                    continue
                part = parts[wanted]
                try:
                    content = read_part(stream.fileno(), f"{tar}:{key}", part.offset, part.length, part.crc32)
                    image, _ = decode(content, f"{tar}:{key}")
                except DataError as fault:
                    yield Skipped(where=fault.where, reason=fault.what)
                    continue
                stamp = key.rpartition("/")[2]
                yield key, int(stamp) if stamp.isdigit() else 0, image


def jsonable(value: object) -> str:
    """One line of JSON with short numbers."""
    return json.dumps(value, separators=(",", ":"))
