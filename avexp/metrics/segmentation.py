"""Drivable area: intersection and union of the predicted cells with the labelled rings."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Labels
from avexp.records.record import Point

Mask = npt.NDArray[np.uint8]

FINENESS = 4
"""Rings are drawn this much finer than the mask: cv2 also fills the border pixels, which would widen them by half a cell."""


def rasterise(rings: Sequence[Sequence[Point]], mask_size: tuple[int, int], image_size: tuple[int, int]) -> Mask:
    """Fill rings under the even-odd rule.

    Args:
        rings: polygons [px of the image]; a ring inside a ring is a hole.
        mask_size: width, height of the result [cells].
        image_size: width, height that the rings refer to [px].

    Returns:
        uint8 [h, w]: 1 where at least half of the cell is inside.
    """
    import cv2

    if not rings:
        return np.zeros((mask_size[1], mask_size[0]), np.uint8)
    fine_size = (mask_size[0] * FINENESS, mask_size[1] * FINENESS)
    scale = np.array([fine_size[0] / image_size[0], fine_size[1] / image_size[1]])
    # a record's pixel centres lie at 0.5, cv2's at whole numbers; 4 fractional bits
    polygons = [np.rint((np.array(ring) * scale - 0.5) * 16).astype(np.int32) for ring in rings]
    fine = np.zeros((fine_size[1], fine_size[0]), np.uint8)
    cv2.fillPoly(fine, polygons, 255, shift=4)
    return np.asarray(cv2.resize(fine, mask_size, interpolation=cv2.INTER_AREA) >= 128).astype(np.uint8)


def true_mask(truth: Labels, sensor: str, mask_size: tuple[int, int], image_size: tuple[int, int]) -> Mask:
    """The labelled drivable area of one camera as a mask [h, w]."""
    rings = [ring for region in truth.drivable if region.sensor == sensor for ring in region.rings]
    return rasterise(rings, mask_size, image_size)


def counted_cells(
    truth: Labels, sensor: str, mask_size: tuple[int, int], image_size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """[h, w]: cells outside the ignore boxes of this task."""
    counted = np.ones((mask_size[1], mask_size[0]), np.bool_)
    for region in truth.ignore:
        if region.sensor == sensor and "drivable" in region.tasks:
            x1, y1, x2, y2 = region.box
            columns = slice(_cell(x1, mask_size[0], image_size[0]), _cell(x2, mask_size[0], image_size[0]))
            counted[_cell(y1, mask_size[1], image_size[1]) : _cell(y2, mask_size[1], image_size[1]), columns] = False
    return counted


def _cell(place_px: float, cells: int, pixels: int) -> int:
    return min(max(round(place_px * cells / pixels), 0), cells)


def iou_counts(predicted: Mask, truth: Labels, sensor: str, image_size: tuple[int, int]) -> tuple[int, int]:
    """Cells of intersection and of union of one frame; IoU over frames is the ratio of their sums.

    Args:
        predicted: uint8 [h, w] of 0 and 1 over the whole image.
        truth: labels with the task "drivable".
        sensor: camera name.
        image_size: width, height [px] of the camera image.
    """
    size = (predicted.shape[1], predicted.shape[0])
    wanted, said = true_mask(truth, sensor, size, image_size) > 0, predicted > 0
    counted = counted_cells(truth, sensor, size, image_size)
    return int((wanted & said & counted).sum()), int(((wanted | said) & counted).sum())
