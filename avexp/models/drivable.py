"""Drivable area: one logit a cell of a fine neck level, against rings rasterised on the device."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from avexp.models.head import Geometry, Head, HeadInput, Outputs, Term, masked_bce, output_conv, tower
from avexp.records.batch import Batch

UPSAMPLE = 2


class Drivable(Head):
    """Segmentation head.

    Args:
        shared: what the network tells its heads.
        level: neck level to work on.
        width: channels of its tower.
        depth: convolutions of its tower.
        dice_weight: of the soft Dice loss (Milletari et al. 2016) against cross-entropy's 1.
    """

    task: ClassVar[str] = "drivable"

    def __init__(
        self, shared: HeadInput, level: int = 0, width: int = 16, depth: int = 1, dice_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.level, self.stride, self.dice_weight = level, shared.strides[level], dice_weight
        self.rows, self.columns = shared.size_px[0] // self.stride, shared.size_px[1] // self.stride
        self.tower = tower(shared.channels[level], width, depth, shared)
        self.logit = output_conv(width, 1)

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """mask [B, 1, h, w] logits."""
        return {"mask": self.logit(self.tower(features[self.level]))}

    def encode(self, batch: Batch) -> Outputs:
        """mask [B, 1, h, w] of 0 and 1, labelled [B]."""
        inside = rasterise(batch.rings, self.rows, self.columns, self.stride)
        return {"mask": inside[:, None].float(), "labelled": self.labelled(batch)}

    def loss(self, raw: Outputs, target: Outputs) -> dict[str, Term]:
        """Cross-entropy over the cells of labelled frames, and Dice over frames."""
        seen, logits = target["labelled"][:, None, None, None], raw["mask"].float()
        share, truth = logits.sigmoid(), target["mask"]
        both, either = (share * truth).sum((1, 2, 3)), (share + truth).sum((1, 2, 3))
        dice = (1 - (2 * both + 1) / (either + 1)) * target["labelled"]
        return {
            "cells": masked_bce(logits, truth, seen),
            "dice": Term(dice.sum(), target["labelled"].sum().float(), self.dice_weight),
        }

    def decode(self, raw: Outputs, geometry: Geometry) -> Outputs:
        """drivable uint8 [B, h', w'] of 0 and 1 over the camera image (the padding rows are cut off)."""
        fine = functional.interpolate(raw["mask"], scale_factor=float(UPSAMPLE), mode="bilinear", align_corners=False)
        rows = round(geometry.rows_px * UPSAMPLE / self.stride)
        return {"drivable": (fine[:, 0, :rows] > 0).to(torch.float32).to(torch.uint8)}

    def constants(self, geometry: Geometry) -> dict[str, Any]:
        """Camera pixels per mask cell."""
        return {"drivable_cell_px": self.stride / UPSAMPLE / geometry.scale}


def rasterise(rings: Tensor, rows: int, columns: int, stride: int) -> Tensor:
    """Even-odd rule at the cells' centres, by counting the edges to the right of each.

    Args:
        rings: [B, R, V, 2] px, NaN-padded.
        rows: of the result.
        columns: of the result.
        stride: pixels a cell.

    Returns:
        bool [B, rows, columns].
    """
    if rings.shape[1] == 0 or rings.shape[2] == 0:
        return torch.zeros(rings.shape[0], rows, columns, dtype=torch.bool, device=rings.device)
    known = torch.isfinite(rings).all(-1)
    last = known.sum(-1, keepdim=True)
    following = torch.arange(1, rings.shape[2] + 1, device=rings.device) % last.clamp(min=1)
    end = rings.gather(2, following[..., None].expand(-1, -1, -1, 2))
    y = (torch.arange(rows, device=rings.device) + 0.5) * stride
    x1, y1, x2, y2 = (side.flatten(1)[..., None] for side in (rings[..., 0], rings[..., 1], end[..., 0], end[..., 1]))
    crosses = (y1 <= y) != (y2 <= y)
    crosses &= known.flatten(1)[..., None]
    at_x = x1 + (y - y1) / torch.where(crosses, y2 - y1, torch.ones_like(y1 - y)) * (x2 - x1)
    # edges [B, E, rows]; count, per cell, those that lie to its right: a histogram over columns, summed from the right
    column = torch.ceil(torch.nan_to_num(at_x) / stride - 0.5).clamp(0, columns).long()
    counts = torch.zeros(rings.shape[0], rows, columns + 1, dtype=torch.int32, device=rings.device)
    counts.scatter_add_(2, column.transpose(1, 2), crosses.transpose(1, 2).to(torch.int32))
    right_of = counts.flip(2).cumsum(2).flip(2)[..., 1:]
    return right_of % 2 == 1
