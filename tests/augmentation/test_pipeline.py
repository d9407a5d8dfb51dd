from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from augmentation_fixture import HEIGHT, WIDTH, make_batch, project
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.augmentation.pipeline import Augmentation, fit_matrix, prepare, resize_to
from avexp.augmentation.viewpoint import apply_homography
from avexp.core.instantiate import build

SIZE = (192, 320)
CONF = Path(__file__).resolve().parents[2] / "conf" / "augmentation"
OPERATIONS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("none", "standard"))


def operation(name, **changes):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())[name]
    return build({**node, **changes}, name)


def pipeline(*names, seed=1, **changes):
    return Augmentation({name: operation(name, **changes) for name in names}, seed)


def brightest(image, near):
    """Centre of the blob nearest to a point, by weights over a window [px]."""
    x, y = round(float(near[0]) - 0.5), round(float(near[1]) - 0.5)
    x0, y0 = max(0, x - 6), max(0, y - 6)
    window = image[0, y0 : y + 7, x0 : x + 7].numpy().astype(float)
    weight = np.clip(window - np.median(window) - 0.02, 0, None)
    rows, columns = np.mgrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "viewpoint"])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_labels_follow_the_picture(name, epoch):
    out = pipeline(name, probability=1.0)(make_batch(), epoch, SIZE)
    for image, line in zip(out.images, out.lanes[:, 0], strict=True):
        for point in line:
            if 8 < point[0] < SIZE[1] - 8 and 8 < point[1] < 172:
                assert np.abs(brightest(image, point) - point.numpy()).max() < 0.6


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_does_something_and_leaves_no_nan_in_images(name):
    plain, out = prepare(make_batch(), SIZE), pipeline(name, probability=1.0)(make_batch(), 0, SIZE)
    assert out.images.shape == (4, 3, *SIZE)
    assert float((out.images - plain.images).abs().max()) > 0.01
    assert torch.isfinite(out.images).all()
    assert float(out.images.min()) >= 0
    assert float(out.images.max()) <= 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_frame_knows_nothing_of_its_batch(name):
    augment = pipeline(name)
    whole = augment(make_batch(6), 3, SIZE)
    names = [f"s/{number:019d}.front" for number in range(6)]
    for picked in ([2], [0, 1], [5, 4, 3, 2, 1, 0]):
        part = augment(make_batch(len(picked), keys=[names[index] for index in picked]), 3, SIZE)
        for field in ("images", "boxes", "lanes", "rings", "path", "curvature", "image_from_camera"):
            mine, theirs = getattr(part, field), getattr(whole, field)[picked]
            assert torch.equal(torch.nan_to_num(mine), torch.nan_to_num(theirs)), field


def test_epochs_seeds_and_names_differ():
    first = pipeline("translation", probability=1.0)(make_batch(), 0, SIZE).lanes
    assert not torch.equal(first, pipeline("translation", probability=1.0)(make_batch(), 1, SIZE).lanes)
    assert not torch.equal(first, pipeline("translation", probability=1.0, seed=2)(make_batch(), 0, SIZE).lanes)


def test_flip_mirrors_everything():
    plain, out = prepare(make_batch(), SIZE), pipeline("flip", probability=1.0)(make_batch(), 0, SIZE)
    assert torch.allclose(out.images[:, :, :180], plain.images.flip(3)[:, :, :180], atol=1e-5)
    assert torch.allclose(out.boxes[0, 0], torch.tensor([180.0, 60.0, 220.0, 100.0]), atol=1e-3)
    assert torch.allclose(out.path[..., 2], -plain.path[..., 2])
    assert torch.allclose(out.curvature, -plain.curvature)


@pytest.mark.parametrize("name", ["translation", "scale", "shear", "rotation", "crop"])
def test_moving_the_image_keeps_the_metric_path(name):
    batch = make_batch()
    out = pipeline(name, probability=1.0)(batch, 0, SIZE)
    assert torch.equal(out.path, batch.path)
    assert torch.equal(out.curvature, batch.curvature)


@pytest.mark.parametrize("name", ["translation", "scale", "shear", "rotation", "crop", "flip"])
def test_boxes_enclose_their_mapped_corners(name):
    out = pipeline(name, probability=1.0)(make_batch(), 0, SIZE)
    corners = torch.tensor([[[100.0, 60.0], [140.0, 60.0], [140.0, 100.0], [100.0, 100.0]]]).repeat(4, 1, 1)
    mapped = apply_homography(out.image_from_camera, corners)
    kept = torch.isfinite(out.boxes[:, 0]).all(1)
    wanted = torch.cat([mapped.amin(1), mapped.amax(1)], 1)
    wanted = torch.minimum(wanted.clamp(min=0), torch.tensor([320.0, 192.0, 320.0, 192.0]))
    assert torch.allclose(out.boxes[kept, 0], wanted[kept], atol=1e-3)


