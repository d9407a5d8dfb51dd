"""One warp for all geometry: every output pixel looks up its place in the source image once.

Axes: A samples to warp, H W output, h w source. Coordinates have the first pixel's centre at 0.5.
"""

import torch
from torch import Tensor
from torch.nn import functional


def look_up(images: Tensor, source_from_net: Tensor, size: tuple[int, int]) -> Tensor:
    """Images through affine matrices; bilinear, black outside.

    Args:
        images: float32 [A, C, h, w].
        source_from_net: float64 [A, 3, 3], output pixels -> source pixels.
        size: (height, width) of the output [px].

    Returns:
        [A, C, H, W].
    """
    x, y = _centres(size, images.device)
    grid = images.new_empty(len(images), *size, 2)
    matrices = _normalised(images, source_from_net)
    for axis in range(2):
        grid[..., axis] = _row(matrices, axis, x, y)
    return _sample(images, grid)


def look_up_planes(images: Tensor, ground: Tensor, infinity: Tensor, below: Tensor, size: tuple[int, int]) -> Tensor:
    """Images through two homographies: one below the horizon, one above.

    Args:
        images: float32 [A, C, h, w].
        ground: float64 [A, 3, 3], output -> source pixels of points on the ground.
        infinity: float64 [A, 3, 3], of points infinitely far away.
        below: float64 [A, 3], the horizon as a line of the output, positive below.
        size: (height, width) of the output [px].

    Returns:
        [A, C, H, W].
    """
    x, y = _centres(size, images.device)
    low, high = _normalised(images, ground), _normalised(images, infinity)
    on_ground = _row(below[:, None].float(), 0, x, y) > 0
    planes = [torch.where(on_ground, _row(low, row, x, y), _row(high, row, x, y)) for row in range(3)]
    # behind the camera there is no picture: such a pixel is looked up far outside
    depth = planes[2].clamp(min=1e-6)
    return _sample(images, torch.stack([planes[0] / depth, planes[1] / depth], -1))


def _centres(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """x [1, 1, W] and y [1, H, 1] of the pixels' centres."""
    y = torch.arange(size[0], device=device, dtype=torch.float32) + 0.5
    x = torch.arange(size[1], device=device, dtype=torch.float32) + 0.5
    return x[None, None, :], y[None, :, None]


def _normalised(images: Tensor, matrices: Tensor) -> Tensor:
    """Matrices whose results have -1 and 1 at the outer edges of the image, as grid_sample wants them."""
    edges = torch.eye(3, dtype=torch.float64, device=images.device)
    edges[0, 0], edges[1, 1] = 2.0 / images.shape[3], 2.0 / images.shape[2]
    edges[:2, 2] = -1.0
    return (edges @ matrices).float()


def _row(matrices: Tensor, row: int, x: Tensor, y: Tensor) -> Tensor:
    """[A, H, W]: one row of each matrix times (x, y, 1)."""
    a, b, c = (matrices[:, row, column, None, None] for column in range(3))
    # the sums of one axis each are small: only one pass goes over all pixels
    return a * x + (b * y + c)


def _sample(images: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
