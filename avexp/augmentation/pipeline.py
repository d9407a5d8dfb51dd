"""From the loader's batch to the network's: composed augmentation on the training device, or plain preprocessing.

All geometry of a frame is one matrix and one warp, all colour one matrix; frames whose geometry is the identity or a
plain flip are not interpolated at all. What happens to a frame is a pure function of (seed, epoch, frame key).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avexp.augmentation.labels import clip_boxes, move_boxes, move_points
from avexp.augmentation.operation import Colour, Floats, Geometry, Operation, Pixel
from avexp.augmentation.resize import fit_matrix, fit_rows, resize_to, scale_to_width
from avexp.augmentation.warp import affine_grid, look_up
from avexp.core.counter_random import uniform
from avexp.core.errors import ConfigError
from avexp.records.batch import Batch

__all__ = ["Augmentation", "fit_matrix", "prepare", "resize_to"]
Bools = npt.NDArray[np.bool_]
BYTE = 1.0 / 255.0
_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a batch.

    Attributes:
        matrices: [B, 3, 3], network pixels as fitted -> as augmented.
        colours: [B, 3, 4] of RGB in 0..1.
        coloured: [B] whether colours change.
    """

    matrices: Floats
    colours: Floats
    coloured: Bools

    @staticmethod
    def plain(count: int) -> "Plan":
        """Nothing."""
        return Plan(np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(3, 4), (count, 1, 1)), np.zeros(count, bool))


class Augmentation:
    """Operations in their order, on a batch.

    Args:
        operations: by name; the name is part of what a frame's numbers are drawn from.
        seed: of the run.

    Raises:
        ConfigError: something that is no operation.
    """

    def __init__(self, operations: Mapping[str, Operation], seed: int) -> None:
        wrong = [name for name, operation in operations.items() if not isinstance(operation, Operation)]
        if wrong:
            remedy = "its _target_ must be a class derived from avexp.augmentation.operation"
            raise ConfigError([f"augmentation.{name}: is no operation; {remedy}" for name in wrong])
        self.operations, self.seed = dict(operations), seed

    def __call__(self, batch: Batch, epoch: int, size: tuple[int, int]) -> Batch:
        """An augmented batch.

        Args:
            batch: as the loader gives it.
            epoch: counts from 0.
            size: (height, width) of the network image [px].
        """
        if not self.operations:
            return prepare(batch, size)
        drawn = {name: self._numbers(name, batch, epoch) for name in self.operations}
        with torch.no_grad():
            batch = _apply(batch, self._plan(drawn, len(batch), size), size)
            return replace(batch, images=self._pixels(batch.images, drawn))

    def _numbers(self, name: str, batch: Batch, epoch: int) -> tuple[Bools, Floats]:
        """Which samples an operation changes [B], and its numbers [B, N]."""
        operation = self.operations[name]
        numbers = uniform(1 + operation.numbers, self.seed, "augmentation", name, epoch, batch.key_hashes)
        return numbers[:, 0] < operation.probability, numbers[:, 1:]

    def _plan(self, drawn: dict[str, tuple[Bools, Floats]], count: int, size: tuple[int, int]) -> Plan:
        plan = Plan.plain(count)
        for name, operation in self.operations.items():
            chosen, numbers = drawn[name]
            if isinstance(operation, Geometry):
                matrices = np.where(chosen[:, None, None], operation.draw(numbers, size), np.eye(3))
                plan = replace(plan, matrices=matrices @ plan.matrices)
            elif isinstance(operation, Colour):
                colours = np.where(chosen[:, None, None], operation.draw(numbers), np.eye(3, 4))
                linear = colours[:, :, :3] @ plan.colours
                linear[:, :, 3] += colours[:, :, 3]
                plan = replace(plan, colours=linear, coloured=plan.coloured | chosen)
        return plan

    def _pixels(self, images: Tensor, drawn: dict[str, tuple[Bools, Floats]]) -> Tensor:
        touched = False
        for name, operation in self.operations.items():
            chosen, numbers = drawn[name]
            if isinstance(operation, Pixel) and chosen.any():
                rows = _rows(chosen, images.device)
                images[rows] = operation.apply(images[rows], numbers[chosen])
                touched = True
        return images.clamp_(0.0, 1.0) if touched else images


