"""The course of a road: a centre line of clothoid-like curvature, and what lies at which lateral offset of it.

Road coordinates: s [m] along the centre line, d [m] to its left.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import LaneType, Road

Floats = npt.NDArray[np.float64]
STEP_M = 1.0
"""Spacing of the samples of a centre line [m]."""
BEHIND_M = 160.0
"""Road behind the start of a drive [m], for rear cameras and followers."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """One lane boundary: offset d [m], kind, and whether it is painted (a kerb is not)."""

    offset_m: float
    type: LaneType
    painted: bool = True
    yellow: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """The cross-section of a road, left to right.

    Attributes:
        kind: highway or urban.
        boundaries: lane boundaries of the carriageway that the car drives on, left to right.
        lanes: (offset of its centre [m], +1 with the car or -1 against it).
        ego_lane: index into ``lanes``.
        surface: left and right end of the paved carriageway [m].
        other: left and right end of a separate opposite carriageway [m], if any.
        sidewalk_m: width of the sidewalks beside the surface, 0 if none.
        parking: sides with parked cars: (offset of their centre [m], +1 or -1 heading).
        dash_m: length of a dash and of a gap [m].
        barrier: whether guardrails stand beside the carriageway.
    """

    kind: Road
    boundaries: tuple[Boundary, ...]
    lanes: tuple[tuple[float, int], ...]
    ego_lane: int
    surface: tuple[float, float]
    other: tuple[float, float] | None
    sidewalk_m: float
    parking: tuple[tuple[float, int], ...]
    dash_m: tuple[float, float]
    barrier: bool


@dataclass(frozen=True, slots=True)
class Junction:
    """A crossing street at s [m], its width [m], and whether traffic lights stand there."""

    s_m: float
    width_m: float
    lights: bool
    phase_s: float


@dataclass(frozen=True, slots=True)
class Course:
    """A road.

    Attributes:
        x, y, heading, curvature: samples of the centre line each STEP_M from s = 0 [m, m, rad, 1/m].
        layout: its cross-section.
        junctions: crossing streets.
        crossings: s [m] of zebra crossings.
    """

    x: Floats
    y: Floats
    heading: Floats
    curvature: Floats
    layout: Layout
    junctions: tuple[Junction, ...]
    crossings: tuple[float, ...]

    @property
    def length_m(self) -> float:
        """Length of the centre line [m]."""
        return (len(self.x) - 1) * STEP_M

    def at(self, s: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """x, y, heading and curvature at s, each of its shape."""
        index = np.clip(s / STEP_M, 0, len(self.x) - 1.001)
        low = index.astype(np.int64)
        part = index - low
        values = (self.x, self.y, self.heading, self.curvature)
        x, y, heading, curvature = (v[low] + (v[low + 1] - v[low]) * part for v in values)
        return x, y, heading, curvature

    def points(self, s: Floats, d: Floats) -> Floats:
        """World positions [..., 2] of road coordinates (broadcast against each other)."""
        x, y, heading, _ = self.at(s)
        return np.stack(np.broadcast_arrays(x - np.sin(heading) * d, y + np.cos(heading) * d), axis=-1)


def make_course(rng: np.random.Generator, kind: Road, length_m: float) -> Course:
    """A random road of at least this length."""
    layout = _highway(rng) if kind is Road.highway else _urban(rng)
    curvature = _curvature(rng, kind, length_m)
    heading = np.concatenate([[0.0], np.cumsum((curvature[1:] + curvature[:-1]) / 2 * STEP_M)])
    middle = (heading[1:] + heading[:-1]) / 2
    x = np.concatenate([[0.0], np.cumsum(np.cos(middle) * STEP_M)])
    y = np.concatenate([[0.0], np.cumsum(np.sin(middle) * STEP_M)])
    junctions: list[Junction] = []
    crossings: list[float] = []
    if kind is Road.urban:
        s = BEHIND_M + rng.uniform(25, 90)
        while s < length_m - 40:
            junctions.append(Junction(s, rng.uniform(7, 12), rng.random() < 0.6, rng.uniform(0, 24)))
            crossings += [s - junctions[-1].width_m / 2 - 3.5] if rng.random() < 0.7 else []
            crossings += [s + rng.uniform(40, 55)] if rng.random() < 0.25 else []
            s += rng.uniform(85, 170)
    return Course(x, y, heading, curvature, layout, tuple(junctions), tuple(crossings))


def _curvature(rng: np.random.Generator, kind: Road, length_m: float) -> Floats:
    """Straights, linear ramps (clothoids) and arcs, turned so that the road does not come back upon itself."""
    least_radius, straight, arc, ramp = (
        (250.0, (40, 220), (80, 260), (50, 90)) if kind is Road.highway else (120.0, (30, 130), (30, 90), (20, 40))
    )
    knots_s, knots_k, s, heading = [0.0], [0.0], 0.0, 0.0
    while s < length_m + 10:
        flat, turn, bend = rng.uniform(*straight), rng.uniform(*arc), rng.uniform(*ramp)
        k = rng.uniform(0.12, 1.0) / least_radius
        sign = rng.choice([-1.0, 1.0]) if abs(heading) < 0.7 else -np.sign(heading)
        turn = min(turn, max(10.0, 1.1 / k - bend))
        knots_s += [s + flat, s + flat + bend, s + flat + bend + turn, s + flat + 2 * bend + turn]
        knots_k += [0.0, sign * k, sign * k, 0.0]
        s, heading = knots_s[-1], heading + sign * k * (turn + bend)
    samples = np.arange(0.0, length_m + 2 * STEP_M, STEP_M)
    return np.asarray(np.interp(samples, knots_s, knots_k), np.float64)


def _highway(rng: np.random.Generator) -> Layout:
    count = int(rng.integers(2, 5))
    width = rng.uniform(3.45, 3.8)
    left = count * width / 2
    offsets = [left - i * width for i in range(count + 1)]
    inner = LaneType.dashed
    types = [LaneType.edge, *[inner] * (count - 1), LaneType.edge]
    if count > 2 and rng.random() < 0.25:
        types[int(rng.integers(1, count))] = LaneType.solid
    yellow = rng.random() < 0.4
    boundaries = tuple(
        Boundary(offset, kind, True, yellow and i == 0)
        for i, (offset, kind) in enumerate(zip(offsets, types, strict=True))
    )
    lanes = [(left - (i + 0.5) * width, 1) for i in range(count)]
    inner_shoulder, outer_shoulder = rng.uniform(0.6, 1.5), rng.uniform(1.5, 3.2)
    median = rng.uniform(1.5, 9.0)
    near = left + inner_shoulder + median
    other = (near + count * width + 2.5, near)
    lanes += [(near + 0.8 + (i + 0.5) * width, -1) for i in range(count)]
    dash = (6.0, 12.0) if rng.random() < 0.6 else (3.0, 9.0)
    return Layout(
        Road.highway,
        boundaries,
        tuple(lanes),
        int(rng.integers(0, count)),
        (left + inner_shoulder, -left - outer_shoulder),
        other,
        0.0,
        (),
        dash,
        bool(rng.random() < 0.75),
    )


def _urban(rng: np.random.Generator) -> Layout:
    count = 2 if rng.random() < 0.4 else 1
    width = rng.uniform(3.0, 3.5)
    centre = [LaneType.double, LaneType.solid, LaneType.dashed][int(rng.integers(0, 3))]
    yellow = bool(rng.random() < 0.35)
    sides = (bool(rng.random() < 0.6), bool(rng.random() < 0.6))
    boundaries: list[Boundary] = []
    left, right = count * width, -count * width
    parking: list[tuple[float, int]] = []
    strip = rng.uniform(2.0, 2.3)
    gutter = rng.uniform(0.15, 0.5)
    if sides[0]:
        boundaries.append(Boundary(left + strip, LaneType.edge, False))
        parking.append((left + strip / 2, -1))
    boundaries.append(
        Boundary(left, LaneType.solid, True) if sides[0] else Boundary(left + gutter, LaneType.edge, False)
    )
    for i in range(2 * count - 1):
        offset = left - (i + 1) * width
        middle = i == count - 1
        boundaries.append(Boundary(offset, centre if middle else LaneType.dashed, True, middle and yellow))
    boundaries.append(Boundary(right, LaneType.solid) if sides[1] else Boundary(right - gutter, LaneType.edge, False))
    if sides[1]:
        boundaries.append(Boundary(right - strip, LaneType.edge, False))
        parking.append((right - strip / 2, 1))
    lanes = [(-(i + 0.5) * width, 1) for i in range(count)] + [((i + 0.5) * width, -1) for i in range(count)]
    ends = (boundaries[0].offset_m, boundaries[-1].offset_m)
    sidewalk = rng.uniform(2.2, 4.0)
    return Layout(
        Road.urban,
        tuple(boundaries),
        tuple(lanes),
        int(rng.integers(0, count)),
        ends,
        None,
        sidewalk,
        tuple(parking),
        (3.0, float(rng.choice([4.0, 6.0]))),
        False,
    )
