"""Samples -> one Batch: uint8 images as they are, labels padded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avexp.loader.decode import Image
from avexp.loader.sample import Sample, key_hash
from avexp.records.batch import Batch

PAD_INT = -1


def collate(samples: Sequence[Sample], images: Image, pin: bool = False) -> Batch:
    """Labels padded to the longest; the images stay where they are.

    Args:
        samples: B frames.
        images: uint8 [B, H, W, 3]: theirs.
        pin: page-locked memory, for asynchronous copies to a GPU.
    """
    tensors = {name: torch.from_numpy(_pad([sample.arrays[name] for sample in samples])) for name in samples[0].arrays}
    tensors["speed"], tensors["curvature"] = tensors["speed"][:, 0], tensors["curvature"][:, 0]
    tensors["images"] = torch.from_numpy(images)
    sizes = np.array([sample.image_size for sample in samples], np.float32)
    scales = np.zeros((len(samples), 3, 3), np.float32)
    scales[:, 0, 0], scales[:, 1, 1], scales[:, 2, 2] = images.shape[2] / sizes[:, 0], images.shape[1] / sizes[:, 1], 1
    tensors["image_from_camera"], tensors["camera_size"] = torch.from_numpy(scales), torch.from_numpy(sizes)
    if pin:
        tensors = {name: value if value.is_pinned() else value.pin_memory() for name, value in tensors.items()}
    keys = [sample.key for sample in samples]
    return Batch(**tensors, keys=keys, key_hashes=np.array([key_hash(key) for key in keys], np.uint64))


def _pad(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """[B, *largest]; NaN in floats, -1 in integers."""
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return np.array(arrays)
    kind = arrays[0].dtype.kind
    fill = np.nan if kind == "f" else PAD_INT if kind == "i" else False
    padded = np.full((len(arrays), *map(max, zip(*shapes, strict=True))), fill, arrays[0].dtype)
    for row, array in enumerate(arrays):
        if array.ndim == 1:
            padded[row, : len(array)] = array
        else:
            place: tuple[int | slice, ...] = (row, *map(slice, array.shape))
            padded[place] = array
    return padded
