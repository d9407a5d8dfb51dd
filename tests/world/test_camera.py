import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.core.errors import DataError
from avexp.records.session import Extrinsics, Intrinsics, Sensor
from avexp.world.camera import FORWARD, Camera, clip_near, quaternion_of, rig, rotation_of


def level_camera(height_m=1.5):
    matrix = ((500.0, 0.0, 320.0), (0.0, 500.0, 180.0), (0.0, 0.0, 1.0))
    inside = Intrinsics(width_px=640, height_px=360, camera_matrix=matrix)
    outside = Extrinsics(translation_m=(0.0, 0.0, height_m), rotation_wxyz=quaternion_of(FORWARD))
    return Camera.from_sensor(Sensor(name="front", kind="camera", intrinsics=inside, extrinsics=outside))


def test_level_camera_projects_by_similar_triangles():
    camera = level_camera()
    # 10 m ahead, 1 m to the left, on the ground: 500 * 1 / 10 px to the left, 500 * 1.5 / 10 px below the horizon
    pixels, depth = camera.project(np.array([[10.0, 1.0, 0.0]]))
    assert pixels[0] == pytest.approx([320 - 50, 180 + 75])
    assert depth[0] == pytest.approx(10)
    assert camera.horizon_px == pytest.approx(180)


def test_pitch_down_lifts_the_horizon():
    assert level_camera().pitched(0.1).horizon_px == pytest.approx(180 - 500 * math.tan(0.1))


def test_clip_keeps_what_is_ahead():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 2], [0, 0, 2]])
    clipped = clip_near(square, 1.0)
    assert sorted(map(tuple, clipped.tolist())) == [(0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2)]
    assert len(clip_near(square, 3.0)) == 0
    assert clip_near(square, -1.0) is square


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_quaternion_and_matrix_are_inverse(yaw, pitch, roll):
    def turn(axis, angle):
        matrix = np.eye(3)
        i, j = [k for k in range(3) if k != axis]
        matrix[[i, j], [i, j]] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
        return matrix

    rotation = turn(2, yaw) @ turn(1, pitch) @ turn(0, roll)
    assert rotation_of(quaternion_of(rotation)) == pytest.approx(rotation, abs=1e-9)


def test_rig_looks_where_its_names_say():
    cameras = {s.name: Camera.from_sensor(s) for s in rig(5, 640, 360, 0.03, 0.0, 2.0)}
    assert cameras["front"].yaw_rad == pytest.approx(0)
    assert cameras["front_left"].yaw_rad == pytest.approx(math.radians(55))
    assert abs(cameras["rear"].yaw_rad) == pytest.approx(math.pi)
    assert all(c.horizon_px == pytest.approx(180 - c.fy * math.tan(0.03)) for c in cameras.values())
    with pytest.raises(DataError, match="choose 1 to 5"):
        rig(6, 640, 360, 0.0, 0.0, 2.0)


def test_camera_needs_a_matrix():
    with pytest.raises(DataError, match="sensor front: has no camera matrix"):
        Camera.from_sensor(Sensor(name="front", kind="camera"))
