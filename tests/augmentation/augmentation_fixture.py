import numpy as np
import pytest
import torch

from avexp.records.batch import Batch

WIDTH, HEIGHT = 320, 180
FX = 280.0
CAMERA_HEIGHT_M, PITCH_RAD = 1.4, 0.03


def project(points_m):
    """Ground points [P, 2] (x forward, y left) -> camera pixels [P, 2] of the fixture's camera, at the car's origin."""
    points = np.asarray(points_m, float)
    sine, cosine = np.sin(PITCH_RAD), np.cos(PITCH_RAD)
    depth = points[:, 0] * cosine + CAMERA_HEIGHT_M * sine
    down = CAMERA_HEIGHT_M * cosine - points[:, 0] * sine
    return np.stack([WIDTH / 2 - FX * points[:, 1] / depth, HEIGHT / 2 + FX * down / depth], 1)


def make_batch(count=4, dots=None, keys=None):
    """Grey frames with white dots at known places; the dots are the lane's points and the box's corners."""
    dots = np.array([[60.0, 100.0], [150.0, 70.0], [250.0, 120.0]]) if dots is None else np.asarray(dots, float)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    image = np.full((HEIGHT, WIDTH), 60.0)
    for x, y in dots:
        image += 180 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    pixels = np.repeat(image.clip(0, 255).astype(np.uint8)[None, :, :, None], 3, 3).repeat(count, 0)
    boxes = torch.tensor([[[100.0, 60.0, 140.0, 100.0]]]).repeat(count, 1, 1)
    ring = torch.tensor([[[[40.0, 170.0], [140.0, 95.0], [180.0, 95.0], [290.0, 170.0]]]]).repeat(count, 1, 1, 1)
    seconds = torch.arange(1, 9) * 0.5
    path = torch.stack([seconds, seconds * 10, seconds**2 * 0.2], 1)[None].repeat(count, 1, 1)
    matrix = torch.tensor([[FX, 0, WIDTH / 2], [0, FX, HEIGHT / 2], [0, 0, 1.0]])
    names = keys or [f"s/{number:019d}.front" for number in range(count)]
    hashes = np.array([hash_of(name) for name in names], np.uint64)
    return Batch(
        images=torch.from_numpy(pixels),
        image_from_camera=torch.eye(3).repeat(count, 1, 1),
        camera_size=torch.tensor([[float(WIDTH), float(HEIGHT)]]).repeat(count, 1),
        boxes=boxes,
        classes=torch.zeros(count, 1, dtype=torch.int64),
        distances=torch.full((count, 1), 20.0),
        states=torch.full((count, 1), -1),
        ignore=torch.zeros(count, 0, 4),
        lanes=torch.from_numpy(dots.astype(np.float32))[None, None].repeat(count, 1, 1, 1),
        rings=ring,
        path=path,
        curvature=torch.full((count,), 0.004),
        speed=torch.full((count,), 10.0),
        camera_matrix=matrix.repeat(count, 1, 1),
        camera_pose=torch.tensor([[CAMERA_HEIGHT_M, PITCH_RAD, 0.0]]).repeat(count, 1),
        labelled=torch.ones(count, 4, dtype=torch.bool),
        conditions=torch.zeros(count, 3, dtype=torch.int64),
        key_hashes=hashes,
        keys=names,
    )


def hash_of(name):
    from avexp.loader.sample import key_hash

    return key_hash(name)


@pytest.fixture
def batch():
    return make_batch()