def test_a_box_pushed_out_is_dropped():
    batch = replace(make_batch(1), boxes=torch.tensor([[[0.0, 60.0, 10.0, 100.0]]]))
    moved = Augmentation({"t": operation("translation", x_share=0.5, probability=1.0)}, 1)
    classes = {
        epoch: (int(moved(batch, epoch, SIZE).classes[0, 0]), moved(batch, epoch, SIZE).image_from_camera[0, 0, 2])
        for epoch in range(8)
    }
    for kept, shift in classes.values():
        assert (kept == -1) == (float(shift) < -8.0)


def test_matrices_compose_in_the_order_of_the_config():
    one, two = operation("rotation", probability=1.0), operation("translation", probability=1.0)
    both = Augmentation({"rotation": one, "translation": two}, 1)(make_batch(), 0, SIZE)
    first = Augmentation({"rotation": one}, 1)(make_batch(), 0, SIZE)
    second = Augmentation({"translation": two}, 1)(make_batch(), 0, SIZE)
    assert torch.allclose(both.image_from_camera, second.image_from_camera @ first.image_from_camera, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(64, 2000), st.integers(64, 1200))
def test_the_network_sees_the_whole_width(width, height):
    corner = fit_matrix((width, height), SIZE) @ np.array([width, 0, 1])
    assert corner[0] == pytest.approx(SIZE[1])
    images = torch.zeros(1, 3, height, width)
    assert resize_to(images, SIZE).shape == (1, 3, *SIZE)


def test_preparing_pads_below_and_averages_whole_factors():
    batch = make_batch(1)
    out = prepare(batch, SIZE)
    assert not out.images[:, :, 180:].any()
    assert torch.allclose(out.images[0, 0, :180], batch.images[0, :, :, 0] / 255.0)
    big = torch.arange(16.0).view(1, 1, 4, 4).repeat(1, 3, 1, 1)
    assert resize_to(big, (2, 2))[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def ground_batch(count=3):
    """Dots on the ground, seen by the fixture's camera."""
    metres = np.array([[8.0, 1.5], [12.0, -1.5], [16.0, 0.5]])
    return make_batch(count, dots=project(metres)), metres


def test_a_shifted_viewpoint_sees_the_ground_from_where_it_stands():
    batch, metres = ground_batch()
    shift = operation("viewpoint", probability=1.0)
    out = Augmentation({"viewpoint": shift}, 1)(batch, 0, SIZE)
    applied, numbers = shift.draw(1, 0, "viewpoint", batch.key_hashes)
    lateral, yaw = shift.amounts(numbers, applied)
    for index in range(3):
        d, turn = float(lateral[index]), float(yaw[index])
        moved = metres - [0, d]
        cos, sin = np.cos(turn), np.sin(turn)
        wanted = project(np.stack([moved[:, 0] * cos + moved[:, 1] * sin, -moved[:, 0] * sin + moved[:, 1] * cos], 1))
        assert np.abs(out.lanes[index, 0].numpy() - wanted).max() < 0.01
        for point in out.lanes[index, 0]:
            if 8 < point[0] < SIZE[1] - 8 and point[1] < 172:
                assert np.abs(brightest(out.images[index], point) - point.numpy()).max() < 0.8


def test_a_shifted_viewpoint_leads_back_to_the_path():
    batch = make_batch(3)
    shift = operation("viewpoint", probability=1.0)
    out = Augmentation({"viewpoint": shift}, 1)(batch, 0, SIZE)
    lateral, yaw = shift.amounts(*reversed(shift.draw(1, 0, "viewpoint", batch.key_hashes)))
    reach = 20.0  # 10 m/s for two seconds
    wanted = batch.curvature - 2 * (lateral + reach * yaw) / reach**2
    assert torch.allclose(out.curvature, wanted)
    late = out.path[:, -1, 1:]
    back = batch.path[:, -1, 1:] - torch.stack([torch.zeros(3), lateral], 1)
    cos, sin = yaw.cos(), yaw.sin()
    assert torch.allclose(late[:, 1], -back[:, 0] * sin + back[:, 1] * cos, atol=1e-4)
    assert float(out.path[:, 0, 2].abs().max()) < 0.6, "it begins at the car, not at the old path"


def test_unknown_cameras_are_not_shifted():
    batch = replace(make_batch(2), camera_matrix=torch.full((2, 3, 3), torch.nan))
    out = pipeline("viewpoint", probability=1.0)(batch, 0, SIZE)
    assert torch.allclose(out.lanes, prepare(batch, SIZE).lanes)


def test_every_field_keeps_its_batch():
    batch = make_batch()
    out = pipeline("flip", "scale", "color", "blur", "noise", "viewpoint")(batch, 0, SIZE)
    for field in fields(batch):
        assert len(getattr(out, field.name)) == 4
    assert WIDTH == 320
    assert HEIGHT == 180
