import numpy as np
import pytest
import torch
from augmentation_fixture import CAMERA_HEIGHT_M, FORWARD_M, FX, HEIGHT, SIZE, WIDTH, make_batch, pipeline, project
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.augmentation.ground import displace, planes_of, recover
from avexp.augmentation.labels import move_points
from avexp.augmentation.operation import Displacement
from avexp.augmentation.pipeline import prepare


def shifted(batch, lateral_m, yaw_rad):
    many = np.full(len(batch), lateral_m), np.full(len(batch), yaw_rad)
    return displace(batch, Displacement(*many, 2.0, 10.0), torch.ones(len(batch), dtype=torch.bool))[0]


def seen_from(points_m, lateral_m, yaw_rad):
    """Points of the recorded vehicle frame in that of a car displaced and turned."""
    x, y = np.asarray(points_m, float).T
    y = y - lateral_m
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.stack([x * cos + y * sin, y * cos - x * sin], 1)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(-0.1, 0.1), st.floats(-0.05, 0.08))
def test_the_ground_is_seen_from_where_the_car_stands(lateral, yaw, pitch):
    metres = np.array([[6.0, 1.5], [8.0, -2.0], [15.0, 0.5], [60.0, 4.0]])
    pose = [CAMERA_HEIGHT_M, pitch, FORWARD_M]
    batch = make_batch(1, lanes=[project(metres, pitch)], camera_pose=pose)
    wanted = project(seen_from(metres, lateral, yaw), pitch)
    assert np.abs(shifted(batch, lateral, yaw).lanes[0, 0].numpy() - wanted).max() < 0.01


def test_what_is_far_away_moves_by_the_turn_alone():
    # 0.05 rad to the left shifts what is straight ahead by f tan(0.05) to the right; no sideways step changes it
    batch = make_batch(1, lanes=[[[160.0, 60.0], [160.0, 50.0]]], camera_pose=[1.4, 0.0, 1.5])
    out = shifted(batch, 0.8, 0.05).lanes[0, 0]
    assert out[:, 0].numpy() == pytest.approx(160 + FX * np.tan(0.05), abs=0.01)
    assert torch.equal(shifted(batch, 0.8, 0.0).lanes, batch.lanes)


def test_both_planes_agree_on_the_horizon():
    batch, one = make_batch(1), torch.tensor([1.0]).double()
    planes = planes_of(batch, one, one * 0.05, torch.tensor([True]))
    row = HEIGHT / 2 - FX * np.tan(0.03)
    points = torch.tensor([[[x, row] for x in (0.0, 100.0, 319.0)]]).double()
    assert torch.allclose(move_points(planes.ground, points), move_points(planes.infinity, points), atol=1e-6)


@pytest.mark.parametrize(("lateral", "yaw"), [(0.6, 0.0), (-0.5, 0.03), (0.0, -0.05)])
def test_a_box_moves_with_its_foot_and_grows_as_it_comes_nearer(lateral, yaw):
    # a board 1.8 m wide and 1.5 m high, square to a level camera
    def box(foot_m):
        (x, y), depth = project([foot_m], 0.0)[0], foot_m[0] - FORWARD_M
        return [x - FX * 0.9 / depth, y - FX * 1.5 / depth, x + FX * 0.9 / depth, y]

    foot = [12.0, 1.0]
    batch = make_batch(1, boxes=[box(foot)], ignore=[box(foot)], camera_pose=[CAMERA_HEIGHT_M, 0.0, FORWARD_M])
    out = shifted(batch, lateral, yaw)
    wanted = box(list(seen_from([foot], lateral, yaw)[0]))
    assert out.boxes[0, 0].tolist() == pytest.approx(wanted, abs=0.01)
    assert out.ignore[0, 0].tolist() == pytest.approx(wanted, abs=0.01)


def test_a_sign_above_the_horizon_keeps_its_size():
    batch = make_batch(1, boxes=[[200.0, 30.0, 220.0, 50.0]], camera_pose=[1.4, 0.0, 1.5])
    assert shifted(batch, 0.5, 0.0).boxes[0, 0].tolist() == pytest.approx([200.0, 30.0, 220.0, 50.0], abs=1e-3)


