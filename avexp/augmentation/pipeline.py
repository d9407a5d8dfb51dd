"""The pipeline: preprocessing that evaluation and the exported graph share, and one composed warp for all operations.

Pixel coordinates are continuous: the centre of the first pixel is at 0.5, so that a scale by s maps x to s x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from avexp.augmentation.operation import Colour, Geometry, Numbers, Operation, Pixel, as_tensor
from avexp.augmentation.viewpoint import Shift, Viewpoint, apply_homography, move_labels, shift_of
from avexp.records.batch import Batch

Size = tuple[int, int]
"""(height, width) [px]."""
LEAST_VISIBLE = 0.2
"""A box of which less is left inside the image is dropped."""
LEAST_SIDE_PX = 2.0


def fit_matrix(image_size: tuple[int, int], net_size: Size) -> npt.NDArray[np.float64]:
    """Camera pixels -> network pixels: a uniform scale to the network's width; what is missing below is padding.

    Args:
        image_size: (width, height) [px].
        net_size: (height, width) [px].
    """
    scale = net_size[1] / image_size[0]
    return np.diag([scale, scale, 1.0])


def resize_to(images: Tensor, net_size: Size) -> Tensor:
    """Scale to the network's width, then cut or pad with zeros at the bottom.

    Whole factors average; others are bilinear (area-correct when shrinking): both exist in every inference engine.

    Args:
        images: float [B, 3, h, w].
        net_size: (height, width) [px].
    """
    width = images.shape[3]
    if width != net_size[1]:
        if width % net_size[1] == 0:
            images = functional.avg_pool2d(images, width // net_size[1], ceil_mode=False)
        else:
            rows = round(images.shape[2] * net_size[1] / width)
            steps = max(1, int(width / net_size[1]))
            # averaging first: bilinear alone would skip pixels when it shrinks by two or more
            images = functional.avg_pool2d(images, steps) if steps > 1 else images
            images = functional.interpolate(images, size=(rows, net_size[1]), mode="bilinear", align_corners=False)
    missing = net_size[0] - images.shape[2]
    if missing > 0:
        images = functional.pad(images, (0, 0, 0, missing))
    return images[:, :, : net_size[0]]


def prepare(batch: Batch, size: Size) -> Batch:
    """Plain preprocessing: float images at network size, labels in network pixels. What the exported graph does."""
    pixels = batch.images.permute(0, 3, 1, 2).to(torch.float32) * (1.0 / 255.0)
    scale = size[1] / batch.images.shape[2]
    to_net = torch.diag(torch.tensor([scale, scale, 1.0], device=pixels.device)).expand(len(batch), 3, 3)
    return _mapped(batch, resize_to(pixels, size), to_net @ batch.image_from_camera, size)


def _mapped(batch: Batch, images: Tensor, matrix: Tensor, size: Size) -> Batch:
    """A batch whose labels (in camera pixels) are carried to network pixels."""
    boxes, lost = _map_boxes(matrix, batch.boxes, size)
    ignore, _ = _map_boxes(matrix, batch.ignore, size)
    return replace(
        batch,
        images=images,
        image_from_camera=matrix,
        boxes=boxes,
        classes=torch.where(lost, -1, batch.classes),
        ignore=ignore,
        lanes=apply_homography(matrix, batch.lanes),
        rings=apply_homography(matrix, batch.rings),
        camera_matrix=matrix @ batch.camera_matrix,
    )


def _map_boxes(matrix: Tensor, boxes: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Enclosing boxes of the mapped corners, clipped to the image; NaN and True where too little is left."""
    corners = boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:2], 4, 2)
    mapped = apply_homography(matrix, corners)
    low, high = mapped.amin(2), mapped.amax(2)
    limit = boxes.new_tensor([size[1], size[0]])
    low_in, high_in = torch.minimum(low.clamp(min=0), limit), torch.minimum(high.clamp(min=0), limit)
    sides, whole = high_in - low_in, (high - low).clamp(min=1e-6)
    enough = (sides.prod(-1) >= LEAST_VISIBLE * whole.prod(-1)) & (sides.amin(-1) >= LEAST_SIDE_PX)
    kept = torch.where(enough[..., None], torch.cat([low_in, high_in], -1), torch.nan)
    return kept, ~enough


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a batch."""

    geometry: npt.NDArray[np.float64] | None
    mirrored: npt.NDArray[np.bool_]
    colour: npt.NDArray[np.float64] | None
    pixel: Sequence[tuple[Pixel, npt.NDArray[np.bool_], Numbers]]
    viewpoint: tuple[Tensor, Tensor] | None


class Augmentation:
    """Operations on training batches; a frame's augmentation is a pure function of (seed, epoch, frame key).

    Args:
        operations: by name: the name is part of the key of its numbers.
        seed: of the run.
    """

    def __init__(self, operations: Mapping[str, Operation], seed: int) -> None:
        self.operations, self.seed = dict(operations), seed

    def __call__(self, batch: Batch, epoch: int, size: Size) -> Batch:
        """Float images [B, 3, H, W] in 0..1 at network size, labels in network pixels.

        Args:
            batch: as loaded: uint8 images, labels in camera pixels.
            epoch: from 0.
            size: network (height, width) [px].
        """
        if not self.operations:
            return prepare(batch, size)
        drawn = self._draw(batch, epoch, size)
        still = drawn.geometry is None and drawn.viewpoint is None
        batch = prepare(batch, size) if still else self._warp(batch, drawn, size)
        images = batch.images
        if drawn.colour is not None:
            matrix = as_tensor(drawn.colour, images)
            flat = torch.baddbmm(matrix[:, :, 3:], matrix[:, :, :3], images.flatten(2))
            images = flat.view_as(images)
        for operation, applied, numbers in drawn.pixel:
            if applied.any():
                images = images.clone() if drawn.colour is None else images
                which = torch.from_numpy(np.flatnonzero(applied)).to(images.device)
                images = images.index_copy(0, which, operation.pixels(images[which], numbers[applied]))
        return replace(batch, images=images.clamp(0.0, 1.0))

    def _draw(self, batch: Batch, epoch: int, size: Size) -> Drawn:
        count = len(batch)
        geometry: npt.NDArray[np.float64] | None = None
        colour: npt.NDArray[np.float64] | None = None
        mirrored = np.zeros(count, bool)
        pixel: list[tuple[Pixel, npt.NDArray[np.bool_], Numbers]] = []
        viewpoint: tuple[Tensor, Tensor] | None = None
        for name, operation in self.operations.items():
            applied, numbers = operation.draw(self.seed, epoch, name, batch.key_hashes)
            if isinstance(operation, Geometry):
                step = np.where(applied[:, None, None], operation.matrix(numbers, size), np.eye(3))
                geometry = step if geometry is None else step @ geometry
                mirrored ^= applied & operation.mirrors
            elif isinstance(operation, Colour):
                unchanged = np.eye(3, 4)
                step = np.where(applied[:, None, None], operation.colour(numbers), unchanged)
                colour = step if colour is None else _then(colour, step)
            elif isinstance(operation, Viewpoint):
                viewpoint = operation.amounts(numbers, applied)
            elif isinstance(operation, Pixel):
                pixel.append((operation, applied, numbers))
        return Drawn(geometry, mirrored, colour, pixel, viewpoint)

    def _warp(self, batch: Batch, drawn: Drawn, size: Size) -> Batch:
        scale = size[1] / batch.images.shape[2]
        fit = np.diag([scale, scale, 1.0])
        geometry = np.broadcast_to(np.eye(3), (len(batch), 3, 3)) if drawn.geometry is None else drawn.geometry
        net_from_image = as_tensor(geometry @ fit, batch.image_from_camera)
        matrix = net_from_image @ batch.image_from_camera
        shift = None
        if drawn.viewpoint is not None:
            lateral, yaw = (amount.to(batch.speed.device) for amount in drawn.viewpoint)
            shift = shift_of(batch, lateral, yaw)
            batch = move_labels(batch, shift, lateral, yaw)
        images = warp(batch, matrix, shift, size)
        batch = _mapped(batch, images, matrix, size)
        if drawn.mirrored.any():
            sign = torch.from_numpy(np.where(drawn.mirrored, -1.0, 1.0).astype(np.float32)).to(batch.path.device)
            path = torch.cat([batch.path[..., :2], batch.path[..., 2:] * sign[:, None, None]], -1)
            batch = replace(batch, path=path, curvature=batch.curvature * sign)
        return batch


def _then(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Two affine colour matrices in turn."""
    mixed = second[:, :, :3] @ first
    mixed[:, :, 3] += second[:, :, 3]
    return np.asarray(mixed)


def warp(batch: Batch, net_from_camera: Tensor, shift: Shift | None, size: Size) -> Tensor:
    """Images sampled once through all geometry.

    Args:
        batch: uint8 images.
        net_from_camera: [B, 3, 3].
        shift: of the viewpoint, or None.
        size: network (height, width) [px].

    Returns:
        float [B, 3, H, W] in 0..1; zeros outside the camera's image.
    """
    height, width = batch.images.shape[1:3]
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).view(3, -1).to(net_from_camera.device)
    camera = torch.linalg.inv(net_from_camera) @ pixels
    if shift is not None:
        on_ground = torch.einsum("bk,bkn->bn", shift.down, camera)[:, None] > 0
        camera = torch.where(on_ground, shift.ground @ camera, shift.far @ camera)
    source = batch.image_from_camera @ camera
    place = source[:, :2] / source[:, 2:].clamp(min=1e-6)
    limits = torch.tensor([width, height], device=place.device, dtype=place.dtype)[None, :, None]
    grid = (place / limits * 2 - 1).view(len(batch), 2, *size).permute(0, 2, 3, 1)
    images = batch.images.permute(0, 3, 1, 2).to(torch.float32) * (1.0 / 255.0)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
