from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch
from augmentation_fixture import (
    CONF,
    GEOMETRY,
    HEIGHT,
    OPERATIONS,
    SIZE,
    WIDTH,
    make_batch,
    operation,
    pipeline,
    same,
    take,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.augmentation.pipeline import Augmentation, fit_matrix, prepare
from avexp.core.errors import ConfigError


def blob_near(image, point):
    """Centre of the bright blob around a point, by its weights."""
    x0, y0 = max(0, round(float(point[0])) - 8), max(0, round(float(point[1])) - 8)
    window = image[0, y0 : y0 + 16, x0 : x0 + 16].numpy().astype(float)
    weight = np.clip(window - np.median(window) - 0.15, 0, None)
    rows, columns = np.mgrid[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]] + 0.5
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("name", OPERATIONS)
def test_labels_follow_the_picture(name):
    batch, seen = make_batch(8), 0
    out = pipeline(name, probability=1.0)(batch, 0, SIZE)
    for image, lane in zip(out.images, out.lanes[:, 0], strict=True):
        for point in lane.numpy():
            if 10 < point[0] < SIZE[1] - 10 and 10 < point[1] < SIZE[0] - 22:
                # over the ground a blob is stretched, and its centre with it
                assert np.abs(blob_near(image, point) - point).max() < (0.5 if name == "viewpoint" else 0.15)
                seen += 1
    assert seen > 25


def covered(ring, size, fine=8):
    """Share of each pixel that a ring covers: drawn enlarged, since fillPoly paints the outline too, and averaged."""
    large = np.zeros((size[0] * fine, size[1] * fine), np.float32)
    cv2.fillPoly(large, [np.round(ring * fine - 0.5).astype(np.int32)], 1.0)
    return large.reshape(size[0], fine, size[1], fine).mean((1, 3))


@pytest.mark.parametrize("name", [*GEOMETRY, "viewpoint"])
def test_a_drivable_ring_covers_the_warped_mask(name):
    ring = np.array([[40.0, 170.0], [140.0, 105.0], [180.0, 105.0], [290.0, 170.0]])
    image = np.repeat((covered(ring, (HEIGHT, WIDTH)) * 255).astype(np.uint8)[:, :, None], 3, 2)
    out = pipeline(name, probability=1.0)(make_batch(6, image=image, rings=[ring]), 0, SIZE)
    for warped, moved in zip(out.images, out.rings[:, 0].numpy(), strict=True):
        mask, truth = warped[0].numpy() > 0.5, covered(moved, SIZE) > 0.5
        assert (mask & truth).sum() / (mask | truth).sum() > 0.97


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_box_encloses_the_moved_rectangle(name):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[60:100, 130:190] = 255
    out = pipeline(name, probability=1.0)(make_batch(6, image=image, boxes=[[130.0, 60.0, 190.0, 100.0]]), 0, SIZE)
    for warped, box in zip(out.images, out.boxes[:, 0].numpy(), strict=True):
        rows, columns = np.nonzero(warped[0].numpy() > 0.5)
        found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        # the tips of a turned rectangle are thinner than a pixel
        assert np.abs(np.array(found) - box).max() < 1.6


@pytest.mark.parametrize("names", [[name] for name in OPERATIONS] + [OPERATIONS], ids="+".join)
def test_a_frame_knows_nothing_of_its_batch(names):
    augment, batch = pipeline(*names), make_batch(8)
    whole = augment(batch, 3, SIZE)
    for rows in ([2], [5], [0, 1], [7, 6, 5, 4, 3, 2, 1, 0]):
        part = augment(take(batch, rows), 3, SIZE)
        for field in fields(batch):
            value = getattr(whole, field.name)
            if isinstance(value, torch.Tensor):
                assert same(getattr(part, field.name), value[rows]), field.name


@pytest.mark.parametrize("name", OPERATIONS)
def test_epochs_seeds_and_frames_differ(name):
    batch = make_batch(2)
    first = pipeline(name, probability=1.0)(batch, 0, SIZE).images
    others = [
        pipeline(name, probability=1.0)(batch, 1, SIZE).images,
        pipeline(name, probability=1.0, seed=2)(batch, 0, SIZE).images,
        first.flip(0),
    ]
    assert first.shape == (2, 3, *SIZE)
    assert first.dtype == torch.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert torch.isfinite(first).all()
    assert all(torch.equal(first, other) == (name == "flip") for other in others)


@pytest.mark.parametrize("name", OPERATIONS)
def test_probability_is_the_share_of_frames(name):
    batch = make_batch(200, image=np.zeros((9, 16, 3), np.uint8))
    augment = pipeline(name, probability=0.3)
    chosen, _ = augment._numbers(name, batch, 0)
    assert 0.2 < chosen.mean() < 0.4
    nothing = pipeline(name, probability=0.0)(make_batch(2), 0, SIZE)
    assert same(nothing.images, prepare(make_batch(2), SIZE).images)


