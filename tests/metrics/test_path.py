import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.metrics.path import path_error_m, point_at, travelled
from avexp.records.labels import Path

STRAIGHT = np.array([(5, 0), (10, 0), (20, 0)], np.float32)


def test_error_is_read_at_the_travelled_arc_length():
    # 3-4-5: after 2 s the car is at (8, 6) and has driven 10 m; straight ahead it would be at (10, 0)
    truth = Path(times_s=[1, 2], positions_m=[(4, 3), (8, 6)])
    assert path_error_m(STRAIGHT, truth, 2.0) == pytest.approx(np.hypot(2, 6))
    assert path_error_m(STRAIGHT, truth, 1.0) == pytest.approx(np.hypot(1, 3))
    assert path_error_m(STRAIGHT, truth, 3.0) is None


@given(st.floats(0.1, 40))
def test_speed_is_no_error_of_the_path(speed):
    truth = Path(times_s=[1, 2, 3], positions_m=[(speed * t, 0) for t in (1, 2, 3)])
    assert path_error_m(STRAIGHT, truth, 3.0) == pytest.approx(0, abs=1e-4)


def test_a_standing_car_has_no_error():
    assert path_error_m(STRAIGHT, Path(times_s=[1, 2], positions_m=[(0, 0), (0, 0)]), 2.0) == 0


def test_between_and_beyond_points():
    bent = np.array([(10, 0), (10, 10)], np.float32)
    assert point_at(bent, 15).tolist() == [10, 5]
    # beyond its end it goes on straight
    assert point_at(bent, 25).tolist() == [10, 15]
    assert point_at(np.zeros((0, 2), np.float32), 7).tolist() == [7, 0]


def test_times_may_begin_at_zero_and_end_short_by_rounding():
    reached = travelled(Path(times_s=[0, 1, 1.9999], positions_m=[(0, 0), (10, 0), (20, 0)]), 2.0)
    assert reached is not None
    assert reached[1] == pytest.approx(20)
