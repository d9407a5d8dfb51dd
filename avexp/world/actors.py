"""Who moves through a drive: the car itself, traffic, cyclists and pedestrians, and where each is at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Road
from avexp.world.course import BEHIND_M, Course
from avexp.world.figures import PHASES, STRIDE_M
from avexp.world.garage import any_cyclist, any_person, any_vehicle
from avexp.world.look import Textures
from avexp.world.mesh import Mesh
from avexp.world.scene import BRAKE_ON, HEAD_ON, TAIL_ON, Thing
from avexp.world.traffic import TICK_S, Start, simulate, speed_caps
from avexp.world.vehicles import Vehicle

Floats = npt.NDArray[np.float64]
EGO_LENGTH_M = 4.6


@dataclass(frozen=True, slots=True)
class Mover:
    """A vehicle or cyclist on the course.

    Attributes:
        poses: meshes by phase of motion (one for vehicles).
        size_m, category: for the label.
        d_m: offset of its way; ``direction`` +1 with the car, -1 against it.
        s_m: [T] place on the course each TICK_S.
        wander: phase of its swing in the lane.
    """

    poses: tuple[Mesh, ...]
    size_m: tuple[float, float, float]
    category: str
    d_m: float
    direction: int
    s_m: Floats
    wander: float
    track: str


@dataclass(frozen=True, slots=True)
class Walker:
    """A pedestrian: at time t at (s, d) = start + velocity * clip(t - since, 0, during)."""

    poses: tuple[Mesh, ...]
    height_m: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    since_s: float
    during_s: float
    track: str


@dataclass(frozen=True, slots=True)
class Cast:
    """All who move.

    Attributes:
        ego_s: [T], the car's own place on the course each TICK_S.
        movers: M vehicles and cyclists; ``places`` [T, M] their s, ``facts`` [M, 3] their offset, direction, wander.
        walkers: P pedestrians; ``walks`` [P, 6] their start (s, d), velocity, time of starting, duration.
    """

    ego_s: Floats
    movers: tuple[Mover, ...]
    places: Floats
    facts: Floats
    walkers: tuple[Walker, ...]
    walks: Floats


@dataclass(frozen=True, slots=True)
class Crowding:
    """How many there are: vehicles per kilometre and lane, share of trucks, cyclists and pedestrians per kilometre."""

    vehicles: float
    trucks: float
    cyclists: float
    pedestrians: float


def make_cast(
    rng: np.random.Generator, course: Course, textures: Textures, crowding: Crowding, duration_s: float
) -> Cast:
    """A random cast; the car itself drives in its lane behind a lead vehicle, most of the time."""
    layout = course.layout
    limit = rng.uniform(24, 34) if layout.kind is Road.highway else rng.uniform(9.5, 14.5)
    start, vehicles = _start(rng, course, textures, crowding, limit)
    places = simulate(start, course, speed_caps(course, limit * 1.2), duration_s)
    places = np.where(start.against[:, None], course.length_m - places, places)
    ego_s = places[vehicles.index(None)]
    movers = []
    for i, vehicle in enumerate(vehicles):
        if vehicle is not None:
            d, direction = layout.lanes[int(start.lane[i])]
            shape = (vehicle.mesh,), vehicle.size_m, vehicle.category
            movers.append(Mover(*shape, d, direction, places[i], rng.uniform(0, 6.3), f"v{i}"))
    walkers: tuple[Walker, ...] = ()
    if layout.kind is Road.urban:
        movers += _cyclists(rng, course, textures, crowding, ego_s)
        walkers = _walkers(rng, course, textures, crowding, ego_s, movers)
    places = np.array([m.s_m for m in movers]).reshape(-1, len(ego_s)).T.copy()
    facts = np.array([(m.d_m, m.direction, m.wander) for m in movers]).reshape(-1, 3)
    walks = np.array([(*w.start, *w.velocity, w.since_s, w.during_s) for w in walkers]).reshape(-1, 6)
    return Cast(ego_s, tuple(movers), places, facts, walkers, walks)


def _start(
    rng: np.random.Generator, course: Course, textures: Textures, crowding: Crowding, limit: float
) -> tuple[Start, list[Vehicle | None]]:
    """All lanes at the start; None is the car itself."""
    lanes = [
        _lane(rng, textures, crowding, lane == course.layout.ego_lane, way, course.length_m)
        for lane, (_, way) in enumerate(course.layout.lanes)
    ]
    vehicles = [vehicle for _, some in lanes for vehicle in some]
    number = np.repeat(np.arange(len(lanes)), [len(some) for _, some in lanes])
    against = np.array([way < 0 for _, way in course.layout.lanes])[number]
    lengths = np.array([EGO_LENGTH_M if v is None else v.size_m[0] for v in vehicles])
    slow = np.array([0.85 if v is not None and v.category == "truck" else 1.0 for v in vehicles])
    wishes = limit * slow * rng.uniform(0.82, 1.1, len(vehicles))
    places = np.array([s for some, _ in lanes for s in some])
    return Start(number, places, lengths, wishes, rng.uniform(0, 6.3, len(vehicles)), against), vehicles


def _lane(
    rng: np.random.Generator, textures: Textures, crowding: Crowding, own: bool, direction: int, length: float
) -> tuple[list[float], list[Vehicle | None]]:
    """Places and vehicles of a lane, rear to front."""
    places: list[float] = []
    vehicles: list[Vehicle | None] = []
    mean_gap = 1000.0 / crowding.vehicles
    end = BEHIND_M + 420.0 if direction > 0 else length
    s = rng.uniform(0, mean_gap) if direction > 0 else 0.0
    before = 0.0
    while s < end:
        vehicle = any_vehicle(rng, textures, crowding.trucks)
        s += vehicle.size_m[0] / 2 + before
        if own and s > BEHIND_M - 8 and None not in vehicles:
            s = max(s, BEHIND_M)
            places.append(s)
            vehicles.append(None)
            s += EGO_LENGTH_M / 2 + vehicle.size_m[0] / 2 + rng.uniform(8, 45)
        places.append(s)
        vehicles.append(vehicle)
        before = vehicle.size_m[0] / 2
        s += 6.0 + rng.exponential(max(mean_gap - 12.0, 4.0))
    if own and None not in vehicles:
        places.append(max(s, BEHIND_M))
        vehicles.append(None)
    return places, vehicles


def _cyclists(
    rng: np.random.Generator, course: Course, textures: Textures, crowding: Crowding, ego_s: Floats
) -> list[Mover]:
    movers: list[Mover] = []
    reach = float(ego_s[-1]) + 150
    for i in range(int(rng.poisson(crowding.cyclists * (reach - BEHIND_M) / 1000))):
        poses = any_cyclist(rng, textures)
        direction = 1 if rng.random() < 0.65 else -1
        side = course.layout.surface[1] if direction > 0 else course.layout.surface[0]
        # past parked cars one rides between them and the traffic
        parked = any(way == direction for _, way in course.layout.parking)
        d = side + direction * (2.0 if parked else 0.2)
        start, speed = rng.uniform(BEHIND_M + 10, reach), direction * rng.uniform(3.0, 6.5)
        s = start + speed * TICK_S * np.arange(len(ego_s), dtype=np.float64)
        movers.append(Mover(poses, (1.75, 0.55, 1.75), "cyclist", d, direction, s, rng.uniform(0, 6.3), f"c{i}"))
    return movers


def _walkers(
    rng: np.random.Generator, course: Course, textures: Textures, crowding: Crowding, ego_s: Floats, movers: list[Mover]
) -> tuple[Walker, ...]:
    walkers: list[Walker] = []
    reach = float(ego_s[-1]) + 120
    left, right = course.layout.surface
    wide = course.layout.sidewalk_m
    crossings = [c for c in course.crossings if BEHIND_M < c < reach]
    traffic = np.array([m.s_m for m in movers]).reshape(-1, len(ego_s)), np.array([m.d_m for m in movers])
    for i in range(int(rng.poisson(crowding.pedestrians * (reach - BEHIND_M) / 1000))):
        poses, height = any_person(rng, textures)
        s = rng.uniform(BEHIND_M + 5, reach)
        if rng.random() < 0.3:
            s = float(rng.choice(crossings)) + rng.uniform(-1.4, 1.4) if crossings and rng.random() < 0.7 else s
            crossing = _crossing(rng, course, s, ego_s, *traffic)
            if crossing is not None:
                walkers.append(Walker(poses, height, *crossing, f"p{i}"))
                continue
        onto = rng.uniform(0.4, wide - 0.4)
        d = left + onto if rng.random() < 0.5 else right - onto
        speed = rng.choice([-1.0, 0.0, 1.0], p=[0.4, 0.2, 0.4]) * rng.uniform(0.9, 1.6)
        start = (s - speed * float(rng.uniform(0, 20)), d)
        walkers.append(Walker(poses, height, start, (speed, 0.0), 0.0, 1e6, f"p{i}"))
    return tuple(walkers)


def _crossing(
    rng: np.random.Generator, course: Course, s: float, ego_s: Floats, others_s: Floats, others_d: Floats
) -> tuple[tuple[float, float], tuple[float, float], float, float] | None:
    """A walk across the road at s while no vehicle comes near the pedestrian, and the car is 14 to 80 m away.

    Returns:
        Start (s, d), velocity, time of starting and duration; None where there was no such time.
    """
    left, right = course.layout.surface
    sign = float(rng.choice([-1.0, 1.0]))
    start = (right - 1.0) if sign > 0 else (left + 1.0)
    speed = rng.uniform(1.1, 1.8)
    during = (left - right + 2.0) / speed
    ticks = np.arange(0, during, 0.3)
    d = start + sign * speed * ticks
    for _ in range(8):
        ahead = rng.uniform(14, 80)
        now = float(np.interp(s - ahead, ego_s, np.arange(len(ego_s)) * TICK_S))
        index = np.clip(((now + ticks) / TICK_S).astype(int), 0, len(ego_s) - 1)
        if np.any(np.abs(ego_s[index] - s) < 8):
            continue
        if not np.any((np.abs(others_s[:, index] - s) < 6) & (np.abs(others_d[:, None] - d) < 2)):
            return (s, start), (0.0, sign * speed), now, during
    return None


def things_at(cast: Cast, course: Course, t_s: float, near_s: tuple[float, float], lamps: bool) -> list[Thing]:
    """The movers and walkers between two places of the course at a time."""
    things: list[Thing] = []
    index = min(max(t_s / TICK_S, 0.0), len(cast.ego_s) - 2.001)
    low, share = int(index), index - int(index)
    if cast.movers:
        s_low = cast.places[low]
        step = cast.places[low + 1] - s_low
        last = s_low - cast.places[max(low - 4, 0)]
        slows = np.abs(step) * 4 < np.abs(last) - 0.02
        s = s_low + step * share
        keep = np.flatnonzero((s > near_s[0]) & (s < near_s[1]))
        things += _placed_movers(cast, course, s, slows, keep, lamps)
    if cast.walkers:
        things += _placed_walkers(cast, course, t_s, near_s)
    return things


def _placed_movers(
    cast: Cast, course: Course, s: Floats, slows: npt.NDArray[np.bool_], keep: npt.NDArray[np.int64], lamps: bool
) -> list[Thing]:
    lane_d, direction, wander = cast.facts[keep].T
    d = lane_d + 0.22 * np.sin(s[keep] / 38 + wander)
    slope = 0.22 / 38 * np.cos(s[keep] / 38 + wander)
    x, y, heading, _ = course.at(s[keep])
    yaw = heading + np.arctan(slope) + np.where(direction < 0, np.pi, 0.0)
    px, py = x - np.sin(heading) * d, y + np.cos(heading) * d
    things = []
    rows = zip(
        keep.tolist(), px.tolist(), py.tolist(), yaw.tolist(), s[keep].tolist(), slows[keep].tolist(), strict=True
    )
    for i, at_x, at_y, turn, place, brakes in rows:
        m = cast.movers[i]
        mesh = m.poses[int(abs(place) / 5.2 * PHASES) % PHASES] if len(m.poses) > 1 else m.poses[0]
        bits = (HEAD_ON | TAIL_ON if lamps else 0) | (BRAKE_ON if brakes else 0)
        things.append(Thing(mesh, at_x, at_y, turn, m.category, m.track, m.size_m, 0.0, None, bits))
    return things


def _placed_walkers(cast: Cast, course: Course, t_s: float, near_s: tuple[float, float]) -> list[Thing]:
    facts = cast.walks
    since = np.clip(t_s - facts[:, 4], 0.0, facts[:, 5])
    place = facts[:, :2] + facts[:, 2:4] * since[:, None]
    keep = np.flatnonzero((place[:, 0] > near_s[0]) & (place[:, 0] < near_s[1]))
    x, y, heading, _ = course.at(place[keep, 0])
    px, py = x - np.sin(heading) * place[keep, 1], y + np.cos(heading) * place[keep, 1]
    speed = np.hypot(facts[keep, 2], facts[keep, 3])
    # who stands looks anywhere
    turn = np.where(speed > 0, np.arctan2(facts[keep, 3], facts[keep, 2]), facts[keep, 0] % 6.28)
    rows = np.column_stack([px, py, heading + turn, speed, since[keep], facts[keep, 5]]).tolist()
    things = []
    for i, (wx, wy, yaw, way, past, during) in zip(keep.tolist(), rows, strict=True):
        walker = cast.walkers[i]
        stride = STRIDE_M * walker.height_m / 1.75
        phase = int(past * way / stride * PHASES) % PHASES if way > 0 and 0 < past < during else 0
        size = (0.5, 0.55, walker.height_m)
        things.append(Thing(walker.poses[phase], wx, wy, yaw, "pedestrian", walker.track, size))
    return things
