"""What stands beside the road: signs, lights, parked cars, lamps, trees, houses, rails, clutter."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Road
from avexp.world import furniture
from avexp.world.course import Course, Junction
from avexp.world.facades import MOST_STOREYS
from avexp.world.garage import any_car, any_clutter, any_sign, any_truck
from avexp.world.look import FRONTS, Look
from avexp.world.mesh import Mesh, MeshBuilder
from avexp.world.scene import Thing
from avexp.world.traffic import light_state, stop_line

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signal:
    """A traffic light: its meshes by state, place and heading."""

    junction: Junction
    meshes: dict[str, Mesh]
    x: float
    y: float
    yaw: float
    size_m: tuple[float, float, float]
    base_m: float
    track: str
    s_m: float


@dataclass(frozen=True, slots=True)
class Roadside:
    """Standing things by rising place on the course.

    Attributes:
        things: sorted by s.
        s_m: [N] their places; ``poses`` [N, 3], ``reach`` and ``prominence`` [N] as in Scene.
        signals: traffic lights, whose state changes.
    """

    things: list[Thing]
    s_m: Floats
    poses: Floats
    reach: Floats
    prominence: Floats
    signals: tuple[Signal, ...]

    def between(self, low: float, high: float) -> tuple[list[Thing], Floats, Floats, Floats]:
        """Things, poses, reach and prominence of a stretch."""
        a, b = (int(i) for i in np.searchsorted(self.s_m, (low, high)))
        return self.things[a:b], self.poses[a:b], self.reach[a:b], self.prominence[a:b]

    def lights_at(self, t_s: float, low: float, high: float) -> list[Thing]:
        """Traffic lights of a stretch in their state."""
        found = []
        for signal in self.signals:
            if low < signal.s_m < high:
                state = light_state(signal.junction, t_s)
                mesh = signal.meshes[state]
                found.append(
                    Thing(
                        mesh, signal.x, signal.y, signal.yaw, "light", signal.track, signal.size_m, signal.base_m, state
                    )
                )
        return found


class Planter:
    """Places things by road coordinates."""

    def __init__(self, rng: np.random.Generator, course: Course, look: Look, parked: float, lit: bool) -> None:
        self.rng, self.course, self.look, self.parked, self.lit = rng, course, look, parked, lit
        self.placed: list[tuple[float, Thing]] = []
        self.signals: list[Signal] = []
        self.left, self.right = course.layout.surface
        self._sprites: dict[tuple[str, int], Mesh] = {}

    def place(self, s: float, d: float, mesh: Mesh, turn: float = 0.0, **facts: object) -> None:
        """Stand a mesh at (s, d), turned against the road's heading."""
        x, y, heading, _ = (float(v) for v in self.course.at(np.array(s)))
        px, py = x - float(np.sin(heading)) * d, y + float(np.cos(heading)) * d
        self.placed.append((s, Thing(mesh, px, py, heading + turn, **facts)))  # type: ignore[arg-type]

    def sprite(self, name: str, count: int, width: tuple[float, float], height: tuple[float, float]) -> Mesh:
        """One of the pictures of a name, in one of twelve sizes."""
        key = name + str(int(self.rng.integers(0, count))), int(self.rng.integers(0, 12))
        if key not in self._sprites:
            b = MeshBuilder()
            high = self.rng.uniform(*height)
            b.sprite = (key[0], high / (height[0] + height[1]) * 2 * self.rng.uniform(*width), high)
            self._sprites[key] = b.build()
        return self._sprites[key]

    def free(self, s: float, margin: float) -> bool:
        """Whether s is clear of junctions."""
        return all(abs(s - j.s_m) > j.width_m / 2 + margin for j in self.course.junctions)


def make_roadside(rng: np.random.Generator, course: Course, look: Look, parked: float, lit: bool) -> Roadside:
    """Random things beside a course.

    Args:
        rng: where the numbers come from.
        course: the road.
        look: colours and textures.
        parked: share of parking places that are taken.
        lit: whether street lamps shine.
    """
    planter = Planter(rng, course, look, parked, lit)
    if course.layout.kind is Road.urban:
        _junctions(planter)
        _parked(planter)
        _houses(planter)
        _sidewalk_things(planter)
    else:
        _rails(planter)
        _verges(planter)
    _signs(planter)
    placed = sorted(planter.placed, key=lambda pair: pair[0])
    things = [thing for _, thing in placed]
    poses = np.array([(thing.x, thing.y, thing.yaw) for thing in things]).reshape(-1, 3)
    reach = np.array([thing.mesh.radius_m for thing in things])
    prominence = np.array([thing.prominence for thing in things])
    return Roadside(things, np.array([s for s, _ in placed]), poses, reach, prominence, tuple(planter.signals))


