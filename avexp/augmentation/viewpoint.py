"""Viewpoint shift: the car displaced and turned, its image, labels and path with it.

Source: the shifted cameras of Bojarski et al. 2016 (end-to-end driving), as two homographies: ground for pixels below the
horizon, infinitely far for those above. Valid for small shifts on flat ground; standing things bend at the horizon.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avexp.augmentation.operation import Numbers, Operation, between
from avexp.records.batch import Batch

RETURN_S = 2.0
"""The driver is back on the path after this time [s]."""
LEAST_RETURN_M = 12.0


@dataclass(frozen=True)
class Shift:
    """Where the displaced camera's pixels lie in the recorded image, all in camera pixels.

    Attributes:
        ground: [B, 3, 3], for rays that meet the ground.
        far: [B, 3, 3], for the others.
        down: [B, 3]: a pixel's ray meets the ground where this row times the pixel is positive.
        moved: bool [B]: frames that are displaced at all.
    """

    ground: Tensor
    far: Tensor
    down: Tensor
    moved: Tensor


class Viewpoint(Operation):
    """Displaces the car sideways and turns it; frames of unknown cameras stay as they are.

    Args:
        lateral_m: largest displacement [m], either way.
        yaw_rad: largest turn [rad], either way.
        probability: of a frame.
    """

    numbers = 2

    def __init__(self, lateral_m: float = 0.6, yaw_rad: float = 0.03, probability: float = 0.5) -> None:
        super().__init__(probability)
        self.lateral_m, self.yaw_rad = lateral_m, yaw_rad

    def amounts(self, numbers: Numbers, applied: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Displacement [m], positive to the left, and turn [rad], positive to the left; [B] each."""
        lateral = between(numbers[:, 0], -self.lateral_m, self.lateral_m) * applied
        yaw = between(numbers[:, 1], -self.yaw_rad, self.yaw_rad) * applied
        return torch.from_numpy(lateral.astype(np.float32)), torch.from_numpy(yaw.astype(np.float32))


def shift_of(batch: Batch, lateral_m: Tensor, yaw_rad: Tensor) -> Shift:
    """Homographies of a displacement; identity where the camera is unknown.

    Args:
        batch: with camera_matrix and camera_pose.
        lateral_m: [B].
        yaw_rad: [B].
    """
    known = torch.isfinite(batch.camera_matrix).flatten(1).all(1) & torch.isfinite(batch.camera_pose).all(1)
    eye = torch.eye(3).expand(len(batch), 3, 3)
    matrix = torch.where(known[:, None, None], batch.camera_matrix, eye)
    height, pitch, forward = torch.where(known[:, None], batch.camera_pose, torch.ones(3)).unbind(1)
    zero, one = torch.zeros_like(pitch), torch.ones_like(pitch)
    right = torch.stack([zero, -one, zero], 1)
    below = torch.stack([-pitch.sin(), zero, -pitch.cos()], 1)
    ahead = torch.stack([pitch.cos(), zero, -pitch.sin()], 1)
    axes = torch.stack([right, below, ahead], 2)
    cos, sin = yaw_rad.cos(), yaw_rad.sin()
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
    rays = turn @ axes @ torch.linalg.inv(matrix)
    back = matrix @ axes.transpose(1, 2)
    # the displaced camera against the recorded one; a ray meets the ground where it points down
    offset = torch.stack([forward * cos - forward, forward * sin + lateral_m, zero], 1)
    down = torch.tensor([0.0, 0.0, -1.0])
    lifted = height[:, None, None] * torch.eye(3) + offset[:, :, None] * down
    moved = known & ((lateral_m != 0) | (yaw_rad != 0))
    pick = moved[:, None, None]
    return Shift(
        ground=torch.where(pick, back @ lifted @ rays, eye),
        far=torch.where(pick, back @ rays, eye),
        down=torch.einsum("j,bjk->bk", down, rays),
        moved=moved,
    )


def move_labels(batch: Batch, shift: Shift, lateral_m: Tensor, yaw_rad: Tensor) -> Batch:
    """Labels in camera pixels as the displaced camera sees them, and the path that leads back.

    Lanes and rings lie on the ground. A box moves with its foot and grows with its width there.
    """
    inverse = torch.linalg.inv(shift.ground)
    pick = shift.moved
    boxes = torch.where(pick[:, None, None], _move_boxes(inverse, batch.boxes), batch.boxes)
    ignore = torch.where(pick[:, None, None], _move_boxes(inverse, batch.ignore), batch.ignore)
    path, curvature = _move_path(batch, lateral_m, yaw_rad)
    return replace(
        batch,
        boxes=boxes,
        ignore=ignore,
        lanes=torch.where(pick[:, None, None, None], apply_homography(inverse, batch.lanes), batch.lanes),
        rings=torch.where(pick[:, None, None, None], apply_homography(inverse, batch.rings), batch.rings),
        path=torch.where(pick[:, None, None], path, batch.path),
        curvature=torch.where(pick, curvature, batch.curvature),
    )


def apply_homography(matrix: Tensor, points: Tensor) -> Tensor:
    """Points [B, ..., 2] by matrices [B, 3, 3]; points behind the camera become NaN."""
    flat = points.reshape(points.shape[0], -1, 2)
    mapped = torch.cat([flat, torch.ones_like(flat[..., :1])], -1) @ matrix.transpose(1, 2)
    depth = mapped[..., 2:]
    return torch.where(depth > 1e-6, mapped[..., :2] / depth, torch.nan).reshape(points.shape)


def _move_boxes(inverse: Tensor, boxes: Tensor) -> Tensor:
    left = apply_homography(inverse, boxes[..., [0, 3]])
    right = apply_homography(inverse, boxes[..., [2, 3]])
    width = (boxes[..., 2] - boxes[..., 0]).clamp(min=1e-3)
    growth = ((right[..., 0] - left[..., 0]) / width).clamp(0.5, 2.0)
    bottom = (left[..., 1] + right[..., 1]) / 2
    top = bottom - (boxes[..., 3] - boxes[..., 1]) * growth
    return torch.stack([left[..., 0], top, right[..., 0], bottom], -1)


def _move_path(batch: Batch, lateral_m: Tensor, yaw_rad: Tensor) -> tuple[Tensor, Tensor]:
    """The path in the displaced car's frame, bent so that it begins at the car and is back after RETURN_S."""
    d, turn = lateral_m[:, None], yaw_rad[:, None]
    x, y = batch.path[..., 1], batch.path[..., 2] - d
    x_new, y_new = x * turn.cos() + y * turn.sin(), -x * turn.sin() + y * turn.cos()
    reach = (torch.nan_to_num(batch.speed, nan=10.0) * RETURN_S).clamp(min=LEAST_RETURN_M)[:, None]
    share = (x_new / reach).clamp(0.0, 1.0)
    fade = 1 - share**2 * (3 - 2 * share)
    y_new = y_new - (-d - turn * x_new) * fade
    # pure pursuit towards the path, linearised
    curvature = batch.curvature - 2 * (lateral_m + reach[:, 0] * yaw_rad) / reach[:, 0] ** 2
    return torch.stack([batch.path[..., 0], x_new, y_new], -1), curvature
