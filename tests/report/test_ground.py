import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.report.ground import GroundCamera, ribbon

MATRIX = np.array([[500, 0, 320], [0, 500, 180], [0, 0, 1]], np.float32)


def test_a_point_on_the_ground_by_hand():
    # 1.5 m above ground, 10 m ahead of the camera, 1 m left: 500 * 1.5 / 10 below the horizon, 500 / 10 left of the middle
    camera = GroundCamera(MATRIX, height_m=1.5, forward_m=2.0)
    assert camera.project([(12, 1)]) == pytest.approx(np.array([[270, 255]]))
    # behind the camera: nothing
    assert camera.project([(1, 0), (-5, 0)]).shape == (0, 2)


@given(st.floats(-0.1, 0.1))
def test_the_horizon_rises_by_the_tangent_of_the_pitch(pitch):
    far = GroundCamera(MATRIX, 1.5, pitch).project([(1e7, 0)])
    assert far[0, 1] == pytest.approx(180 - 500 * np.tan(pitch), abs=1e-2)


def test_unknown_cameras_are_not_usable():
    assert GroundCamera(MATRIX, 1.5).usable
    assert not GroundCamera(MATRIX * np.nan, 1.5).usable


def test_a_ribbon_runs_beside_the_path():
    left, right = ribbon([(5, 0), (10, 0)], width_m=2)
    assert left[:, 1] == pytest.approx(1)
    assert right[:, 1] == pytest.approx(-1)
    assert left[:, 0] == pytest.approx(np.arange(11))
    assert ribbon([(0, 0)], 2)[0].shape == (0, 2)