def _junctions(p: Planter) -> None:
    rng = p.rng
    for number, j in enumerate(p.course.junctions):
        if j.lights:
            _signal(p, j, number)
        for side in (1.0, -1.0):
            if rng.random() < 0.6:  # someone waits in the side street
                edge = p.left if side > 0 else p.right
                vehicle = any_car(rng, p.look.domain)
                where = edge + side * (rng.uniform(4.5, 7.5) + vehicle.size_m[0] / 2)
                turn = -np.pi / 2 * side
                facts = {
                    "category": "car",
                    "track": f"w{number}{side:+.0f}",
                    "size_m": vehicle.size_m,
                    "lamps": 3 if p.lit else 0,
                }
                p.place(j.s_m + side * j.width_m / 4, where, vehicle.mesh, turn, **facts)


def _signal(p: Planter, j: Junction, number: int) -> None:
    """Lights for the car's own direction: one at the right, often a second over the road; grey backs for the others."""
    rng = p.rng
    base, far_side = rng.uniform(2.3, 2.9), rng.random() < 0.4
    s = j.s_m + j.width_m / 2 + 2 if far_side else stop_line(j) + 1.5
    arm = rng.uniform(2.5, 5.0) if rng.random() < 0.5 else 0.0
    posts = [(p.right - 0.7, base, arm)] + ([(p.left + 0.7, base, 0.0)] if rng.random() < 0.5 else [])
    spots: list[tuple[float, float]] = []
    for d, height, reach in posts:
        p.place(s + 0.05, d, furniture.make_light_post(height if reach == 0 else 5.2, reach))
        spots += [(d, height)] + ([(d + reach, 5.3)] if reach > 0 else [])
    for k, (d, height) in enumerate(spots):
        built = {state: furniture.make_light(state, height) for state in ("red", "yellow", "green", "off")}
        x, y, heading, _ = (float(v) for v in p.course.at(np.array(s)))
        size = built["red"][1]
        place = (x - float(np.sin(heading)) * d, y + float(np.cos(heading)) * d)
        meshes = {state: mesh for state, (mesh, _) in built.items()}
        p.signals.append(Signal(j, meshes, *place, heading, size, height, f"l{number}-{k}", s))
    backs, _ = furniture.make_light("off", base)
    p.place(2 * j.s_m - s, p.left + 0.7, furniture.make_light_post(base, 0.0), np.pi)
    p.place(2 * j.s_m - s, p.left + 0.7, backs, np.pi)


def _parked(p: Planter) -> None:
    rng = p.rng
    for side, (d, direction) in enumerate(p.course.layout.parking):
        s = 5.0
        while s < p.course.length_m - 5:
            vehicle = any_truck(rng, p.look.domain) if rng.random() < 0.06 else any_car(rng, p.look.domain)
            long = vehicle.size_m[0]
            s += long / 2
            clear = all(abs(s - c) > long / 2 + 3 for c in p.course.crossings) and p.free(s, long / 2 + 6)
            if rng.random() < p.parked and clear and vehicle.size_m[0] < 9.8:
                turn = (0.0 if direction > 0 else np.pi) + rng.normal(0, 0.02)
                facts = {"category": vehicle.category, "track": f"k{side}-{int(s)}", "size_m": vehicle.size_m}
                p.place(s, d + rng.normal(0, 0.08), vehicle.mesh, turn, **facts)
            s += long / 2 + rng.uniform(0.7, 2.5)


def _houses(p: Planter) -> None:
    rng, wide = p.rng, p.course.layout.sidewalk_m
    for sign in (1.0, -1.0):
        edge = (p.left if sign > 0 else p.right) + sign * (wide + rng.uniform(0.2, 5.0))
        s = rng.uniform(0, 10)
        while s < p.course.length_m:
            long = rng.uniform(8, 17)
            if rng.random() < 0.8 and p.free(s + long / 2, long / 2 + 1.5):
                storeys = int(rng.integers(1, MOST_STOREYS + 1))
                name = f"{storeys}-{int(rng.integers(0, FRONTS))}"
                front = furniture.make_front(long, p.look.walls[name], storeys, name)
                p.place(s + long / 2, edge + sign * rng.uniform(0, 1.5), front, 0.0 if sign > 0 else np.pi)
            elif p.free(s, 3):
                for _ in range(3):
                    p.place(
                        s + rng.uniform(0, long),
                        edge + sign * rng.uniform(0.5, 6),
                        p.sprite("tree", 6, (3, 6), (4.5, 10)),
                    )
            s += long + (rng.uniform(2, 8) if rng.random() < 0.35 else 0.0)


