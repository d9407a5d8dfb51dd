"""A camera displaced over flat ground: where its pixels lie in the recorded image, and what becomes of the labels.

Ground: H = K (R + t n^T / h) K^-1; infinitely far: K R K^-1 (Hartley and Zisserman 2004, 13.1), with n down in camera
axes. Axes: B samples, M boxes, T times; vehicle frame x forward, y left. All in double precision.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from avexp.augmentation.labels import move_points
from avexp.augmentation.operation import Displacement
from avexp.records.batch import Batch


@dataclass(frozen=True, slots=True)
class Planes:
    """Recorded camera pixels from those of the displaced camera.

    Attributes:
        ground: [B, 3, 3]; its third row gives the depth in the recorded view over that in the displaced one.
        infinity: [B, 3, 3].
        below: [B, 3], the horizon as a line of either view, positive below it.
    """

    ground: Tensor
    infinity: Tensor
    below: Tensor


def displace(batch: Batch, displacement: Displacement, chosen: Tensor) -> tuple[Batch, Planes]:
    """Labels as the displaced car has them, in camera pixels, and where its picture comes from.

    Args:
        batch: as loaded.
        displacement: of each sample.
        chosen: bool [B]; the others stay, and so do those whose camera is unknown, or whose speed, if a path depends on it.
    """
    finite = torch.isfinite(batch.camera_matrix).flatten(1).all(1) & torch.isfinite(batch.camera_pose).all(1)
    no_path = ~torch.isfinite(batch.path).flatten(1).any(1) & ~torch.isfinite(batch.curvature)
    chosen = chosen & finite & (torch.isfinite(batch.speed) | no_path)
    device = batch.camera_matrix.device
    lateral_m = torch.where(chosen, torch.from_numpy(displacement.lateral_m).to(device), 0.0)
    yaw_rad = torch.where(chosen, torch.from_numpy(displacement.yaw_rad).to(device), 0.0)
    length_m = (torch.nan_to_num(batch.speed.double()) * displacement.recovery_s).clamp(min=displacement.recovery_min_m)
    planes = planes_of(batch, lateral_m, yaw_rad, chosen)
    path, curvature = recover(batch, lateral_m, yaw_rad, length_m)
    moved = {
        "boxes": _move_boxes(planes, batch.boxes.double()),
        "ignore": _move_boxes(planes, batch.ignore.double()),
        "lanes": _move_points(planes, batch.lanes.double()),
        "rings": _move_points(planes, batch.rings.double()),
        "path": path,
        "curvature": curvature,
    }
    changed: dict[str, Any] = {}
    for name, value in moved.items():
        before = getattr(batch, name)
        changed[name] = torch.where(chosen.view(-1, *[1] * (before.ndim - 1)), value.to(before.dtype), before)
    return replace(batch, **changed), planes


def planes_of(batch: Batch, lateral_m: Tensor, yaw_rad: Tensor, known: Tensor) -> Planes:
    """Homographies of a displacement.

    Args:
        batch: with camera_matrix [px] and camera_pose.
        lateral_m: [B] to the left.
        yaw_rad: [B] to the left, about the vehicle's origin.
        known: bool [B] whether matrix and pose are; the identity where not.
    """
    eye = torch.eye(3, dtype=torch.float64, device=lateral_m.device)
    camera = torch.where(known[:, None, None], batch.camera_matrix.double(), eye)
    unit = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, device=lateral_m.device)
    height, pitch, forward = torch.where(known[:, None], batch.camera_pose.double(), unit).unbind(1)
    zero, one = torch.zeros_like(pitch), torch.ones_like(pitch)
    # rows: camera's right, down and forward in vehicle axes
    axes = torch.stack([zero, -one, zero, -pitch.sin(), zero, -pitch.cos(), pitch.cos(), zero, -pitch.sin()], 1).view(
        -1, 3, 3
    )
    cos, sin = yaw_rad.cos(), yaw_rad.sin()
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
    offset = torch.stack([forward * (cos - 1), lateral_m + forward * sin, zero], 1)
    down = -axes[:, :, 2]
    rotation = axes @ turn @ axes.transpose(1, 2)
    shift = (axes @ offset[:, :, None]) @ down[:, None, :] / height[:, None, None]
    rays = torch.linalg.inv(camera)
    return Planes(camera @ (rotation + shift) @ rays, camera @ rotation @ rays, (down[:, None, :] @ rays)[:, 0])


def _is_ground(planes: Planes, points: Tensor) -> Tensor:
    """bool [B, ...] whether points [B, ..., 2] lie below the horizon."""
    below = planes.below.view(-1, *[1] * (points.ndim - 2), 3)
    return (points * below[..., :2]).sum(-1) + below[..., 2] > 0


def _move_points(planes: Planes, points: Tensor) -> Tensor:
    on_ground = _is_ground(planes, points)[..., None]
    ground, infinity = torch.linalg.inv(planes.ground), torch.linalg.inv(planes.infinity)
    return torch.where(on_ground, move_points(ground, points), move_points(infinity, points))


def _move_boxes(planes: Planes, boxes: Tensor) -> Tensor:
    """A box moves with its foot, the middle of its lower side, and grows as that comes nearer."""
    sides = boxes[..., 2:] - boxes[..., :2]
    foot = torch.stack([(boxes[..., 0] + boxes[..., 2]) / 2, boxes[..., 3]], -1)
    nearer = torch.linalg.inv(planes.ground)[:, 2]
    depth = (foot * nearer[:, None, :2]).sum(-1) + nearer[:, None, 2]
    growth = torch.where(_is_ground(planes, foot), 1.0 / depth.clamp(min=0.2), torch.ones_like(depth))
    x, y = _move_points(planes, foot).unbind(-1)
    width, height = (sides * growth[..., None]).unbind(-1)
    return torch.stack([x - width / 2, y - height, x + width / 2, y], -1)


def recover(batch: Batch, lateral_m: Tensor, yaw_rad: Tensor, length_m: Tensor) -> tuple[Tensor, Tensor]:
    """Path and curvature of a driver who comes back from a displacement.

    He steers as pure pursuit does, at curvature -2 (e + L e') / L^2 against the recorded path. Linearised, his offset
    over the arc length s is then e(s) = exp(-s/L) (d cos(s/L) + (d + L yaw) sin(s/L)).

    Args:
        batch: as loaded.
        lateral_m: d, [B] to the left.
        yaw_rad: [B] to the left.
        length_m: L, [B].

    Returns:
        path [B, T, 3] in the displaced car's frame, curvature [B] [1/m].
    """
    path = batch.path.double()
    points = torch.cat([torch.zeros_like(path[:, :1, 1:]), path[..., 1:]], 1)
    steps = points[:, 1:] - points[:, :-1]
    travelled = torch.linalg.vector_norm(steps, dim=-1).cumsum(1)
    ahead = torch.cat([steps[:, 1:], steps[:, -1:]], 1)
    along = steps + torch.where(torch.isfinite(ahead), ahead, steps)
    still = torch.linalg.vector_norm(along, dim=-1, keepdim=True) < 1e-6
    along = torch.where(still, along.new_tensor([1.0, 0.0]), along)
    left = torch.stack([-along[..., 1], along[..., 0]], -1) / torch.linalg.vector_norm(along, dim=-1, keepdim=True)
    d, yaw, length = lateral_m[:, None], yaw_rad[:, None], length_m[:, None]
    share = travelled / length
    offset = torch.exp(-share) * (d * share.cos() + (d + length * yaw) * share.sin())
    x, y = (path[..., 1:] + offset[..., None] * left).unbind(-1)
    y = y - d
    turned = [path[..., 0], x * yaw.cos() + y * yaw.sin(), y * yaw.cos() - x * yaw.sin()]
    curvature = batch.curvature.double() - 2 * (lateral_m + length_m * yaw_rad) / length_m**2
    return torch.stack(turned, -1), curvature
