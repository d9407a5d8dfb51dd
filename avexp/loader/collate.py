"""Samples -> one Batch: uint8 images as they are, labels padded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avexp.core.errors import DataError
from avexp.loader.sample import Sample, key_hash
from avexp.records.batch import Batch

PAD_INT = -1


def collate(samples: Sequence[Sample], pin: bool = False) -> Batch:
    """Stack and pad.

    Args:
        samples: B frames whose decoded images have one size.
        pin: page-locked memory, for asynchronous copies to a GPU.

    Raises:
        DataError: images of several sizes.
    """
    sizes = {sample.image.shape for sample in samples}
    if len(sizes) > 1:
        odd = next(sample for sample in samples if sample.image.shape != samples[0].image.shape)
        what = f"image is {odd.image.shape[1]}x{odd.image.shape[0]}, others of the batch are "
        what += f"{samples[0].image.shape[1]}x{samples[0].image.shape[0]}"
        raise DataError(odd.key, what, "train on one camera model at a time (data.sensor) or ingest to one size")
    padded = {name: _pad([sample.arrays[name] for sample in samples]) for name in samples[0].arrays}
    tensors = {name: torch.from_numpy(value) for name, value in padded.items()}
    tensors["speed"], tensors["curvature"] = tensors["speed"][:, 0], tensors["curvature"][:, 0]
    tensors["images"] = torch.from_numpy(np.stack([sample.image for sample in samples]))
    tensors["image_from_camera"] = torch.from_numpy(np.stack([_scale(sample) for sample in samples]))
    tensors["camera_size"] = torch.tensor([sample.image_size for sample in samples], dtype=torch.float32)
    if pin:
        tensors = {name: value.pin_memory() for name, value in tensors.items()}
    keys = [sample.key for sample in samples]
    return Batch(**tensors, keys=keys, key_hashes=np.array([key_hash(key) for key in keys], np.uint64))


def _scale(sample: Sample) -> npt.NDArray[np.float32]:
    height, width = sample.image.shape[:2]
    full_width, full_height = sample.image_size
    return np.diag([width / full_width, height / full_height, 1.0]).astype(np.float32)


def _pad(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """[B, *largest]; NaN in floats, -1 in integers."""
    shape = tuple(max(array.shape[axis] for array in arrays) for axis in range(arrays[0].ndim))
    fill = np.nan if arrays[0].dtype.kind == "f" else PAD_INT if arrays[0].dtype.kind == "i" else False
    padded = np.full((len(arrays), *shape), fill, arrays[0].dtype)
    for row, array in enumerate(arrays):
        place: tuple[int | slice, ...] = (row, *(slice(0, length) for length in array.shape))
        padded[place] = array
    return padded
