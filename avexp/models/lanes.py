"""Lanes: for each slot (place seen from the car) and image row, a distribution over columns whose mean is the lane's x.

Source: row-wise lane detection (Qin et al. 2020, Ultra Fast Lane Detection), here fully convolutional. A lane map (is there
any lane in this cell?) is trained beside it, for post-processing that clusters pixels instead (postprocess.ClusteredLanes).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from avexp.models.head import Geometry, Head, HeadInput, Outputs, Term, masked_bce, output_conv, tower
from avexp.records.batch import Batch

SLOTS = (-2, -1, 1, 2)
"""Left of the left boundary, left boundary, right boundary, right of it."""
ABSENT = -1e4


class Lanes(Head):
    """Row-wise head.

    Args:
        shared: what the network tells its heads.
        level: neck level: its rows and columns are the head's.
        width: channels of its tower.
        depth: convolutions of its tower.
        offset_weight: of the L1 loss on x (in cells) against the cross-entropy's 1.
        exist_weight: of the existence loss.
        map_weight: of the lane map's loss.
    """

    task: ClassVar[str] = "lanes"

    def __init__(
        self,
        shared: HeadInput,
        level: int = 1,
        width: int = 32,
        depth: int = 2,
        offset_weight: float = 0.5,
        exist_weight: float = 1.0,
        map_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.level, self.stride, self.size_px = level, shared.strides[level], shared.size_px
        self.rows, self.columns = shared.size_px[0] // self.stride, shared.size_px[1] // self.stride
        self.weights = {"place": 1.0, "offset": offset_weight, "exist": exist_weight, "map": map_weight}
        self.tower = tower(shared.channels[level], width, depth, shared)
        self.place = output_conv(width, len(SLOTS), bias=None)  # a softmax would not see it, and it would wander
        self.exist = output_conv(width, len(SLOTS))
        self.map = output_conv(width, 1, -3.0)
        columns = torch.arange(self.columns) + 0.5
        self.register_buffer("column_x", columns.view(1, 1, 1, -1), persistent=False)
        self.column_x: Tensor

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """place [B, S, R, columns] logits, exist [B, S, R, columns] logits (read where the lane is), map [B, 1, R, columns]."""
        x = self.tower(features[self.level])
        return {"place": self.place(x), "exist": self.exist(x), "lane_map": self.map(x)}

    def read(self, raw: Outputs) -> tuple[Tensor, Tensor]:
        """x [B, S, R] in cells, existence logits [B, S, R]."""
        share = raw["place"].float().softmax(-1)
        return (share * self.column_x).sum(-1), (share * raw["exist"].float()).sum(-1)

    def encode(self, batch: Batch) -> Outputs:
        """x [B, S, R] in cells (NaN where absent), map [B, 1, R, columns], labelled [B]."""
        rows_px = (torch.arange(self.rows, device=batch.lanes.device) + 0.5) * self.stride
        all_x = crossings(batch.lanes, rows_px, self.stride / 2)
        inside = torch.isfinite(all_x) & (all_x >= 0) & (all_x <= self.size_px[1])
        all_x = torch.where(inside, all_x, torch.nan) / self.stride
        slots = self._slots(batch)
        x = all_x.new_full((len(batch), len(SLOTS), self.rows), torch.nan)
        for number, slot in enumerate(SLOTS):
            hit = (slots == slot)[..., None]
            count = (hit & torch.isfinite(all_x)).sum(1)
            total = torch.where(hit, torch.nan_to_num(all_x), 0.0).sum(1)
            x[:, number] = torch.where(count == 1, total, torch.nan)
        near = (all_x[..., None] - self.column_x).abs() <= 0.75
        return {"x": x, "map": near.any(1, keepdim=True).float(), "labelled": self.labelled(batch)}

    def _slots(self, batch: Batch) -> Tensor:
        """Slot of each lane [B, L], by its x where it meets the bottom of the camera image, against the car's centre."""
        if batch.lanes.shape[1] == 0:
            return batch.lanes.new_zeros(batch.lanes.shape[:2]).long()
        foot, centre = bottom_x(batch, self.size_px[0])
        left, right = foot < centre, foot >= centre
        slots = torch.zeros_like(foot, dtype=torch.long)
        for side, sign in ((left, -1), (right, 1)):
            distance = torch.where(side, (foot - centre).abs(), torch.inf)
            rank = distance.argsort(1).argsort(1) + 1
            slots = torch.where(side & (rank <= 2), sign * rank, slots)
        return slots

    def loss(self, raw: Outputs, target: Outputs) -> dict[str, Term]:
        """Cross-entropy to the two nearest columns, L1 on their mean, existence, lane map."""
        present = torch.isfinite(target["x"]) & target["labelled"][:, None, None]
        x = torch.nan_to_num(target["x"], nan=0.5)
        nearness = (1 - (self.column_x - x[..., None].clamp(0.5, self.columns - 0.5)).abs()).clamp(min=0)
        logs = functional.log_softmax(raw["place"].float(), -1)
        entropy = -(nearness * logs).sum(-1) * present
        found, exist = self.read(raw)
        offset = functional.smooth_l1_loss(found, x, reduction="none", beta=0.5) * present
        seen = target["labelled"][:, None, None]
        cells = target["map"]
        balance = 1.0 + 4.0 * cells
        lane_map = (
            functional.binary_cross_entropy_with_logits(raw["lane_map"].float(), cells, reduction="none") * balance
        )
        lane_map = lane_map * seen[..., None]
        terms = {
            "place": Term(entropy.sum(), present.sum().float()),
            "offset": Term(offset.sum(), present.sum().float()),
            "exist": masked_bce(exist, present.float(), seen),
            "map": Term(lane_map.sum(), seen.sum().float() * self.rows * self.columns),
        }
        return {name: Term(term.total, term.count, self.weights[name]) for name, term in terms.items()}

    def decode(self, raw: Outputs, geometry: Geometry) -> Outputs:
        """lane_x [B, S, R] camera px, lane_score [B, S, R]."""
        share = raw["place"].softmax(-1)
        x = (share * self.column_x).sum(-1) * (self.stride / geometry.scale)
        return {"lane_x": x, "lane_score": (share * raw["exist"]).sum(-1).sigmoid()}

    def constants(self, geometry: Geometry) -> dict[str, Any]:
        """Slots and the camera rows [px] of the outputs."""
        rows = [(row + 0.5) * self.stride / geometry.scale for row in range(self.rows)]
        return {"lane_slots": list(SLOTS), "lane_rows_px": rows}


