"""One warp for all geometry: every output pixel looks up its place in the source image once.

Axes: A samples to warp, H W output, h w source. Coordinates have the first pixel's centre at 0.5.
"""

import torch
from torch import Tensor
from torch.nn import functional


def pixel_centres(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """x [1, 1, W] and y [1, H, 1] of the pixels' centres.

    Args:
        size: (height, width) [px].
        device: to make them on.
    """
    y = torch.arange(size[0], device=device, dtype=torch.float32) + 0.5
    x = torch.arange(size[1], device=device, dtype=torch.float32) + 0.5
    return x[None, None, :], y[None, :, None]


def _row(matrices: Tensor, row: int, x: Tensor, y: Tensor) -> Tensor:
    """[A, H, W]: one row of each matrix times (x, y, 1)."""
    a, b, c = (matrices[:, row, column, None, None] for column in range(3))
    # the sums of one axis each are small: only one pass goes over all pixels
    return a * x + (b * y + c)


def affine_grid(source_from_net: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each output pixel lies in the source.

    Args:
        source_from_net: [A, 3, 3], affine.
        size: (height, width) of the output [px].

    Returns:
        [A, H, W, 2] source pixels.
    """
    x, y = pixel_centres(size, source_from_net.device)
    grid = source_from_net.new_empty(len(source_from_net), *size, 2)
    for axis in range(2):
        grid[..., axis] = _row(source_from_net, axis, x, y)
    return grid


def two_plane_grid(ground: Tensor, infinity: Tensor, below: Tensor, size: tuple[int, int]) -> Tensor:
    """Where each output pixel lies in the source, by the ground's homography below the horizon, the sky's above.

    Args:
        ground: [A, 3, 3] source from output pixels of points on the ground.
        infinity: [A, 3, 3] of points infinitely far away.
        below: [A, 3] the horizon as a line, positive below.
        size: (height, width) of the output [px].

    Returns:
        [A, H, W, 2] source pixels.
    """
    x, y = pixel_centres(size, ground.device)
    on_ground = _row(below[:, None], 0, x, y) > 0
    planes = [torch.where(on_ground, _row(ground, row, x, y), _row(infinity, row, x, y)) for row in range(3)]
    # behind the camera there is no picture: such a pixel is looked up far outside
    depth = torch.where(planes[2] > 1e-6, planes[2], torch.full_like(planes[2], 1e-6))
    return torch.stack([planes[0] / depth, planes[1] / depth], -1)


def look_up(images: Tensor, grid: Tensor) -> Tensor:
    """Bilinear values at source pixels; black outside.

    Args:
        images: float32 [A, C, h, w].
        grid: [A, H, W, 2] source pixels.

    Returns:
        [A, C, H, W].
    """
    size = torch.tensor([images.shape[3], images.shape[2]], device=grid.device, dtype=grid.dtype)
    # without align_corners, -1 and 1 are the outer edges of the image: pixel x lies at 2 x / w - 1
    return functional.grid_sample(images, grid * (2.0 / size) - 1.0, "bilinear", "zeros", align_corners=False)
