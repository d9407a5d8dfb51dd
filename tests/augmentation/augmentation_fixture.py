from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from avexp.augmentation.pipeline import Augmentation
from avexp.core.counter_random import hash64
from avexp.core.instantiate import build
from avexp.records.batch import Batch

WIDTH, HEIGHT = 320, 180
SIZE = (192, 320)
FX = 280.0
CAMERA_HEIGHT_M, PITCH_RAD, FORWARD_M = 1.4, 0.03, 1.5
MATRIX = np.array([[FX, 0, WIDTH / 2], [0, FX, HEIGHT / 2], [0, 0, 1.0]])
CONF = Path(__file__).resolve().parents[2] / "conf" / "augmentation"
OPERATIONS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("none", "standard"))
GEOMETRY = ["crop", "flip", "rotation", "scale", "shear", "translation"]
DOTS = [[60.0, 120.0], [110.0, 150.0], [160.0, 110.0], [210.0, 135.0], [90.0, 40.0], [230.0, 30.0]]


def project(points_m, pitch=PITCH_RAD):
    """Ground points [P, 2] (x forward, y left) of the vehicle frame -> pixels [P, 2] of the fixture's camera."""
    points = np.asarray(points_m, float)
    sine, cosine, ahead = np.sin(pitch), np.cos(pitch), points[:, 0] - FORWARD_M
    depth = ahead * cosine + CAMERA_HEIGHT_M * sine
    down = CAMERA_HEIGHT_M * cosine - ahead * sine
    return np.stack([WIDTH / 2 - FX * points[:, 1] / depth, HEIGHT / 2 + FX * down / depth], 1)


def picture(dots):
    """A grey frame with white dots."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    image = np.full((HEIGHT, WIDTH), 60.0)
    for x, y in dots:
        image += 180 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, 2)


def make_batch(count=4, image=None, **labels):
    """The same frame under several keys: dots that are the points of its lane. Labels replace the defaults."""
    image = picture(DOTS) if image is None else image
    defaults = {
        "boxes": [[100.0, 60.0, 140.0, 100.0]],
        "ignore": np.zeros((0, 4)),
        "lanes": [DOTS],
        "rings": [[[40.0, 170.0], [140.0, 105.0], [180.0, 105.0], [290.0, 170.0]]],
        "path": [[t, 10 * t, 0.2 * t**2] for t in np.arange(1, 9) * 0.5],
        "curvature": 0.004,
        "speed": 10.0,
        "camera_matrix": MATRIX,
        "camera_pose": [CAMERA_HEIGHT_M, PITCH_RAD, FORWARD_M],
        "image_from_camera": np.diag([image.shape[1] / WIDTH, image.shape[0] / HEIGHT, 1.0]),
        "camera_size": [WIDTH, HEIGHT],
    }
    tensors = {}
    for name, default in defaults.items():
        value = torch.from_numpy(np.asarray(labels.get(name, default), np.float32))
        tensors[name] = value.expand(count, *value.shape).clone()
    number = tensors["boxes"].shape[1]
    return Batch(
        **tensors,
        images=torch.from_numpy(image).expand(count, *image.shape).clone(),
        classes=torch.zeros(count, number, dtype=torch.int64),
        distances=torch.full((count, number), 20.0),
        states=torch.full((count, number), -1),
        labelled=torch.ones(count, 4, dtype=torch.bool),
        conditions=torch.zeros(count, 3, dtype=torch.int64),
        key_hashes=hash64("frame", np.arange(count, dtype=np.uint64)),
        keys=[f"s/{number:019d}.front" for number in range(count)],
    )


def take(batch, rows):
    """These frames of a batch, in this order."""
    rows = list(rows)
    parts = {part.name: getattr(batch, part.name)[rows] for part in fields(batch) if part.name != "keys"}
    return replace(batch, **parts, keys=[batch.keys[row] for row in rows])


def operation(name, **changes):
    """As its yaml has it, but for the changes."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())[name]
    return build({**node, **changes}, name)


def pipeline(*names, seed=1, **changes):
    return Augmentation({name: operation(name, **changes) for name in names}, seed)


def same(mine, theirs):
    """Equal to the last bit, NaN where NaN."""
    return torch.equal(torch.isnan(mine), torch.isnan(theirs)) and torch.equal(
        torch.nan_to_num(mine), torch.nan_to_num(theirs)
    )