def crossings(lanes: Tensor, rows_px: Tensor, reach_px: float = 0.0) -> Tensor:
    """Where polylines cross image rows.

    Args:
        lanes: [B, L, P, 2], NaN-padded, near to far.
        rows_px: [R].
        reach_px: how far a lane is continued beyond its ends.

    Returns:
        x [B, L, R]; NaN where the lane does not reach the row; the nearest crossing where there are several.
    """
    if lanes.shape[1] == 0 or lanes.shape[2] < 2:
        return lanes.new_full((*lanes.shape[:2], len(rows_px)), torch.nan)
    start, end = lanes[..., :-1, None, :], lanes[..., 1:, None, :]
    low, high = torch.minimum(start[..., 1], end[..., 1]), torch.maximum(start[..., 1], end[..., 1])
    # a row is a cell: a lane that ends inside it is continued to its centre
    known = torch.isfinite(lanes[..., 1])
    bottom = torch.where(known, lanes[..., 1], -torch.inf).amax(2)[..., None, None]
    top = torch.where(known, lanes[..., 1], torch.inf).amin(2)[..., None, None]
    low, high = torch.where(low == top, low - reach_px, low), torch.where(high == bottom, high + reach_px, high)
    hit = (rows_px >= low) & (rows_px < high) & (end[..., 1] != start[..., 1])
    share = (rows_px - start[..., 1]) / torch.where(hit, end[..., 1] - start[..., 1], torch.ones_like(low))
    x = start[..., 0] + share * (end[..., 0] - start[..., 0])
    first = hit.float().argmax(2, keepdim=True)
    found = torch.where(hit, x, torch.nan).gather(2, first)[:, :, 0]
    return torch.where(hit.any(2), found, torch.nan)


def bottom_x(batch: Batch, height_px: int) -> tuple[Tensor, Tensor]:
    """Where lanes, and the car's centre, meet the bottom row of the network image.

    A lane is continued along its nearest points; the car's centre is the middle of the camera image's bottom, carried
    through the augmentation.

    Returns:
        x of each lane [B, L], x of the centre [B, 1].
    """
    lanes = batch.lanes
    near, far = lanes[..., 0, :], lanes[..., min(2, lanes.shape[2] - 1), :]
    far = torch.where(torch.isfinite(far), far, lanes[..., min(1, lanes.shape[2] - 1), :])
    rise = near[..., 1] - far[..., 1]
    slope = (near[..., 0] - far[..., 0]) / torch.where(rise.abs() > 1e-3, rise, torch.ones_like(rise))
    foot = near[..., 0] + slope * (height_px - near[..., 1])
    middle = torch.stack(
        [batch.camera_size[:, 0] / 2, batch.camera_size[:, 1], torch.ones_like(batch.camera_size[:, 0])], 1
    )
    mapped = torch.einsum("bij,bj->bi", batch.image_from_camera, middle.to(batch.image_from_camera))
    return foot, (mapped[:, 0] / mapped[:, 2])[:, None]
