"""Reader ``video``: mp4 and other containers, by the timestamps in them, with optional telemetry.

Telemetry is a CSV with a header: ``time_s`` and any of speed_mps, yaw_rate_radps, steering_rad, acceleration_mps2,
latitude_deg, longitude_deg, altitude_m. Each frame takes the row nearest in time, within a bound.
"""

import csv
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avexp.core.errors import DataError
from avexp.ingest.reader import SessionRef
from avexp.records.frame import EgoState, Frame
from avexp.records.session import Intrinsics, Sensor, Session, Skipped

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".m4v")
NEAR_S = 0.2
"""A telemetry row further away than this [s] is not the frame's."""


class VideoReader:
    """Video files; each is a session.

    Args:
        source: a file, or a folder of them.
        rate_hz: keep at most so many frames a second; null for all.
        telemetry: CSV file; null looks for ``<video>.csv`` beside the video.
        sensor: name for the camera.
        jpeg_quality: of the stored frames.
        licence: of the recordings.
    """

    def __init__(
        self,
        source: str,
        rate_hz: float | None = None,
        telemetry: str | None = None,
        sensor: str = "front",
        jpeg_quality: int = 90,
        licence: str = "unknown",
    ) -> None:
        if not 1 <= jpeg_quality <= 100:
            raise DataError("reader.jpeg_quality", f"{jpeg_quality} is outside 1..100", "90 is a good choice")
        self.source, self.rate_hz, self.telemetry, self.sensor = source, rate_hz, telemetry, sensor
        self.jpeg_quality, self.licence = jpeg_quality, licence

    def list(self) -> list[SessionRef]:
        """One session a file.

        Raises:
            DataError: no such file, or no video in the folder.
        """
        root = Path(self.source)
        files = (
            [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        )
        if not files:
            raise DataError(self.source, "no such file, or no video in this folder", f"give a {', '.join(SUFFIXES)}")
        return [self._ref(path) for path in files]

    def _ref(self, path: Path) -> SessionRef:
        name = re.sub(r"[^A-Za-z0-9_\-]", "-", path.stem).lstrip("-_") or "video"
        options: dict[str, Any] = {"bytes": path.stat().st_size, "rate_hz": self.rate_hz, "sensor": self.sensor}
        options |= {"jpeg_quality": self.jpeg_quality, "telemetry": str(self._telemetry_file(path) or "")}
        return SessionRef(name, str(path), options)

    def _telemetry_file(self, video: Path) -> Path | None:
        if self.telemetry is not None:
            if not Path(self.telemetry).is_file():
                raise DataError(self.telemetry, "no such telemetry file", "correct reader.telemetry or leave it out")
            return Path(self.telemetry)
        beside = video.with_suffix(".csv")
        return beside if beside.is_file() else None

    def describe(self, ref: SessionRef) -> Session:
        """Camera size and rate from the container."""
        with opened(Path(ref.source)) as container:
            stream = container.streams.video[0]
            intrinsics = Intrinsics(width_px=stream.codec_context.width, height_px=stream.codec_context.height)
            rate = float(stream.average_rate) if stream.average_rate else None
        return Session(
            id=ref.id,
            sensors=[Sensor(name=self.sensor, kind="camera", intrinsics=intrinsics, rate_hz=rate)],
            licence=self.licence,
        )

    def read(self, ref: SessionRef) -> Iterator[Frame | Skipped]:
        """Frames by the container's timestamps; what cannot be decoded, and frames that are missing, are named."""
        path = Path(ref.source)
        telemetry = self._telemetry_file(path)
        rows, faults = read_telemetry(telemetry) if telemetry else ([], [])
        yield from faults
        last_kept = -math.inf
        for item in decoded(path):
            if isinstance(item, Skipped):
                yield item
                continue
            seconds, image = item
            if self.rate_hz is not None and seconds - last_kept < 1.0 / self.rate_hz - 1e-4:
                continue
            last_kept = seconds
            yield Frame(
                timestamp_ns=round(seconds * 1e9),
                sensors={f"{self.sensor}.jpg": _jpeg(image, self.jpeg_quality)},
                ego=_nearest(rows, seconds),
            )


def opened(path: Path) -> Any:
    """The container of a video.

    Raises:
        DataError: it is none, or has no video stream.
    """
    import av

    try:
        container = av.open(str(path))
    except (OSError, av.error.FFmpegError) as fault:
        raise DataError(str(path), f"is no readable video ({fault})", "give an mp4 or another container") from None
    if not container.streams.video:
        container.close()
        raise DataError(str(path), "has no video stream", "give an mp4 or another container")
    return container


def decoded(path: Path) -> Iterator[tuple[float, Any] | Skipped]:
    """(seconds since the first frame, uint8 [H, W, 3] RGB) by rising time, and what is missing.

    Raises:
        DataError: no video at all.
    """
    import av

    with opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2
        expected, first, count = stream.frames, None, 0
        try:
            for frame in container.decode(stream):
                if frame.pts is None:
                    yield Skipped(where=f"{path}#{count}", reason="frame without a timestamp")
                    continue
                seconds = float(frame.pts * stream.time_base)
                first = seconds if first is None else first
                count += 1
                yield seconds - first, frame.to_ndarray(format="rgb24")
        except av.error.FFmpegError as fault:
            yield Skipped(where=f"{path}#{count}", reason=f"cannot be decoded from here on ({fault})")
        if expected and count < expected:
            yield Skipped(where=f"{path}#{count}", reason=f"{count} of {expected} frames: the file is cut off")


def read_telemetry(path: Path) -> tuple[list[tuple[float, EgoState]], list[Skipped]]:
    """Rows by time; rows with what is no number are named.

    Raises:
        DataError: no column time_s.
    """
    rows: list[tuple[float, EgoState]] = []
    faults: list[Skipped] = []
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        if "time_s" not in (reader.fieldnames or []):
            raise DataError(str(path), "has no column time_s", "name the columns in the first line")
        known = [name for name in EgoState.model_fields if name in (reader.fieldnames or [])]
        for number, row in enumerate(reader, 2):
            try:
                values = {name: float(row[name]) for name in known if row[name] not in ("", None)}
                seconds = float(row["time_s"])
                if not all(math.isfinite(value) for value in [seconds, *values.values()]):
                    raise ValueError("not finite")
            except (ValueError, TypeError) as fault:
                faults.append(Skipped(where=f"{path}:{number}", reason=f"no telemetry ({fault})"))
                continue
            rows.append((seconds, EgoState.model_validate(values)))
    return sorted(rows, key=lambda item: item[0]), faults


def _nearest(rows: list[tuple[float, EgoState]], seconds: float) -> EgoState | None:
    if not rows:
        return None
    place = bisect_left(rows, seconds, key=lambda item: item[0])
    close = min(rows[max(0, place - 1) : place + 1], key=lambda item: abs(item[0] - seconds))
    return close[1] if abs(close[0] - seconds) <= NEAR_S else None


def _jpeg(image: Any, quality: int) -> bytes:
    import numpy as np
    import simplejpeg

    return bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420")
    )
