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
    return np.sqrt(squares)


@dataclass(frozen=True, slots=True)
class LaneStart:
    """Vehicles of one lane at the start, rear to front.

    Attributes:
        s_m: places [N], along the direction of travel.
        lengths_m: [N].
        wishes_mps: wished speeds [N].
        phases: [N], of the slow swing of the wished speed.
    """

    s_m: Floats
    lengths_m: Floats
    wishes_mps: Floats
    phases: Floats


def simulate(start: LaneStart, caps: Floats, lights: tuple[tuple[float, Junction], ...], duration_s: float) -> Floats:
    """Places [N, T] [m] of one lane's vehicles each TICK_S.

    Args:
        start: the vehicles.
        caps: speed limit by place, each STEP_M.
        lights: (stop line [m], junction) along the direction of travel.
        duration_s: how long.
    """
    count = round(duration_s / TICK_S) + 2
    places = np.zeros((len(start.s_m), count))
    s = start.s_m.copy()
    v = np.minimum(start.wishes_mps, caps[np.clip((s / STEP_M).astype(int), 0, len(caps) - 1)]) * 0.95
    lines = np.array([line for line, _ in lights])
    for tick in range(count):
        places[:, tick] = s
        t = tick * TICK_S
        wish = start.wishes_mps * (1 + 0.12 * np.sin(0.35 * t + start.phases))
        wish = np.minimum(wish, caps[np.clip(((s + 4) / STEP_M).astype(int), 0, len(caps) - 1)])
        gap = np.append(s[1:] - start.lengths_m[1:] / 2, 1e6) - s - start.lengths_m / 2
        closing = v - np.append(v[1:], 1e3)
        gap, closing = _heed_lights(s, v, gap, closing, lines, lights, t)
        wanted = STANDSTILL_M + np.maximum(0.0, v * HEADWAY_S + v * closing / (2 * np.sqrt(ACCELERATION * BRAKING)))
        pull = ACCELERATION * (1 - (v / np.maximum(wish, 0.5)) ** 4 - (wanted / np.maximum(gap, 0.3)) ** 2)
        v = np.maximum(0.0, v + np.clip(pull, -6.0, ACCELERATION) * TICK_S)
        s = s + v * TICK_S
    return places


def _heed_lights(
    s: Floats,
    v: Floats,
    gap: Floats,
    closing: Floats,
    lines: Floats,
    lights: tuple[tuple[float, Junction], ...],
    t: float,
) -> tuple[Floats, Floats]:
    if len(lines) == 0:
        return gap, closing
    shut = np.array([light_state(junction, t) != "green" for _, junction in lights])
    way = np.where(shut[:, None], lines[:, None] - s[None] - 1.0, 1e6)
    # one stops where one still can
    way = np.where((way > 0) & (v**2 / (2 * np.maximum(way, 0.1)) < 4.5), way, 1e6).min(axis=0)
    heed = way < gap
    return np.where(heed, way, gap), np.where(heed, v, closing)
