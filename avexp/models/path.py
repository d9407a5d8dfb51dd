"""Path: where the car will go, as points at fixed arc lengths and the curvature at the car.

Geometry only: one frame shows how the road bends, not how fast the car is. Metrics read it at the travelled distance.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from avexp.models.head import Geometry, Head, HeadInput, Outputs, Term
from avexp.models.layers import activation_layer, conv_block
from avexp.records.batch import Batch

ARC_LENGTHS_M = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0)
CURVATURE_UNIT_1PM = 0.01


class Path(Head):
    """Global head: a coarse level is flattened.

    Args:
        shared: what the network tells its heads.
        level: neck level to work on.
        width: channels before flattening.
        hidden: units of the hidden layer.
        curvature_weight: of the curvature loss.
    """

    task: ClassVar[str] = "path"

    def __init__(
        self, shared: HeadInput, level: int = 2, width: int = 16, hidden: int = 96, curvature_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.level, self.curvature_weight = level, curvature_weight
        stride = shared.strides[level] * 2
        self.cells = width * -(-shared.size_px[0] // stride) * -(-shared.size_px[1] // stride)
        self.reduce = conv_block(shared.channels[level], width, 3, 2, shared.norm, shared.activation)
        self.hidden = nn.Linear(self.cells, hidden)
        self.activation = activation_layer(shared.activation)
        self.output = nn.Linear(hidden, 2 * len(ARC_LENGTHS_M) + 1)
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)
        lengths = torch.tensor(ARC_LENGTHS_M)
        self.register_buffer("lengths", lengths.view(1, -1), persistent=False)
        # a lateral error is worth the same when it is this large [m]: far points are harder
        self.register_buffer("tolerance", (0.2 + 0.02 * lengths + 1e-4 * lengths**2).view(1, -1, 1), persistent=False)
        self.lengths: Tensor
        self.tolerance: Tensor

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """offset [B, P, 2] in tolerances from straight ahead, bend [B] in curvature units."""
        x = self.reduce(features[self.level]).reshape(-1, self.cells)
        out = self.output(self.activation(self.hidden(x)))
        return {"offset": out[:, :-1].reshape(-1, len(ARC_LENGTHS_M), 2), "bend": out[:, -1]}

    def points(self, offset: Tensor) -> Tensor:
        """[B, P, 2] x, y [m]."""
        straight = torch.stack([self.lengths, torch.zeros_like(self.lengths)], -1)
        return straight + offset * self.tolerance

    def encode(self, batch: Batch) -> Outputs:
        """points [B, P, 2] [m] (NaN beyond the label), curvature [B] [1/m], labelled [B]."""
        points = at_arc_lengths(batch.path[..., 1:], self.lengths[0])
        return {"points": points, "curvature": batch.curvature, "labelled": self.labelled(batch)}

    def loss(self, raw: Outputs, target: Outputs) -> dict[str, Term]:
        """Smooth L1 on points in tolerances, and on curvature."""
        seen = target["labelled"]
        known = torch.isfinite(target["points"]).all(-1) & seen[:, None]
        points = torch.nan_to_num(target["points"])
        gap = (self.points(raw["offset"].float()) - points) / self.tolerance
        off = functional.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="none").sum(-1) * known
        bent = torch.isfinite(target["curvature"]) & seen
        curvature = torch.nan_to_num(target["curvature"]) / CURVATURE_UNIT_1PM
        bend = functional.smooth_l1_loss(raw["bend"].float(), curvature, reduction="none", beta=0.2) * bent
        return {
            "points": Term(off.sum(), known.sum().float()),
            "curvature": Term(bend.sum(), bent.sum().float(), self.curvature_weight),
        }

    def decode(self, raw: Outputs, geometry: Geometry) -> Outputs:
        """path [B, P, 2] [m], curvature [B] [1/m]."""
        return {"path": self.points(raw["offset"]), "curvature": raw["bend"] * CURVATURE_UNIT_1PM}

    def constants(self, geometry: Geometry) -> dict[str, Any]:
        """Arc lengths [m] of the points."""
        return {"path_arc_m": list(ARC_LENGTHS_M)}


def at_arc_lengths(positions: Tensor, lengths: Tensor) -> Tensor:
    """Points of a polyline that begins at the origin, at given arc lengths.

    Args:
        positions: [B, T, 2] [m], NaN-padded.
        lengths: [P] [m], rising.

    Returns:
        [B, P, 2]; NaN beyond the polyline's end.
    """
    batch = positions.shape[0]
    if positions.shape[1] == 0:
        return positions.new_full((batch, len(lengths), 2), torch.nan)
    points = torch.cat([positions.new_zeros(batch, 1, 2), positions], 1)
    steps = torch.linalg.vector_norm(points[:, 1:] - points[:, :-1], dim=-1)
    travelled = torch.cat([steps.new_zeros(batch, 1), torch.nan_to_num(steps).cumsum(1)], 1)
    wanted = lengths.expand(batch, -1).contiguous()
    after = torch.searchsorted(travelled, wanted).clamp(1, points.shape[1] - 1)
    before = after - 1
    start, end = travelled.gather(1, before), travelled.gather(1, after)
    share = ((wanted - start) / (end - start).clamp(min=1e-6))[..., None]
    pick = torch.nan_to_num(points)
    first = pick.gather(1, before[..., None].expand(-1, -1, 2))
    second = pick.gather(1, after[..., None].expand(-1, -1, 2))
    reached = (wanted <= travelled[:, -1:])[..., None]
    return torch.where(reached, first + share * (second - first), torch.nan)
