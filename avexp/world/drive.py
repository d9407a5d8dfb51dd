"""A drive through the synthetic world: a pure function of its specification and seed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import generator, hash64
from avexp.core.units import from_seconds
from avexp.records.frame import EgoState
from avexp.records.labels import Labels, Light, Road
from avexp.records.session import Sensor
from avexp.world.actors import Cast, Crowding, make_cast, things_at
from avexp.world.ambience import Ambience, make_ambience
from avexp.world.annotate import annotate
from avexp.world.camera import Camera, rig
from avexp.world.course import BEHIND_M, Course, make_course
from avexp.world.look import VARIANTS, Image, Look, make_look, pick
from avexp.world.marks import make_blots, make_marks
from avexp.world.rarity import DriveSpec
from avexp.world.render import render
from avexp.world.roadside import Roadside, make_roadside
from avexp.world.scene import EgoPose, GroundStyle, Scene
from avexp.world.traffic import TICK_S

Floats = npt.NDArray[np.float64]
FUTURE_S = np.linspace(0.25, 4.0, 16)
"""Times of the path label [s]."""
VIEW_M, URBAN_VIEW_M = 160.0, 108.0
"""How far things are shown [m]."""


@dataclass(frozen=True, slots=True)
class WorldFrame:
    """One frame: images by sensor name, uint8 [H, W, 3] RGB, and what is known about it."""

    timestamp_ns: int
    images: dict[str, Image]
    labels: Labels
    ego: EgoState


@dataclass(frozen=True, slots=True)
class Wander:
    """How the driver swings in the lane: sum of sines of s, amplitudes [m], wave lengths [m], phases."""

    amplitude_m: Floats
    length_m: Floats
    phase: Floats

    def at(self, s: Floats) -> tuple[Floats, Floats]:
        """Offset [m] and its slope at s."""
        angle = s[..., None] / self.length_m + self.phase
        offset = (self.amplitude_m * np.sin(angle)).sum(-1)
        return offset, (self.amplitude_m / self.length_m * np.cos(angle)).sum(-1)


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive; iterate over it for its frames, or ask for the world at any time.

    Attributes:
        spec, seed: what it is a function of.
        course, ambience, look, ground, roadside, cast, wander: what it consists of.
        pitch_rad, height_m: how the cameras are mounted, against the nominal rig.
    """

    spec: DriveSpec
    seed: int
    course: Course
    ambience: Ambience
    look: Look
    ground: GroundStyle
    roadside: Roadside
    cast: Cast
    wander: Wander
    pitch_rad: float
    height_m: float

    def session_sensors(self) -> list[Sensor]:
        """The cameras, as a session records them."""
        spec = self.spec
        return rig(spec.cameras, spec.width_px, spec.height_px, self.pitch_rad, self.height_m, spec.rate_hz)

    def state_at(self, t_s: float, lateral_offset_m: float = 0.0, heading_offset_rad: float = 0.0) -> Scene:
        """The world at a time, with the camera car displaced from where it drove.

        Args:
            t_s: seconds since the start.
            lateral_offset_m: displacement to the left [m].
            heading_offset_rad: turn to the left [rad].

        Returns:
            The scene; its ``future`` is the way that was driven, seen from the displaced car.
        """
        ego, curvature = self._ego(t_s)
        if lateral_offset_m or heading_offset_rad:
            ego = replace(
                ego,
                x=ego.x - float(np.sin(ego.heading)) * lateral_offset_m,
                y=ego.y + float(np.cos(ego.heading)) * lateral_offset_m,
                d_m=ego.d_m + lateral_offset_m,
                heading=ego.heading + heading_offset_rad,
            )
        behind = 30.0 if self.spec.cameras == 1 else VIEW_M - 30
        ahead = VIEW_M if self.spec.road is Road.highway else URBAN_VIEW_M
        span = (ego.s_m - behind, ego.s_m + ahead)
        standing, poses, reach, prominence = self.roadside.between(*span)
        moving = things_at(self.cast, self.course, t_s, span, self.ambience.lamps)
        moving += self.roadside.lights_at(t_s, *span)
        own = np.array([(t.x, t.y, t.yaw) for t in moving]).reshape(-1, 3)
        x, y, _, _ = self._way(self._place(FUTURE_S + t_s))
        future = np.column_stack([FUTURE_S, ego.to_vehicle(np.stack([x, y], axis=1))])
        return Scene(
            t_s, ego, self.course, self.ambience, self.look, self.ground, standing + moving, np.concatenate([poses, own]),
            np.concatenate([reach, np.array([t.mesh.radius_m for t in moving])]),
            np.concatenate([prominence, np.array([t.prominence for t in moving])]), future, curvature,
            int(hash64("world-frame", self.seed, round(t_s * 1e6))) >> 1,
        )  # fmt: skip

    def ego_state(self, scene: Scene) -> EgoState:
        """The car's motion as its own sensors report it."""
        ego = scene.ego
        return EgoState(
            speed_mps=round(ego.speed_mps, 4),
            yaw_rate_radps=round(ego.yaw_rate_radps, 5),
            steering_rad=round(float(np.arctan(2.8 * scene.curvature_1pm)), 5),
            acceleration_mps2=round(ego.acceleration_mps2, 3),
            position_m=(round(ego.x, 3), round(ego.y, 3), 0.0),
            heading_rad=round(ego.heading, 5),
        )

    def frame(self, number: int) -> WorldFrame:
        """One frame by number."""
        t_s = number / self.spec.rate_hz
        scene = self.state_at(t_s)
        spec = self.spec
        cameras = _cameras(spec.cameras, spec.width_px, spec.height_px, self.pitch_rad, self.height_m)
        renderings = {camera.name: render(scene, camera) for camera in cameras}
        images = {name: rendering.image for name, rendering in renderings.items()}
        return WorldFrame(int(from_seconds(t_s)), images, annotate(scene, renderings), self.ego_state(scene))

    def __len__(self) -> int:
        return self.spec.frames

    def __iter__(self) -> Iterator[WorldFrame]:
        return (self.frame(number) for number in range(self.spec.frames))

    def _place(self, t_s: Floats) -> Floats:
        return np.interp(t_s, np.arange(len(self.cast.ego_s)) * TICK_S, self.cast.ego_s)

    def _way(self, s: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """x, y, heading and offset d of the driven way at s."""
        x, y, heading, curvature = self.course.at(s)
        offset, slope = self.wander.at(s)
        d = self.course.layout.lanes[self.course.layout.ego_lane][0] + offset
        yaw = heading + np.arctan2(slope, 1 - curvature * d)
        return x - np.sin(heading) * d, y + np.cos(heading) * d, yaw, d

    def _ego(self, t_s: float) -> tuple[EgoPose, float]:
        """Pose and curvature of the way."""
        times = t_s + np.array([-0.3, -0.1, 0.0, 0.1, 0.3])
        s = self._place(times)
        x, y, heading, d = self._way(s[2:3])
        near = self._way(s[2] + np.array([-0.75, 0.75]))
        step = float(np.hypot(np.diff(near[0])[0], np.diff(near[1])[0]))
        curvature = float(np.diff(near[2])[0]) / step
        speed = max(float(s[3] - s[1]) / 0.2, 0.0) * step / 1.5
        acceleration = float((s[4] - s[3]) - (s[1] - s[0])) / 0.2 / 0.4
        sway = 0.0012 * np.sin(s[2] / 7.3 + self.pitch_rad * 1e3) * min(speed / 10, 1.0)
        pitch = float(sway - 0.003 * np.clip(acceleration, -4, 3))
        pose = (float(x[0]), float(y[0]), float(heading[0]), float(s[2]), float(d[0]))
        return EgoPose(*pose, speed, speed * curvature, acceleration, pitch), curvature


@lru_cache(maxsize=32)
def _cameras(count: int, width_px: int, height_px: int, pitch_rad: float, height_m: float) -> list[Camera]:
    return [Camera.from_sensor(sensor) for sensor in rig(count, width_px, height_px, pitch_rad, height_m, 1.0)]


@lru_cache(maxsize=1)  # a reader describes a drive, then reads it
def drive(spec: DriveSpec, seed: int) -> Drive:
    """Make the drive of a specification and seed; equal arguments give equal bytes (with equal library versions)."""
    rng = generator("world-drive", seed)
    duration = spec.frames / spec.rate_hz + float(FUTURE_S[-1]) + 1.0
    top = 38.0 if spec.road is Road.highway else 16.0
    course = make_course(rng, spec.road, BEHIND_M + top * duration + 450.0)
    look = make_look(spec.textures, int(rng.integers(0, VARIANTS)))
    ambience = make_ambience(rng, spec.light, spec.weather, spec.road)
    crowding = Crowding(spec.traffic, spec.trucks, spec.cyclists, spec.pedestrians)
    cast = make_cast(generator("world-cast", seed), course, spec.textures, crowding, duration)
    roadside = make_roadside(generator("world-roadside", seed), course, look, spec.parked, spec.light is not Light.day)
    ground = _ground_style(generator("world-ground", seed), course, look)
    wander = Wander(rng.uniform(0.05, 0.16, 3), rng.uniform([9, 18, 40], [16, 35, 80]), rng.uniform(0, 6.3, 3))
    wander.amplitude_m[0] *= 0.4
    pitch, height = np.radians(rng.uniform(1.0, 2.0)), rng.uniform(-0.06, 0.06)
    return Drive(spec, seed, course, ambience, look, ground, roadside, cast, wander, float(pitch), float(height))


def _ground_style(rng: np.random.Generator, course: Course, look: Look) -> GroundStyle:
    asphalt = np.array(pick(rng, look.palette.asphalt))
    seams = [
        (float(b.offset_m + rng.uniform(-0.5, 0.5)), 0.07) for b in course.layout.boundaries[1:-1] if rng.random() < 0.5
    ]
    wear = float(rng.beta(1.4, 2.2)) * 0.85
    return GroundStyle(
        asphalt, np.array(pick(rng, look.palette.terrain)), np.array([136.0, 132, 126]) * rng.uniform(0.85, 1.15),
        rng.uniform(0.85, 1.05), wear, tuple(seams), make_blots(rng, course), make_marks(rng, course, wear),
        int(rng.integers(0, 1 << 30)),
    )  # fmt: skip
