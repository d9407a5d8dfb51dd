"""A session: one continuous recording of one car, with its sensors, place and licence."""

from typing import Literal

from pydantic import Field

from avexp.records.labels import Conditions
from avexp.records.record import Record

Matrix3 = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


class Intrinsics(Record):
    """Pinhole camera: K [px], and a distortion model with its coefficients."""

    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    camera_matrix: Matrix3 | None = None
    distortion_model: Literal["none", "brown", "fisheye"] = "none"
    distortion: list[float] = []


class Extrinsics(Record):
    """Sensor in the vehicle frame: position [m] and rotation (quaternion w, x, y, z) that turns sensor into vehicle
    axes. Camera axes: x right, y down, z forward.
    """

    translation_m: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]


class Clock(Record):
    """How a sensor's time relates to the session's: session time = sensor time + offset."""

    source: str = "session"
    offset_ns: int = 0
    drift_ppm: float = 0.0


class Sensor(Record):
    """One sensor of the car."""

    name: str
    kind: Literal["camera", "radar", "lidar", "can", "gnss", "imu", "microphone"]
    intrinsics: Intrinsics | None = None
    extrinsics: Extrinsics | None = None
    clock: Clock = Clock()
    rate_hz: float | None = None


class Place(Record):
    """Where a session was recorded."""

    name: str = "unknown"
    country: str = ""
    latitude_deg: float | None = None
    longitude_deg: float | None = None


class Skipped(Record):
    """Something of the source that was left out, with the place and the reason."""

    where: str
    reason: str


class Shard(Record):
    """A tar of frames, by its file name inside the session's folder."""

    file: str
    bytes: int
    sha256: str
    frames: int
    rendition: str = "original"


class Rendition(Record):
    """A stored form of images beside the originals: scaled and coded again, once, at ingest.

    ``how`` says in words how it was made: what runs in the car must do the same to the camera's image.
    """

    name: str = Field(pattern=r"^[a-z0-9]+$")
    width_px: int
    quality: int
    how: str


class RenditionFile(Record):
    """``rendition.json`` of a session's ``renditions/<name>`` folder; the shards hold the images only."""

    format: Literal[1] = 1
    rendition: Rendition
    session: str
    shards: list[Shard]


class Session(Record):
    """``session.json`` of a session's folder."""

    format: Literal[1] = 1
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_\-]*$")
    car: str = "unknown"
    place: Place = Place()
    start_ns: int = 0
    end_ns: int = 0
    sensors: list[Sensor] = []
    conditions: Conditions = Conditions()
    licence: str = "unknown"
    consent: str = ""
    source: str = ""
    """Reader and address it was ingested from."""
    shards: list[Shard] = []
    frames: int = 0
    skipped: list[Skipped] = []

    def camera(self, name: str) -> Sensor:
        """The camera of this name.

        Raises:
            KeyError: there is none.
        """
        for sensor in self.sensors:
            if sensor.name == name and sensor.kind == "camera":
                return sensor
        raise KeyError(name)