def _sidewalk_things(p: Planter) -> None:
    rng, wide = p.rng, p.course.layout.sidewalk_m
    trees, lamps = rng.random() < 0.6, rng.uniform(24, 38)
    for sign in (1.0, -1.0):
        edge = p.left if sign > 0 else p.right
        s = rng.uniform(0, 10)
        while s < p.course.length_m:
            d = edge + sign * rng.uniform(0.5, 0.9)
            if p.free(s, 3):
                draw = rng.random()
                if trees and draw < 0.4:
                    p.place(s, d, p.sprite("tree", 6, (2.6, 5), (4, 8)))
                elif draw < 0.62:
                    p.place(
                        s,
                        edge + sign * rng.uniform(0.5, wide - 0.2),
                        any_clutter(rng, p.look.domain),
                        rng.normal(0, 0.3),
                    )
                elif draw < 0.75:
                    p.place(s, edge + sign * (wide + rng.uniform(-0.3, 0.6)), p.sprite("bush", 4, (1, 2), (0.8, 1.8)))
                elif draw < 0.82:
                    p.place(
                        s,
                        d,
                        furniture.make_sign_back(rng.uniform(0.3, 0.45), rng.uniform(1.7, 2.3)),
                        np.pi * (sign < 0),
                    )
            s += rng.uniform(4, 13)
        post = furniture.make_lamp_post(rng.uniform(5.5, 7), 1.6, p.lit)
        for s in np.arange(rng.uniform(0, lamps), p.course.length_m, lamps):
            p.place(float(s), edge + sign * 0.6, post, np.pi if sign > 0 else 0.0)


def _rails(p: Planter) -> None:
    layout, long = p.course.layout, 8.0
    if not layout.barrier:
        return
    tall = bool(p.rng.random() < 0.35)
    rail, wall = furniture.make_rail(long, False), furniture.make_rail(long, tall)
    gaps = p.rng.random(int(p.course.length_m / 160) + 1) < 0.3
    for s in np.arange(4.0, p.course.length_m, long):
        p.place(float(s), p.left + 0.5, wall)
        if not gaps[int(s / 160)]:
            p.place(float(s), p.right - 0.6, rail)


def _verges(p: Planter) -> None:
    rng = p.rng
    wooded = rng.uniform(0.2, 0.9)
    far = (p.course.layout.other or (p.left, 0.0))[0]
    for sign in (1.0, -1.0):
        edge = far + 2.5 if sign > 0 else p.right - 2.5
        s = rng.uniform(0, 10)
        while s < p.course.length_m:
            draw = rng.random()
            if draw < wooded:
                p.place(s, edge + sign * rng.uniform(2, 22), p.sprite("tree", 6, (4, 7.5), (6, 13)))
            elif draw < wooded + 0.12:
                p.place(s, edge + sign * rng.uniform(0, 6), p.sprite("bush", 4, (1.5, 4), (1, 2.6)))
            elif draw < wooded + 0.2:
                p.place(s, edge + sign * rng.uniform(0, 3), any_clutter(rng, p.look.domain), rng.normal(0, 0.4))
            s += rng.uniform(3, 12)
    b = MeshBuilder()
    b.stick((0, 0, 0.05), (0, 0, 0.95), 0.06, (225, 225, 222))
    b.stick((0, 0, 0.78), (0, 0, 0.86), 0.062, (30, 30, 30))
    post = b.build()
    for s in np.arange(25.0, p.course.length_m, 50.0):
        p.place(float(s), p.right - 0.9, post)


def _signs(p: Planter) -> None:
    rng = p.rng
    urban = p.course.layout.kind is Road.urban
    s = rng.uniform(20, 60)
    number = 0
    while s < p.course.length_m:
        if p.free(s, 2):
            for side in (-1.0, 1.0) if rng.random() < 0.25 and not urban else (-1.0,):
                plate, pole, size = any_sign(rng, p.look.domain)
                d = (p.right if side < 0 else p.left) + side * rng.uniform(0.6, 1.5)
                base = float(plate.vertices[:, 2].min())
                p.place(s + 0.05, d, pole)
                p.place(s, d, plate, rng.normal(0, 0.05), category="sign", track=f"s{number}", size_m=size, base_m=base)
                number += 1
        s += rng.uniform(22, 70) if urban else rng.uniform(45, 150)
