"""A batch of frames with padded raw labels: what the loader hands out and augmentation, heads and metrics take in.

Axes: B batch, H W image, M objects, I ignore boxes, L lanes, P points, R rings, V vertices, T times.
Padding is NaN in floats, -1 in integers. Labels are in pixels of the image space that ``net_from_camera`` maps to:
camera pixels as loaded, network pixels once augmented.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Frames and labels.

    Attributes:
        images: uint8 [B, H, W, 3] RGB as decoded; float32 [B, 3, H, W] in 0..1 at network size once prepared.
        image_from_camera: float32 [B, 3, 3], camera pixels -> pixels of ``images``.
        camera_size: float32 [B, 2], width and height of the full camera image [px].
        boxes: float32 [B, M, 4], x1 y1 x2 y2.
        classes: int64 [B, M], index into the dataset's object classes.
        distances: float32 [B, M] [m], NaN where unknown.
        states: int64 [B, M], light state, -1 where none.
        ignore: float32 [B, I, 4], boxes that count neither way.
        lanes: float32 [B, L, P, 2], polylines near to far.
        rings: float32 [B, R, V, 2], drivable area under the even-odd rule.
        path: float32 [B, T, 3], time [s], x, y [m] in the vehicle frame.
        curvature: float32 [B] [1/m], NaN where unknown.
        speed: float32 [B] [m/s], NaN where unknown.
        camera_matrix: float32 [B, 3, 3], K of ``images``' camera [px], NaN where unknown.
        camera_pose: float32 [B, 3]: height above ground [m], pitch down [rad], forward offset [m]; NaN where unknown.
        labelled: bool [B, 4], by task in the order of records.labels.TASKS.
        conditions: int64 [B, 3], light, weather, road in the order of their enums.
        key_hashes: uint64 NumPy [B], a pure function of the frame key: the seed of its augmentation.
        keys: frame keys ``<session>/<timestamp_ns>.<sensor>``.
    """

    images: Tensor
    image_from_camera: Tensor
    camera_size: Tensor
    boxes: Tensor
    classes: Tensor
    distances: Tensor
    states: Tensor
    ignore: Tensor
    lanes: Tensor
    rings: Tensor
    path: Tensor
    curvature: Tensor
    speed: Tensor
    camera_matrix: Tensor
    camera_pose: Tensor
    labelled: Tensor
    conditions: Tensor
    key_hashes: npt.NDArray[np.uint64]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on a device; copies are asynchronous where the memory is pinned."""
        moved: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Tensor):
                moved[part.name] = value.to(device, non_blocking=True)
        return replace(self, **moved)