def test_a_flip_mirrors_everything():
    batch = make_batch(2)
    plain, out = prepare(batch, SIZE), pipeline("flip", probability=1.0)(batch, 0, SIZE)
    assert torch.equal(out.images, plain.images.flip(3))
    assert out.boxes[0, 0].tolist() == [180.0, 60.0, 220.0, 100.0]
    assert torch.equal(out.path[..., 2], -plain.path[..., 2])
    assert torch.equal(out.path[..., :2], plain.path[..., :2])
    assert torch.equal(out.curvature, -plain.curvature)
    assert torch.allclose(out.lanes[..., 0], 320 - plain.lanes[..., 0])
    # a point to the right of the mirrored camera is seen at the mirrored place
    right, mirrored = torch.tensor([2.0, 1.0, 10.0]), torch.tensor([-2.0, 1.0, 10.0])
    seen, mirror_seen = plain.camera_matrix[0] @ right, out.camera_matrix[0] @ mirrored
    assert float(mirror_seen[0] / mirror_seen[2]) == pytest.approx(320 - float(seen[0] / seen[2]), abs=1e-3)
    assert float(out.camera_matrix[0, 0, 0]) > 0


def test_two_flips_are_none():
    batch = make_batch(3)
    flips = {"one": operation("flip", probability=1.0), "two": operation("flip", probability=1.0)}
    twice, plain = Augmentation(flips, 1)(batch, 0, SIZE), prepare(batch, SIZE)
    for field in fields(batch):
        value = getattr(plain, field.name)
        if isinstance(value, torch.Tensor):
            assert same(getattr(twice, field.name), value), field.name


@pytest.mark.parametrize("name", sorted(set(GEOMETRY) - {"flip"}))
def test_moving_the_image_keeps_the_metric_path(name):
    batch = make_batch()
    out = pipeline(name, probability=1.0)(batch, 0, SIZE)
    assert torch.equal(out.path, batch.path)
    assert torch.equal(out.curvature, batch.curvature)
    assert torch.equal(out.camera_pose, batch.camera_pose)
    assert torch.allclose(out.camera_matrix, out.image_from_camera @ batch.camera_matrix, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.permutations(GEOMETRY), st.integers(0, 1000), st.integers(0, 50))
def test_matrices_compose_in_the_order_of_the_config(names, seed, epoch):
    batch = make_batch(2, image=np.zeros((9, 16, 3), np.uint8))
    size = (9, 16)
    both = pipeline(*names, seed=seed)(batch, epoch, size).image_from_camera
    fitted = torch.from_numpy(fit_matrix((16, 9), size)).float() @ batch.image_from_camera
    product = fitted
    for name in names:
        alone = pipeline(name, seed=seed)(batch, epoch, size).image_from_camera
        product = alone @ torch.linalg.inv(fitted) @ product
    assert torch.allclose(both, product, atol=1e-4)


def test_plain_preprocessing_is_exact():
    batch = make_batch(2, ignore=[[10.0, 20.0, 30.0, 40.0]])
    out = prepare(batch, SIZE)
    assert torch.equal(out.images[:, :, :180], batch.images.permute(0, 3, 1, 2).float() * (1.0 / 255.0))
    assert not out.images[:, :, 180:].any()
    assert torch.equal(out.lanes, batch.lanes)
    assert torch.equal(out.boxes, batch.boxes)
    assert out.ignore[0, 0].tolist() == [10.0, 20.0, 30.0, 40.0]
    assert same(Augmentation({}, 1)(batch, 0, SIZE).images, out.images)


def test_labels_of_a_camera_of_another_size_end_in_network_pixels():
    # 640x360 as recorded, decoded at half of that
    batch = make_batch(
        1, camera_size=[640, 360], image_from_camera=np.diag([0.5, 0.5, 1.0]), boxes=[[100, 50, 200, 90]]
    )
    out = prepare(batch, SIZE)
    assert out.boxes[0, 0].tolist() == [50.0, 25.0, 100.0, 45.0]
    assert out.image_from_camera[0].tolist() == [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]
    assert float(out.camera_matrix[0, 0, 0]) == 140.0


def test_black_stays_black_where_there_is_no_picture():
    out = pipeline("color", probability=1.0)(make_batch(8), 0, SIZE)
    assert not out.images[:, :, 180:].any()


def test_the_batch_given_is_left_as_it_was():
    batch = make_batch(4)
    pipeline(*OPERATIONS, probability=1.0)(batch, 0, SIZE)
    fresh = make_batch(4)
    assert all(
        same(getattr(batch, field.name).float(), getattr(fresh, field.name).float())
        for field in fields(batch)
        if isinstance(getattr(batch, field.name), torch.Tensor)
    )


def test_frames_without_labels_pass():
    empty = {"boxes": np.zeros((0, 4)), "lanes": np.zeros((0, 0, 2)), "rings": np.zeros((0, 0, 2))}
    batch = make_batch(2, **empty, path=np.zeros((0, 3)), curvature=np.nan, speed=np.nan)
    out = pipeline(*OPERATIONS, probability=1.0)(batch, 0, SIZE)
    assert out.boxes.shape == (2, 0, 4)
    assert out.path.shape == (2, 0, 3)
    assert torch.isnan(out.curvature).all()


def test_what_is_no_operation_is_refused():
    with pytest.raises(ConfigError, match="flip: is no operation"):
        Augmentation({"flip": object()}, 1)
    with pytest.raises(ConfigError, match="displaced by one already"):
        Augmentation({"one": operation("viewpoint"), "two": operation("viewpoint")}, 1)


def test_the_standard_set_names_operations_that_exist():
    lines = (CONF / "standard.yaml").read_text().splitlines()
    named = [line.removeprefix("  - ") for line in lines if line.startswith("  - ")]
    assert named
    assert set(named) <= set(OPERATIONS)
