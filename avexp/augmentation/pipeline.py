"""From the loader's batch to the network's: composed augmentation on the training device, or plain preprocessing.

All geometry of a frame is one matrix and one warp, all colour one matrix; frames whose geometry is the identity or a
plain flip are not interpolated at all. What happens to a frame is a pure function of (seed, epoch, frame key).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avexp.augmentation.ground import Planes, displace
from avexp.augmentation.labels import map_labels
from avexp.augmentation.operation import Colour, Displacement, Floats, Geometry, Operation, Perspective, Pixel
from avexp.augmentation.resize import fit_matrix, fit_rows, resize_to, scale_to_width
from avexp.augmentation.warp import look_up, look_up_planes
from avexp.core.counter_random import uniform
from avexp.core.errors import ConfigError
from avexp.records.batch import Batch

__all__ = ["Augmentation", "fit_matrix", "prepare", "resize_to"]
Bools = npt.NDArray[np.bool_]
BYTE = 1.0 / 255.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a batch.

    Attributes:
        matrices: [B, 3, 3], network pixels as fitted -> as augmented.
        colours: [B, 3, 4] of RGB in 0..1.
        coloured: [B] whether colours change.
        displaced: [B] whether the car is displaced; always before the matrices.
        displacement: how.
    """

    matrices: Floats
    colours: Floats
    coloured: Bools
    displaced: Bools
    displacement: Displacement | None = None

    @staticmethod
    def plain(count: int) -> "Plan":
        """Nothing."""
        no = np.zeros(count, bool)
        return Plan(np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(3, 4), (count, 1, 1)), no, no)


class Augmentation:
    """Operations in their order, on a batch.

    Args:
        operations: by name; the name is part of what a frame's numbers are drawn from.
        seed: of the run.

    Raises:
        ConfigError: something that is no operation; two that displace the car.
    """

    def __init__(self, operations: Mapping[str, Operation], seed: int) -> None:
        wrong = [name for name, operation in operations.items() if not isinstance(operation, Operation)]
        if wrong:
            remedy = "its _target_ must be a class derived from avexp.augmentation.operation"
            raise ConfigError([f"augmentation.{name}: is no operation; {remedy}" for name in wrong])
        movers = [name for name, operation in operations.items() if isinstance(operation, Perspective)]
        if len(movers) > 1:
            raise ConfigError(
                [f"augmentation.{movers[1]}: the car is displaced by {movers[0]} already; keep one of them"]
            )
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
            elif isinstance(operation, Perspective):
                plan = replace(plan, displaced=chosen, displacement=operation.draw(numbers))
        return plan

    def _pixels(self, images: Tensor, drawn: dict[str, tuple[Bools, Floats]]) -> Tensor:
        touched = False
        for name, operation in self.operations.items():
            chosen, numbers = drawn[name]
            if isinstance(operation, Pixel) and chosen.any():
                rows = _rows(chosen, images.device)
                images.index_copy_(0, rows, operation.apply(images.index_select(0, rows), numbers[chosen]))
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
    # planes apart, while the pixels are still bytes: all that follows is several times faster on them
    images = scale_to_width(batch.images.permute(0, 3, 1, 2).contiguous().float(), size[1])
    fitted = fit_matrix((batch.images.shape[2], batch.images.shape[1]), size)
    device = batch.images.device
    # composed in double precision: the matrices are few, and labels stay exact
    fitted_from_camera = torch.from_numpy(fitted).to(device) @ batch.image_from_camera.double()
    planes = None
    if plan.displacement is not None and plan.displaced.any():
        batch, planes = displace(batch, plan.displacement, torch.from_numpy(plan.displaced).to(device))
    images = _warped(_coloured(images, plan), plan, planes, fitted_from_camera, size)
    net_from_camera = torch.from_numpy(plan.matrices).to(device) @ fitted_from_camera
    mirrored = torch.from_numpy(np.linalg.det(plan.matrices[:, :2, :2]) < 0).to(device)
    return replace(map_labels(batch, net_from_camera, mirrored, size), images=images)


def _coloured(images: Tensor, plan: Plan) -> Tensor:
    """Float [B, 3, h, w] of 0..255 -> 0..1, colours changed."""
    if not plan.coloured.any():
        return images.mul_(BYTE)
    matrices = torch.from_numpy(plan.colours).to(images.device, torch.float32)
    matrices[:, :, :3] *= BYTE
    planes = images.unbind(1)
    out = torch.empty_like(images)
    for channel in range(3):
        r, g, b, offset = matrices[:, channel, :, None, None].unbind(1)
        torch.add(planes[0] * r, offset, out=out[:, channel]).addcmul_(planes[1], g).addcmul_(planes[2], b)
    return out.clamp_(0.0, 1.0)


def _warped(
    images: Tensor, plan: Plan, planes: Planes | None, fitted_from_camera: Tensor, size: tuple[int, int]
) -> Tensor:
    """Float [B, 3, h, W] -> [B, 3, H, W]. Each sample is copied, flipped or interpolated, whatever the others need."""
    mirror = np.eye(3)
    mirror[0] = -1.0, 0.0, size[1]
    same = (plan.matrices == np.eye(3)).all((1, 2)) & ~plan.displaced
    flipped = (plan.matrices == mirror).all((1, 2)) & ~plan.displaced
    fitted = fit_rows(images, size[0])
    if same.all():
        return fitted.contiguous()
    out = images.new_empty(len(images), 3, *size)
    if same.any():
        rows = _rows(same, images.device)
        out.index_copy_(0, rows, fitted.index_select(0, rows))
    if flipped.any():
        rows = _rows(flipped, images.device)
        out.index_copy_(0, rows, fitted.index_select(0, rows).flip(3))
    source_from_net = torch.from_numpy(np.linalg.inv(plan.matrices)).to(images.device)
    moved = ~(same | flipped | plan.displaced)
    if moved.any():
        rows = _rows(moved, images.device)
        out.index_copy_(0, rows, look_up(images.index_select(0, rows), source_from_net[rows], size))
    if planes is not None:
        rows = _rows(plan.displaced, images.device)
        fit = fitted_from_camera[rows]
        camera_from_net = torch.linalg.inv(fit) @ source_from_net[rows]
        ground, infinity = (fit @ plane[rows] @ camera_from_net for plane in (planes.ground, planes.infinity))
        below = (planes.below[rows, None] @ camera_from_net)[:, 0]
        out.index_copy_(0, rows, look_up_planes(images.index_select(0, rows), ground, infinity, below, size))
    return out


def _rows(chosen: Bools, device: torch.device) -> Tensor:
    return torch.from_numpy(np.flatnonzero(chosen)).to(device)
