"""Reader ``images``: a folder of pictures as one session, in the order of their names."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

from avexp.core.errors import DataError
from avexp.core.files import digest_json
from avexp.ingest.reader import SessionRef
from avexp.records.frame import Frame
from avexp.records.labels import Conditions
from avexp.records.session import Intrinsics, Sensor, Session, Skipped

SUFFIXES = (".jpg", ".jpeg", ".png")


class ImagesReader:
    """A folder of images.

    Args:
        source: the folder; each sub-folder that holds images is a session of its own.
        rate_hz: frames a second: names carry the order, not the time.
        sensor: name for the camera.
        licence: of the recordings.
    """

    def __init__(self, source: str, rate_hz: float = 10.0, sensor: str = "front", licence: str = "unknown") -> None:
        if rate_hz <= 0:
            raise DataError("reader.rate_hz", f"{rate_hz} is not above 0", "say how many frames a second were taken")
        self.source, self.rate_hz, self.sensor, self.licence = source, rate_hz, sensor, licence

    def list(self) -> list[SessionRef]:
        """One session a folder.

        Raises:
            DataError: no such folder, or no images in it.
        """
        root = Path(self.source)
        if not root.is_dir():
            raise DataError(self.source, "no such folder", "give a folder of images as source")
        folders = sorted({path.parent for path in root.rglob("*") if path.suffix.lower() in SUFFIXES})
        if not folders:
            raise DataError(self.source, f"holds no {', '.join(SUFFIXES)}", "give a folder of images as source")
        return [self._ref(root, folder) for folder in folders]

    def _ref(self, root: Path, folder: Path) -> SessionRef:
        inner = folder.relative_to(root).parts
        name = re.sub(r"[^A-Za-z0-9_\-]", "-", "-".join([root.resolve().name, *inner])).lstrip("-_") or "images"
        sizes = {path.name: path.stat().st_size for path in image_files(folder)}
        options = {"rate_hz": self.rate_hz, "sensor": self.sensor, "files": digest_json(sizes)}
        return SessionRef(name, str(folder), options)

    def describe(self, ref: SessionRef) -> Session:
        """Camera size from the first readable image."""
        return Session(
            id=ref.id,
            sensors=[camera_of(image_files(Path(ref.source)), self.sensor, self.rate_hz)],
            conditions=Conditions(),
            licence=self.licence,
        )

    def read(self, ref: SessionRef) -> Iterator[Frame | Skipped]:
        """Frames by name; unreadable images and images of another size are skipped."""
        files = image_files(Path(ref.source))
        size = image_size(files)
        for number, path in enumerate(files):
            content, fault = checked_image(path, size)
            if content is None:
                yield Skipped(where=str(path), reason=fault)
                continue
            suffix = "png" if content[:4] == b"\x89PNG" else "jpg"
            yield Frame(timestamp_ns=round(number * 1e9 / self.rate_hz), sensors={f"{self.sensor}.{suffix}": content})


def image_files(folder: Path) -> list[Path]:
    """Images of a folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def image_size(files: list[Path]) -> tuple[int, int] | None:
    """(width, height) of the first image that can be read."""
    for path in files:
        content, _ = checked_image(path, None)
        if content is not None:
            return _size(content)
    return None


def camera_of(files: list[Path], sensor: str, rate_hz: float | None) -> Sensor:
    """A camera of unknown calibration."""
    width, height = image_size(files) or (1, 1)
    return Sensor(name=sensor, kind="camera", intrinsics=Intrinsics(width_px=width, height_px=height), rate_hz=rate_hz)


def _size(content: bytes) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        return picture.size


def checked_image(path: Path, size: tuple[int, int] | None) -> tuple[bytes | None, str]:
    """An image's bytes, decoded once to be sure of them, as baseline RGB JPEG or PNG; or None and the reason.

    Pillow raises on a truncated JPEG where OpenCV fills it with grey. What is stored is turned upright and RGB: a picture
    with an EXIF rotation, of CMYK or of a palette is encoded again, any other is kept byte for byte.
    """
    from PIL import Image, ImageOps

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            plain = picture.mode == "RGB" and upright.size == picture.size and picture.getexif().get(0x0112, 1) == 1
            found = upright.size
            if not plain or picture.format not in ("JPEG", "PNG"):
                buffer = io.BytesIO()
                upright.convert("RGB").save(buffer, "PNG")
                content = buffer.getvalue()
    except (OSError, SyntaxError, ValueError) as fault:
        return None, f"cannot be decoded ({fault})"
    if size is not None and found != size:
        return None, f"is {found[0]}x{found[1]}, the session's camera is {size[0]}x{size[1]}"
    return content, ""