def test_curvature_steers_back():
    # at 10 m/s the driver looks 20 m ahead: 0.5 m to the left and turned by 0.02 is -2 (0.5 + 0.4) / 400 more
    out = shifted(make_batch(2), 0.5, 0.02)
    assert out.curvature.tolist() == pytest.approx([0.004 - 0.0045] * 2, abs=1e-7)
    slow = shifted(make_batch(1, speed=1.0), 0.5, 0.0)
    assert float(slow.curvature[0]) == pytest.approx(0.004 - 2 * 0.5 / 10**2, abs=1e-7)


@pytest.mark.parametrize(("lateral", "yaw"), [(0.6, 0.0), (0.0, 0.03), (-0.4, 0.02)])
def test_the_path_begins_at_the_car_along_its_heading_bent_as_its_label_and_ends_on_the_recorded_one(lateral, yaw):
    metres = np.arange(1, 1601) * 0.1
    road = np.stack([metres / 10, metres, 0.5 * 0.002 * metres**2], 1)
    batch = make_batch(1, path=road, curvature=0.002)
    path, curvature = recover(batch, *(torch.tensor([value]).double() for value in (lateral, yaw, 20.0)))
    x, y = path[0, :, 1].numpy(), path[0, :, 2].numpy()
    near = x < 3
    bend, slope, start = np.polyfit(x[near], y[near], 2)
    assert start == pytest.approx(0.0, abs=2e-3)
    assert slope == pytest.approx(0.0, abs=2e-3)
    assert 2 * bend == pytest.approx(float(curvature[0]), abs=6e-4)
    far = seen_from(road[-200:, 1:], lateral, yaw)
    assert np.abs(path[0, -200:, 1:].numpy() - far).max() < 2e-3
    assert torch.equal(path[..., 0], batch.path[..., 0].double())


def test_a_car_that_stands_has_a_path_of_one_point():
    out = shifted(make_batch(1, path=[[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]], speed=0.0), 0.5, 0.0)
    assert torch.allclose(out.path[0, :, 1:], torch.zeros(2, 2), atol=1e-6)


@pytest.mark.parametrize(
    "unknown",
    [{"camera_matrix": np.full((3, 3), np.nan)}, {"camera_pose": [1.4, np.nan, 1.5]}, {"speed": np.nan}],
    ids=["matrix", "pose", "speed"],
)
def test_a_frame_of_unknown_camera_or_speed_stays(unknown):
    batch = make_batch(2, **unknown)
    out, plain = pipeline("viewpoint", probability=1.0)(batch, 0, SIZE), prepare(batch, SIZE)
    assert torch.equal(out.lanes, plain.lanes)
    assert torch.equal(out.path, plain.path)
    assert torch.equal(out.curvature, plain.curvature)
    assert float((out.images - plain.images).abs().max()) < 1e-3


def test_the_picture_of_a_side_step_is_that_of_the_other_camera():
    # stripes along the road, drawn for both places: below the horizon they must agree
    def view(lateral):
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
        depth = FX * CAMERA_HEIGHT_M / np.maximum(rows - HEIGHT / 2, 1e-3)
        left = -(columns - WIDTH / 2) * depth / FX + lateral
        grey = 128 + 100 * np.sin(2 * np.pi * left / 2.0)
        return np.repeat(np.where(rows > HEIGHT / 2 + 12, grey, 40).astype(np.uint8)[:, :, None], 3, 2)

    batch = make_batch(4, image=view(0.0), camera_pose=[CAMERA_HEIGHT_M, 0.0, FORWARD_M])
    augment = pipeline("viewpoint", probability=1.0, yaw_max_rad=0.0)
    out = augment(batch, 0, SIZE)
    _, numbers = augment._numbers("viewpoint", batch, 0)
    for image, lateral in zip(out.images, augment.operations["viewpoint"].draw(numbers).lateral_m, strict=True):
        wanted = view(float(lateral))[110:178, 30:290, 0] / 255.0
        assert np.abs(image[0, 110:178, 30:290].numpy() - wanted).mean() < 0.02
