"""The state of the world at one time: pure data, without pixels, so that any camera can be held into it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.world.ambience import Ambience
from avexp.world.course import Course
from avexp.world.look import Look
from avexp.world.marks import Blots, Marks
from avexp.world.mesh import Mesh

Floats = npt.NDArray[np.float64]
HEAD_ON, TAIL_ON, BRAKE_ON = 1, 2, 4
"""Bits of ``Thing.lamps``."""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that stands or moves: where it is in the world frame, and what it is.

    Attributes:
        mesh: its shape.
        x, y, yaw: place [m] and heading [rad].
        category: object class, or None for what is not labelled.
        track: track id.
        size_m: length, width, height of the labelled part.
        base_m: height of the labelled part above the ground [m].
        state: of a traffic light.
        lamps: which lamps are on.
    """

    mesh: Mesh
    x: float
    y: float
    yaw: float
    category: str | None = None
    track: str = ""
    size_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    base_m: float = 0.0
    state: str | None = None
    lamps: int = 0

    @property
    def prominence(self) -> float:
        """Height [m] by which it is judged whether it is too far to be painted: clutter goes sooner."""
        return self.mesh.height_m if self.category is not None else self.mesh.height_m * 0.45


@dataclass(frozen=True, slots=True)
class EgoPose:
    """The camera car: place and heading in the world, place on the course, motion, and dip of the body [rad]."""

    x: float
    y: float
    heading: float
    s_m: float
    d_m: float
    speed_mps: float
    yaw_rate_radps: float
    acceleration_mps2: float
    pitch_rad: float

    def to_vehicle(self, points: Floats) -> Floats:
        """World points [..., 2 or 3] in the vehicle frame, of the same shape."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        x, y = points[..., 0] - self.x, points[..., 1] - self.y
        turned = [c * x + s * y, -s * x + c * y]
        return np.stack(turned + ([points[..., 2]] if points.shape[-1] == 3 else []), axis=-1)


@dataclass(frozen=True, slots=True)
class GroundStyle:
    """Colours and wear of the road of one drive.

    Attributes:
        asphalt, terrain, sidewalk: [3] RGB.
        paint: brightness of fresh paint.
        wear: 0 fresh to 1 worn off.
        seams: (offset d [m], width [m]) of tar seams along the road.
        blots: side streets and repaired places, each a polygon.
        marks: all paint.
        seed: of drops and sky.
    """

    asphalt: Floats
    terrain: Floats
    sidewalk: Floats
    paint: float
    wear: float
    seams: tuple[tuple[float, float], ...]
    blots: Blots
    marks: Marks
    seed: int


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is to be seen at one time.

    Attributes:
        t_s: time since the start of the drive [s].
        ego: the camera car.
        course, ambience, look, ground: what does not change during a drive.
        things: standing and moving things near the car.
        poses: [N, 3], x, y, yaw of the things; ``reach`` [N], their radius [m]; ``prominence`` [N], see there.
        future: [T, 3], seconds from now, and x, y [m] in the vehicle frame of where the car goes.
        curvature_1pm: of the car's way at its place.
        frame_seed: from what the pixels' noise is drawn.
    """

    t_s: float
    ego: EgoPose
    course: Course
    ambience: Ambience
    look: Look
    ground: GroundStyle
    things: list[Thing]
    poses: Floats
    reach: Floats
    prominence: Floats
    future: Floats
    curvature_1pm: float
    frame_seed: int
