"""How traffic moves: car-following by the intelligent driver model, slowing in curves, stopping at red lights.

Source: Treiber, Hennecke, Helbing 2000, "Congested traffic states in empirical observations and microscopic simulations".
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.world.course import STEP_M, Course, Junction

Floats = npt.NDArray[np.float64]
TICK_S = 0.1
ACCELERATION, BRAKING, HEADWAY_S, STANDSTILL_M = 1.6, 2.4, 1.3, 2.6
LATERAL_MPS2 = 2.3
"""Lateral acceleration that drivers take in curves [m/s^2]."""
CYCLE_S, GREEN_S, YELLOW_S = 24.0, 12.5, 2.5


def light_state(junction: Junction, t_s: float, cross: bool = False) -> str:
    """State of a junction's lights for the road, or for the crossing street."""
    phase = (t_s + junction.phase_s + (CYCLE_S / 2 + 1.5 if cross else 0.0)) % CYCLE_S
    if phase < GREEN_S - (3.0 if cross else 0.0):
        return "green"
    return "yellow" if phase < GREEN_S + YELLOW_S - (3.0 if cross else 0.0) else "red"


def stop_line(junction: Junction) -> float:
    """Where one stops before a junction [m]."""
    return junction.s_m - junction.width_m / 2 - 6.5


def speed_caps(course: Course, limit_mps: float) -> Floats:
    """Speed [m/s] at each sample of the centre line that curves, and braking before them, allow."""
    caps = np.minimum(limit_mps, np.sqrt(LATERAL_MPS2 / np.maximum(np.abs(course.curvature), 1e-5)))
    squares = caps**2
    for i in range(len(squares) - 2, -1, -1):
        squares[i] = min(squares[i], squares[i + 1] + 2 * 1.2 * STEP_M)
    return np.asarray(np.sqrt(squares))


@dataclass(frozen=True, slots=True)
class Start:
    """Vehicles of all lanes at the start: lane by lane, each rear to front.

    Attributes:
        lane: int [N], number of the lane.
        s_m: places [N], along the direction of travel.
        lengths_m: [N].
        wishes_mps: wished speeds [N].
        phases: [N], of the slow swing of the wished speed.
        against: bool [N], travels against the course.
    """

    lane: npt.NDArray[np.int64]
    s_m: Floats
    lengths_m: Floats
    wishes_mps: Floats
    phases: Floats
    against: npt.NDArray[np.bool_]


def simulate(start: Start, course: Course, caps: Floats, duration_s: float) -> Floats:
    """Places [N, T] [m] along each vehicle's direction of travel, each TICK_S.

    Args:
        start: the vehicles.
        course: the road; its junctions with lights stop them.
        caps: speed limit by place on the course, each STEP_M.
        duration_s: how long.
    """
    count = round(duration_s / TICK_S) + 2
    places = np.zeros((len(start.s_m), count))
    limits = np.stack([caps, caps[::-1]])
    way = start.against.astype(np.int64)
    last_of_lane = np.append(start.lane[1:] != start.lane[:-1], True)
    lights = [j for j in course.junctions if j.lights]
    lines = _stop_lines(lights, course.length_m, start.against)
    s = start.s_m.copy()
    v = np.minimum(start.wishes_mps, limits[way, _index(s, caps)]) * 0.95
    for tick in range(count):
        places[:, tick] = s
        t = tick * TICK_S
        wish = start.wishes_mps * (1 + 0.12 * np.sin(0.35 * t + start.phases))
        wish = np.minimum(wish, limits[way, _index(s + 4, caps)])
        gap = np.where(last_of_lane, 1e6, np.roll(s - start.lengths_m / 2, -1)) - s - start.lengths_m / 2
        closing = v - np.where(last_of_lane, 1e3, np.roll(v, -1))
        shut = np.array([light_state(junction, t) != "green" for junction in lights], np.bool_)
        gap, closing = _heed_lights(s, v, gap, closing, lines[shut])
        wanted = STANDSTILL_M + np.maximum(0.0, v * HEADWAY_S + v * closing / (2 * np.sqrt(ACCELERATION * BRAKING)))
        pull = ACCELERATION * (1 - (v / np.maximum(wish, 0.5)) ** 4 - (wanted / np.maximum(gap, 0.3)) ** 2)
        v = np.maximum(0.0, v + np.clip(pull, -6.0, ACCELERATION) * TICK_S)
        s = s + v * TICK_S
    return places


def _index(s: Floats, caps: Floats) -> npt.NDArray[np.int64]:
    return np.clip((s / STEP_M).astype(np.int64), 0, len(caps) - 1)


def _stop_lines(lights: list[Junction], length_m: float, against: npt.NDArray[np.bool_]) -> Floats:
    """Stop lines [J, N] along each vehicle's direction of travel."""
    with_course = np.array([stop_line(j) for j in lights])
    against_course = np.array([length_m - (2 * j.s_m - stop_line(j)) for j in lights])
    return np.where(against[None], against_course[:, None], with_course[:, None])


def _heed_lights(s: Floats, v: Floats, gap: Floats, closing: Floats, lines: Floats) -> tuple[Floats, Floats]:
    """Gap and closing speed where a closed stop line [J, N] is nearer than the vehicle ahead."""
    if len(lines) == 0:
        return gap, closing
    way = lines - s - 1.0
    # one stops where one still can
    way = np.where((way > 0) & (v**2 / (2 * np.maximum(way, 0.1)) < 4.5), way, 1e6).min(axis=0)
    heed = way < gap
    return np.where(heed, way, gap), np.where(heed, v, closing)
