"""Labels follow the pixels: boxes, lanes and rings through matrices; a mirrored image mirrors the path.

Axes: B samples, M boxes. Missing values are NaN and stay so.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avexp.records.batch import Batch

VISIBLE_MIN_SHARE = 0.2
"""A box of which less remains within the image is dropped."""
SIDE_MIN_PX = 2.0
"""So is one whose remainder is narrower or lower."""


def move_points(matrices: Tensor, points: Tensor) -> Tensor:
    """Points through homographies.

    Args:
        matrices: [B, 3, 3].
        points: [B, ..., 2].

    Returns:
        [B, ..., 2].
    """
    flat = points.reshape(len(points), -1, 2)
    x, y = flat[..., 0], flat[..., 1]
    a, b, c = (
        matrices[:, row, 0, None] * x + (matrices[:, row, 1, None] * y + matrices[:, row, 2, None]) for row in range(3)
    )
    # a point that comes to lie behind the camera goes far to its side instead
    depth = c.clamp(min=1e-3)
    return torch.stack([a / depth, b / depth], -1).reshape(points.shape)


def move_boxes(matrices: Tensor, boxes: Tensor) -> Tensor:
    """Enclosing boxes of the moved corners.

    Args:
        matrices: [B, 3, 3].
        boxes: [B, M, 4] x1 y1 x2 y2.

    Returns:
        [B, M, 4], not clipped.
    """
    corners = torch.stack([boxes[..., [0, 1]], boxes[..., [2, 1]], boxes[..., [2, 3]], boxes[..., [0, 3]]], 2)
    moved = move_points(matrices, corners)
    return torch.cat([moved.amin(2), moved.amax(2)], -1)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes within the image.

    Args:
        boxes: [B, M, 4].
        size: (height, width) of the image [px].

    Returns:
        clipped [B, M, 4], and bool [B, M] whether enough of each remains.
    """
    limit = torch.tensor([size[1], size[0]], device=boxes.device, dtype=boxes.dtype)
    low, high = boxes[..., :2], boxes[..., 2:]
    clipped_low = torch.minimum(low.clamp(min=0), limit)
    clipped_high = torch.minimum(high.clamp(min=0), limit)
    sides = clipped_high - clipped_low
    share = sides.prod(-1) / (high - low).prod(-1).clamp(min=1e-9)
    kept = (share >= VISIBLE_MIN_SHARE) & (sides >= SIDE_MIN_PX).all(-1)
    return torch.cat([clipped_low, clipped_high], -1), kept


def map_labels(batch: Batch, net_from_camera: Tensor, mirrored: Tensor, size: tuple[int, int]) -> Batch:
    """Labels and camera in network pixels.

    What remains of a dropped box becomes an ignore box: too little to be learned, too much to be called background.

    Args:
        batch: labels in camera pixels.
        net_from_camera: float64 [B, 3, 3].
        mirrored: bool [B] whether it mirrors.
        size: (height, width) of the network image [px].
    """
    boxes, kept = clip_boxes(move_boxes(net_from_camera, batch.boxes.double()), size)
    ignore, _ = clip_boxes(move_boxes(net_from_camera, torch.cat([batch.ignore, batch.boxes], 1).double()), size)
    sides = ignore[..., 2:] - ignore[..., :2]
    seen = (sides > 0).all(-1)
    seen[:, batch.ignore.shape[1] :] &= ~kept
    sign = torch.where(mirrored, -1.0, 1.0)
    # in a mirrored world the camera looks as before: focal lengths stay positive, the principal point moves
    side = torch.diag_embed(torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], 1)).double()
    path = batch.path.clone()
    path[..., 2] *= sign[:, None]
    changed: dict[str, Any] = {
        "boxes": torch.where(kept[..., None], boxes, torch.nan).float(),
        "classes": torch.where(kept, batch.classes, -1),
        "distances": torch.where(kept, batch.distances, torch.nan),
        "states": torch.where(kept, batch.states, -1),
        "ignore": torch.where(seen[..., None], ignore, torch.nan).float(),
        "lanes": move_points(net_from_camera, batch.lanes.double()).float(),
        "rings": move_points(net_from_camera, batch.rings.double()).float(),
        "path": path,
        "curvature": batch.curvature * sign,
        "image_from_camera": net_from_camera.float(),
        "camera_matrix": (net_from_camera @ batch.camera_matrix.double() @ side).float(),
    }
    return replace(batch, **changed)
