import numpy as np
import pytest
import torch

from avexp.records.batch import Batch

CAMERA = np.array([[400.0, 0.0, 320.0], [0.0, 400.0, 170.0], [0.0, 0.0, 1.0]])
NAN = float("nan")


def make_batch(count=1, images=None, full=(640, 360), **labels):
    """Frames of a 640x360 camera, decoded at half size unless images are given; labels in camera pixels."""
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (count, 180, 320, 3), dtype=np.uint8)
    count = len(images)
    scale = np.diag([images.shape[2] / full[0], images.shape[1] / full[1], 1.0])

    def rows(name, default):
        value = torch.as_tensor(np.asarray(labels.get(name, default), np.float32))
        return value.expand(count, *value.shape).clone()

    boxes = rows("boxes", np.zeros((0, 4)))
    number = boxes.shape[1]
    return Batch(
        images=torch.from_numpy(images),
        image_from_camera=torch.from_numpy(np.tile(scale, (count, 1, 1))).float(),
        camera_size=torch.tensor([full] * count).float(),
        boxes=boxes,
        classes=torch.zeros(count, number, dtype=torch.int64),
        distances=torch.full((count, number), 20.0),
        states=torch.full((count, number), -1),
        ignore=rows("ignore", np.zeros((0, 4))),
        lanes=rows("lanes", np.zeros((0, 2, 2))),
        rings=rows("rings", np.zeros((0, 3, 2))),
        path=rows("path", [[0.5, 5.0, 0.1], [1.0, 10.0, 0.4], [NAN, NAN, NAN]]),
        curvature=rows("curvature", 0.008),
        speed=rows("speed", 10.0),
        camera_matrix=rows("camera_matrix", CAMERA),
        camera_pose=rows("camera_pose", [1.4, 0.02, 1.5]),
        labelled=torch.ones(count, 4, dtype=torch.bool),
        conditions=torch.zeros(count, 3, dtype=torch.int64),
        key_hashes=np.arange(100, 100 + count, dtype=np.uint64) * np.uint64(7919),
        keys=[f"s/{index:019d}.front" for index in range(count)],
    )


@pytest.fixture
def batch():
    return make_batch(
        6,
        boxes=[[100.0, 100.0, 180.0, 160.0], [300.0, 200.0, 420.0, 300.0], [NAN] * 4],
        ignore=[[20.0, 40.0, 90.0, 100.0]],
        lanes=[[[200.0, 350.0], [280.0, 220.0], [NAN, NAN]]],
        rings=[[[150.0, 355.0], [480.0, 355.0], [340.0, 190.0], [300.0, 190.0]]],
    )


def take(batch, index):
    """The same frames in another order or number."""
    from dataclasses import fields, replace

    index = list(index)
    changed = {f.name: getattr(batch, f.name)[index] for f in fields(batch) if f.name != "keys"}
    return replace(batch, **changed, keys=[batch.keys[i] for i in index])
