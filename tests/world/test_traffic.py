import numpy as np

from avexp.core.counter_random import generator
from avexp.records.labels import Road
from avexp.world.course import Junction, make_course
from avexp.world.traffic import TICK_S, Start, light_state, simulate, speed_caps, stop_line


def one_lane(places, wish):
    count = len(places)
    none = np.zeros(count, bool)
    return Start(
        np.zeros(count, np.int64), np.array(places), np.full(count, 4.5), np.array(wish), np.zeros(count), none
    )


def test_a_fast_car_does_not_run_into_a_slow_one():
    course = make_course(generator(3), Road.highway, 3000.0)
    places = simulate(one_lane([0.0, 80.0], [35.0, 15.0]), course, np.full(3001, 40.0), 40.0)
    gap = places[1] - places[0] - 4.5
    assert gap.min() > 1.0
    assert (np.diff(places, axis=1) >= 0).all()


def test_lights_cycle_and_stop_a_car():
    course = make_course(generator(5), Road.urban, 900.0)
    junction = next(j for j in course.junctions if j.lights)
    seen = [light_state(junction, t) for t in np.arange(0, 24, 0.5)]
    assert set(seen) == {"green", "yellow", "red"}
    red = next(t for t in np.arange(0, 48, 0.1) if light_state(junction, t) == "yellow")
    line = stop_line(junction)
    course = type(course)(
        course.x, course.y, course.heading, course.curvature, course.layout,
        (Junction(junction.s_m, junction.width_m, True, junction.phase_s + red),), (),
    )  # fmt: skip
    # the light has just turned yellow and stays shut for 11 s; the car is 60 m away at 12 m/s
    places = simulate(one_lane([line - 60.0], [12.0]), course, speed_caps(course, 12.0), 10.0)
    assert places.max() <= line
    assert places[0, -1] > line - 10


def test_caps_slow_before_a_bend():
    course = make_course(generator(1), Road.urban, 600.0)
    caps = speed_caps(course, 30.0)
    assert (caps**2 * np.abs(course.curvature) <= 2.3 + 1e-6).all()
    assert (caps[:-1] ** 2 <= caps[1:] ** 2 + 2 * 1.2 + 1e-6).all()
    assert TICK_S == 0.1
