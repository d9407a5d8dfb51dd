"""The paint on a road: lane lines, zebra crossings, stop lines, arrows and repaired patches, as quads in the world."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import LaneType, Road
from avexp.world.course import Course
from avexp.world.traffic import stop_line

Floats = npt.NDArray[np.float64]
Quads = tuple[Floats, Floats, Floats, Floats]
"""s [N, 4] and d [N, 4] of corners, wear [N], yellow [N]."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Quads by rising place.

    Attributes:
        s_m: [N], where each begins.
        corners: [N, 4, 2] in the world.
        wear: [N], 0 fresh to 1 gone.
        yellow: [N], whether the paint is yellow.
        wide: [N], whether it is more than a line.
    """

    s_m: Floats
    corners: Floats
    wear: Floats
    yellow: npt.NDArray[np.bool_]
    wide: npt.NDArray[np.bool_]

    def between(self, low: float, high: float) -> slice:
        """The marks that begin in a stretch."""
        a, b = (int(i) for i in np.searchsorted(self.s_m, (low, high)))
        return slice(a, b)


@dataclass(frozen=True, slots=True)
class Blots:
    """Patches of asphalt by rising place.

    Attributes:
        s_m: [N], where each lies.
        corners: [N, 6, 2] in the world.
        shade: [N], brightness against the road's.
        street: [N], whether it is a side street, which can be driven on and lies below the road.
    """

    s_m: Floats
    corners: Floats
    shade: Floats
    street: npt.NDArray[np.bool_]


def make_blots(rng: np.random.Generator, course: Course) -> Blots:
    """Side streets, which leave the road at right angles with rounded corners, and repaired places."""
    left, right = course.layout.surface
    rows: list[tuple[float, Floats, float, bool]] = []
    for j in course.junctions:
        half = j.width_m / 2
        ends = np.array([j.s_m - half - 2.5, j.s_m + half + 2.5, j.s_m - half, j.s_m + half])
        _, _, heading, _ = course.at(np.array(j.s_m))
        for near, sign in ((left - 0.3, 1.0), (right + 0.3, -1.0)):
            out = sign * np.array([-np.sin(heading), np.cos(heading)])
            base = course.points(ends, np.array(near))
            bend = base[2:] + out * 2.8
            tip = bend + out * 60.0
            rows.append((j.s_m, np.stack([base[0], bend[0], tip[0], tip[1], bend[1], base[1]]), 0.97, True))
    for s in np.cumsum(rng.exponential(28, int(course.length_m / 28))):
        wide, long = rng.uniform(0.4, 2.2), rng.uniform(0.5, 9.0)
        d = rng.uniform(right + 0.3, left - wide - 0.3)
        along = float(s) + long * np.array([0, 0.5, 1, 1, 0.5, 0])
        corners = course.points(along, d + wide * np.array([0, 0, 0, 1, 1, 1]))
        rows.append((float(s), corners, float(rng.choice([rng.uniform(0.7, 0.9), rng.uniform(1.05, 1.18)])), False))
    rows.sort(key=lambda row: row[0])
    return Blots(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]).reshape(-1, 6, 2),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows], np.bool_),
    )


def make_marks(rng: np.random.Generator, course: Course, wear: float) -> Marks:
    """All paint of a course.

    Args:
        rng: of the wear of single marks.
        course: the road.
        wear: of the road on the whole.
    """
    parts = [*_lines(rng, course, wear), *_across(course, wear)]
    s, d, worn, yellow = (np.concatenate([part[i] for part in parts]) for i in range(4))
    order = np.argsort(s[:, 0], kind="stable")
    order = order[worn[order] < 0.93]
    s, d = s[order], d[order]
    return Marks(s[:, 0], course.points(s, d), worn[order], yellow[order] > 0, np.abs(d[:, 0] - d[:, 3]) > 0.4)


def _boundaries(course: Course) -> list[tuple[float, LaneType, bool]]:
    """Offset, kind and whether yellow of all painted lines, those of a separate opposite carriageway included."""
    layout = course.layout
    lines = [(b.offset_m, b.type, b.yellow) for b in layout.boundaries if b.painted]
    if layout.other:
        far, near = layout.other
        count = sum(1 for _, way in layout.lanes if way < 0)
        step = (far - near - 2.5) / count
        lines += [(near + 0.8, LaneType.edge, False), (far - 1.7, LaneType.edge, False)]
        lines += [(near + 0.8 + step * (i + 1), LaneType.dashed, False) for i in range(count - 1)]
    return lines


def _lines(rng: np.random.Generator, course: Course, wear: float) -> list[Quads]:
    half = 0.085 if course.layout.kind is Road.highway else 0.065
    parts = []
    for offset, kind, yellow in _boundaries(course):
        dash, gap = course.layout.dash_m if kind is LaneType.dashed else (5.0, 0.0)
        start = np.arange(0.0, course.length_m - 12, dash + gap)
        keep = np.ones(len(start), bool)
        for j in course.junctions:
            keep &= (start + dash < j.s_m - j.width_m / 2 - 6) | (start > j.s_m + j.width_m / 2 + 2)
        start = start[keep]
        # neighbours wear alike; some places are worn off altogether
        slow = np.interp(start, np.arange(0, course.length_m + 40, 40), rng.random(int(course.length_m / 40) + 2))
        worn = (
            wear * (0.5 + slow) + 0.25 * wear * rng.standard_normal(len(start)) + (rng.random(len(start)) < 0.1 * wear)
        )
        for shift in (-0.17, 0.17) if kind is LaneType.double else (0.0,):
            s = np.stack([start, start + dash, start + dash, start], axis=1)
            d = np.broadcast_to(offset + shift + half * np.array([1.0, 1.0, -1.0, -1.0]), s.shape)
            parts.append((s, d, np.clip(worn, 0, 1), np.full(len(start), float(yellow))))
    return parts


def _across(course: Course, wear: float) -> list[Quads]:
    """Zebra crossings, stop lines and arrows."""
    left, right = course.layout.surface
    quads = [(c - 1.5, c + 1.5, d, d + 0.5) for c in course.crossings for d in np.arange(right + 0.5, left - 0.5, 1.0)]
    ends = [d for d, way in course.layout.lanes if way > 0]
    width = abs(course.layout.lanes[0][0] - course.layout.lanes[1][0]) if len(ends) > 1 else 3.0
    for j in course.junctions:
        line = stop_line(j)
        quads.append((line + 0.6, line + 1.0, min(ends) - width / 2 + 0.2, max(ends) + width / 2 - 0.2))
        for d in ends:
            quads.append((line - 12, line - 9, d - 0.08, d + 0.08))
            for i in range(4):
                half = 0.32 - 0.08 * i
                quads.append((line - 9.0 + 0.25 * i, line - 8.75 + 0.25 * i, d - half, d + half))
    if not quads:
        return []
    corners = np.array(quads)
    along, offsets = corners[:, [0, 1, 1, 0]], corners[:, [3, 3, 2, 2]]
    return [(along, offsets, np.full(len(corners), wear * 0.8), np.zeros(len(corners)))]
