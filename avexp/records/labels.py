"""What a frame shows, said by one annotator. Axes: image pixels (x right, y down, centre of the first pixel at 0.5);
vehicle frame in metres (ISO 8855: x forward, y left, z up, origin on the ground below the rear axle).
"""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from avexp.records.record import Point, Record

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Task = Literal["objects", "lanes", "drivable", "path"]
TASKS: tuple[Task, ...] = ("objects", "lanes", "drivable", "path")
OBJECT_CLASSES = ("car", "truck", "pedestrian", "cyclist", "sign", "light")
LIGHT_STATES = ("off", "red", "yellow", "green")


class Light(Enum):
    """Ambient light."""

    day = "day"
    dusk = "dusk"
    night = "night"
    unknown = "unknown"


class Weather(Enum):
    """Weather."""

    clear = "clear"
    rain = "rain"
    fog = "fog"
    snow = "snow"
    unknown = "unknown"


class Road(Enum):
    """Kind of road."""

    highway = "highway"
    urban = "urban"
    rural = "rural"
    unknown = "unknown"


class LaneType(Enum):
    """Kind of lane boundary."""

    solid = "solid"
    dashed = "dashed"
    double = "double"
    edge = "edge"
    unknown = "unknown"


class Conditions(Record):
    """Under what conditions a frame was taken."""

    light: Light = Light.unknown
    weather: Weather = Weather.unknown
    road: Road = Road.unknown


class Annotator(Record):
    """Who said it: a person, a network, the synthetic world, or an import of unknown origin."""

    name: str
    kind: Literal["human", "model", "world", "import"] = "import"


class Box2D(Record):
    """An axis-aligned box in one camera's image [px], clipped to the image."""

    x1: float
    y1: float
    x2: float
    y2: float
    occlusion: Share = 0.0
    """Hidden share of the visible part's silhouette."""
    truncation: Share = 0.0
    """Share of the object outside the image."""

    @model_validator(mode="after")
    def _ordered(self) -> "Box2D":
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise ValueError(f"box has no area: x1={self.x1} y1={self.y1} x2={self.x2} y2={self.y2}")
        return self


class Cuboid(Record):
    """A 3D box in the vehicle frame: centre [m], length, width, height [m], yaw [rad] about z."""

    center_m: tuple[float, float, float]
    size_m: tuple[float, float, float]
    yaw_rad: float = 0.0
    pitch_rad: float = 0.0
    roll_rad: float = 0.0


class Object(Record):
    """One thing on or beside the road: a box in each camera that sees it, and/or a cuboid."""

    category: str
    track_id: str | None = None
    box2d: dict[str, Box2D] = {}
    """By sensor name."""
    box3d: Cuboid | None = None
    distance_m: float | None = None
    """Along the ground from the vehicle's origin to the nearest point of the object."""
    attributes: dict[str, str] = {}
    """Such as ``state`` of a traffic light: off, red, yellow, green."""


class Lane(Record):
    """One lane boundary as a polyline, near to far, in each camera that sees it and/or on the ground."""

    id: str
    type: LaneType = LaneType.unknown
    position: int | None = None
    """Place seen from the car: -1 the boundary to its left, +1 to its right, -2 the next to the left ..."""
    image: dict[str, list[Point]] = {}
    """By sensor name [px]."""
    ground_m: list[tuple[float, float, float]] = []


class Region(Record):
    """An area of one camera's image as rings [px] under the even-odd rule (a ring inside a ring is a hole)."""

    sensor: str
    rings: list[list[Point]]
    kind: str = "drivable"


class Path(Record):
    """Where the car went: future positions of its origin [m] in the vehicle frame at this frame's time."""

    times_s: list[float]
    positions_m: list[Point]
    curvature_1pm: float = 0.0
    """Curvature of the path at the car [1/m], positive to the left."""

    @model_validator(mode="after")
    def _paired(self) -> "Path":
        if len(self.times_s) != len(self.positions_m):
            raise ValueError(f"{len(self.times_s)} times but {len(self.positions_m)} positions")
        return self


class IgnoreRegion(Record):
    """A box of one camera's image [px] that counts neither for nor against the named tasks."""

    sensor: str
    box: tuple[float, float, float, float]
    tasks: list[Task] = ["objects"]
    reason: str = ""


class Labels(Record):
    """What one annotator said about one frame. A task that is not in ``tasks`` was not labelled: it adds no loss."""

    format: Literal[1] = 1
    annotator: Annotator
    tasks: list[Task]
    conditions: Conditions = Conditions()
    objects: list[Object] = []
    lanes: list[Lane] = []
    drivable: list[Region] = []
    path: Path | None = None
    ignore: list[IgnoreRegion] = []
    created_ns: int | None = None


class LabelFile(Record):
    """The ``.labels.json`` part of a frame: all annotators' labels as they were ingested."""

    format: Literal[1] = 1
    labels: list[Labels]