def prepare(batch: Batch, size: tuple[int, int]) -> Batch:
    """Plain preprocessing, as the exported graph does it.

    Args:
        batch: as the loader gives it.
        size: (height, width) of the network image [px].
    """
    with torch.no_grad():
        return _apply(batch, Plan.plain(len(batch)), size)


def _apply(batch: Batch, plan: Plan, size: tuple[int, int]) -> Batch:
    images = scale_to_width(batch.images.permute(0, 3, 1, 2).float(), size[1])
    images = _coloured(images, plan)
    images = _warped(images, plan.matrices, size)
    fitted = fit_matrix((batch.images.shape[2], batch.images.shape[1]), size)
    device = batch.images.device
    net_from_image = torch.from_numpy(plan.matrices @ fitted).to(device)
    # composed in double precision: the matrices are few, and labels stay exact
    net_from_camera = net_from_image @ batch.image_from_camera.double()
    mirrored = np.linalg.det(plan.matrices[:, :2, :2]) < 0
    return replace(_mapped(batch, net_from_camera, torch.from_numpy(mirrored).to(device), size), images=images)


def _coloured(images: Tensor, plan: Plan) -> Tensor:
    """Float [B, 3, h, w] of 0..255 -> 0..1, colours changed."""
    if not plan.coloured.any():
        return images * BYTE
    matrices = torch.from_numpy(plan.colours).to(images.device, torch.float32)
    matrices[:, :, :3] *= BYTE
    planes = images.unbind(1)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    for channel in range(3):
        r, g, b, offset = matrices[:, channel, :, None, None].unbind(1)
        torch.add(planes[0] * r, offset, out=out[:, channel]).addcmul_(planes[1], g).addcmul_(planes[2], b)
    return out.clamp_(0.0, 1.0)


def _warped(images: Tensor, matrices: Floats, size: tuple[int, int]) -> Tensor:
    """Float [B, 3, h, W] -> [B, 3, H, W]. Only samples that need it are interpolated, so that it never depends on others."""
    flip = np.eye(3)
    flip[0] = -1.0, 0.0, size[1]
    same = (matrices == np.eye(3)).all((1, 2))
    flipped = (matrices == flip).all((1, 2))
    fitted = fit_rows(images, size[0])
    if same.all():
        return fitted.contiguous()
    out = images.new_empty(len(images), 3, *size)
    for chosen, change in ((same, lambda part: part), (flipped, lambda part: part.flip(3))):
        if chosen.any():
            rows = _rows(chosen, images.device)
            out[rows] = change(fitted[rows])
    chosen = ~(same | flipped)
    if chosen.any():
        rows = _rows(chosen, images.device)
        source_from_net = torch.from_numpy(np.linalg.inv(matrices[chosen])).to(images.device, torch.float32)
        out[rows] = look_up(images[rows], affine_grid(source_from_net, size))
    return out


def _rows(chosen: Bools, device: torch.device) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen)).to(device)


def _mapped(batch: Batch, net_from_camera: Tensor, mirrored: Tensor, size: tuple[int, int]) -> Batch:
    """Labels and camera in network pixels."""
    boxes, kept = clip_boxes(move_boxes(net_from_camera, batch.boxes.double()), size)
    ignore, ignored = clip_boxes(move_boxes(net_from_camera, batch.ignore.double()), size)
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
        "ignore": torch.where(ignored[..., None], ignore, torch.nan).float(),
        "lanes": move_points(net_from_camera, batch.lanes.double()).float(),
        "rings": move_points(net_from_camera, batch.rings.double()).float(),
        "path": path,
        "curvature": batch.curvature * sign,
        "image_from_camera": net_from_camera.float(),
        "camera_matrix": (net_from_camera @ batch.camera_matrix.double() @ side).float(),
    }
    return replace(batch, **changed)
