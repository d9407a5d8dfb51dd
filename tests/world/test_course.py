import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.core.counter_random import generator
from avexp.records.labels import LaneType, Road
from avexp.world.course import Course, make_course


def arc(radius_m, length_m):
    s = np.arange(0, length_m + 1.0)
    layout = make_course(generator("test"), Road.highway, 50.0).layout
    x, y = radius_m * np.sin(s / radius_m), radius_m * (1 - np.cos(s / radius_m))
    return Course(x, y, s / radius_m, np.full(len(s), 1 / radius_m), layout, (), ())


def test_points_of_a_left_arc():
    course = arc(100.0, 200)
    # a quarter circle to the left ends at (100, 100); 10 m to its left the radius is 90 m
    s = np.array(50 * np.pi)
    assert course.points(s, np.array(0.0)) == pytest.approx([100, 100], abs=0.02)
    assert course.points(s, np.array(10.0)) == pytest.approx([90, 100], abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([Road.highway, Road.urban]))
def test_courses_are_drivable(seed, kind):
    course = make_course(generator(seed), kind, 800.0)
    assert course.length_m >= 800
    least = 250 if kind is Road.highway else 120
    assert np.abs(course.curvature).max() <= 1 / least + 1e-9
    # a clothoid: curvature changes by no more than its ramp allows
    assert np.abs(np.diff(course.curvature)).max() < 1 / least / 18
    assert np.abs(course.heading).max() < np.pi
    offsets = [b.offset_m for b in course.layout.boundaries]
    assert offsets == sorted(offsets, reverse=True)
    lane = course.layout.lanes[course.layout.ego_lane]
    assert lane[1] == 1
    assert sum(o > lane[0] for o in offsets) >= 1 <= sum(o < lane[0] for o in offsets)
    assert course.layout.boundaries[0].type is LaneType.edge
    assert course.layout.surface[0] >= offsets[0] - 1e-9
    assert course.layout.surface[1] <= offsets[-1] + 1e-9
