"""Objects: an anchor-free centre heatmap, box sides, distance and light state.

Source: CenterNet (Zhou et al. 2019) for the heatmap and its focal loss; TTFNet (Liu et al. 2020) for elliptic Gaussians and
box samples over the whole kernel, which converge in a fraction of the epochs; GIoU (Rezatofighi et al. 2019).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from avexp.models.head import Geometry, Head, HeadInput, Outputs, Term, output_conv, tower
from avexp.records.batch import Batch
from avexp.records.labels import LIGHT_STATES

LOG_DISTANCE_UNIT_M = 20.0
KERNEL_SHARE = 0.54
"""Share of the box that the Gaussian spans (TTFNet's alpha)."""
PRIOR = 0.02
"""Score of an untrained cell."""


class Objects(Head):
    """Centre heatmap head.

    Args:
        shared: what the network tells its heads.
        level: neck level to work on.
        width: channels of its tower.
        depth: convolutions of its tower.
        top_k: objects that decode keeps.
        box_weight: of the box loss against the heatmap's.
        distance_weight: of the distance loss.
        state_weight: of the light state loss.
        class_weights: of the heatmap loss by class name, 1 where not named: rare classes need more.
    """

    task: ClassVar[str] = "objects"

    def __init__(
        self,
        shared: HeadInput,
        level: int = 0,
        width: int = 32,
        depth: int = 1,
        top_k: int = 64,
        box_weight: float = 2.0,
        distance_weight: float = 0.3,
        state_weight: float = 0.3,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.level, self.stride, self.top_k = level, shared.strides[level], top_k
        self.rows, self.columns = shared.size_px[0] // self.stride, shared.size_px[1] // self.stride
        self.classes = list(shared.classes)
        self.weights = {"heat": 1.0, "box": box_weight, "distance": distance_weight, "state": state_weight}
        self.tower = tower(shared.channels[level], width, depth, shared)
        self.heat = output_conv(width, len(self.classes), math.log(PRIOR / (1 - PRIOR)))
        self.sides = output_conv(width, 4, 1.0)
        self.distance = output_conv(width, 1)
        self.state = output_conv(width, len(LIGHT_STATES))
        ys, xs = torch.meshgrid(torch.arange(self.rows) + 0.5, torch.arange(self.columns) + 0.5, indexing="ij")
        self.register_buffer("grid", torch.stack([xs, ys]) * self.stride, persistent=False)
        self.grid: Tensor
        by_class = [float((class_weights or {}).get(name, 1.0)) for name in self.classes]
        self.register_buffer("class_weight", torch.tensor(by_class).view(1, -1, 1, 1), persistent=False)
        self.class_weight: Tensor

    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """heat [B, C, h, w] logits, sides [B, 4, h, w] log cells, distance [B, 1, h, w] log, state [B, 4, h, w] logits."""
        x = self.tower(features[self.level])
        return {"heat": self.heat(x), "sides": self.sides(x), "distance": self.distance(x), "state": self.state(x)}

    def boxes(self, sides: Tensor) -> Tensor:
        """[B, 4, h, w] log cells -> x1 y1 x2 y2 [B, 4, h, w] in network pixels."""
        reach = torch.exp(sides.clamp(-4.0, 5.0)) * self.stride
        return torch.cat([self.grid - reach[:, :2], self.grid + reach[:, 2:]], 1)

    def encode(self, batch: Batch) -> Outputs:
        """heat [B, C, h, w], box [B, 4, h, w], weight, distance, state [B, h, w], negative [B, 1, h, w], count []."""
        labelled, valid = self.labelled(batch), (batch.classes >= 0) & torch.isfinite(batch.boxes).all(-1)
        valid = valid & labelled[:, None]
        boxes = torch.nan_to_num(batch.boxes)
        kernels = self._kernels(boxes) * valid[..., None, None]
        heat = torch.zeros(len(batch), len(self.classes), self.rows * self.columns, device=boxes.device)
        channel = batch.classes.clamp(min=0)[..., None].expand(-1, -1, self.rows * self.columns)
        heat = heat.scatter_reduce(1, channel, kernels.flatten(2), "amax").view(
            *heat.shape[:2], self.rows, self.columns
        )
        owner, weight = self._owners(kernels, boxes)
        gathered = torch.cat([boxes, torch.nan_to_num(batch.distances, nan=-1.0)[..., None]], -1)
        facts = _gather(gathered, owner)
        negative = ~self._inside(batch.ignore) & labelled[:, None, None]
        states = _gather(batch.states[..., None].float(), owner)[:, 0].long()
        return {
            "heat": heat,
            "box": facts[:, :4],
            "distance": facts[:, 4],
            "state": torch.where(weight > 0, states, -1),
            "weight": weight,
            "negative": negative[:, None],
            "count": valid.sum().float(),
        }

    def _kernels(self, boxes: Tensor) -> Tensor:
        """[B, M, h, w]: an elliptic Gaussian an object, 1 at the cell of its centre."""
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / self.stride
        # the peak lies in the cell that holds the centre, so that every object has a cell of value 1
        centre = torch.minimum(centre.floor() + 0.5, centre.new_tensor([self.columns - 0.5, self.rows - 0.5])).clamp(
            0.5
        )
        sigma = ((boxes[..., 2:] - boxes[..., :2]) / self.stride * KERNEL_SHARE / 6).clamp(min=0.4)
        columns = torch.arange(self.columns, device=boxes.device) + 0.5
        rows = torch.arange(self.rows, device=boxes.device) + 0.5
        along_x = torch.exp(-((columns - centre[..., :1]) ** 2) / (2 * sigma[..., :1] ** 2))
        along_y = torch.exp(-((rows - centre[..., 1:]) ** 2) / (2 * sigma[..., 1:] ** 2))
        kernels = along_y[..., :, None] * along_x[..., None, :]
        return torch.where(kernels < 0.02, torch.zeros_like(kernels), kernels)

    def _owners(self, kernels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Per cell the smallest object whose kernel reaches it [B, h, w], and its weight (each object sums to <= 1)."""
        if kernels.shape[1] == 0:
            empty = kernels.new_zeros(kernels.shape[0], self.rows, self.columns)
            return empty.long(), empty
        area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        smallest_first = area.argsort(1)
        rank = smallest_first.argsort(1).to(kernels.dtype)  # amin of ranks, because argmin is ten times slower
        first = torch.where(kernels > 0, rank[..., None, None], float(kernels.shape[1] - 1)).amin(1)
        owner = smallest_first.gather(1, first.long().flatten(1)).view_as(first)
        value = kernels.gather(1, owner[:, None])[:, 0]
        total = kernels.sum((2, 3)).clamp(min=1e-6)
        return owner, value / total.gather(1, owner.flatten(1)).view_as(value)

    def _inside(self, ignore: Tensor) -> Tensor:
        """bool [B, h, w]: cells whose centre lies in an ignore box."""
        if ignore.shape[1] == 0:
            return torch.zeros(ignore.shape[0], self.rows, self.columns, dtype=torch.bool, device=ignore.device)
        x, y = self.grid[0], self.grid[1]
        left, top, right, bottom = (ignore[..., side, None, None] for side in range(4))
        return ((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).any(1)

    def loss(self, raw: Outputs, target: Outputs) -> dict[str, Term]:
        """Focal heatmap loss, GIoU, log distance, light state; all over the number of objects."""
        heat, truth = raw["heat"].float(), target["heat"]
        # logs of the sigmoid, not of a rounded probability
        positive = functional.logsigmoid(heat) * (1 - heat.sigmoid()) ** 2 * (truth == 1.0)
        negative = functional.logsigmoid(-heat) * heat.sigmoid() ** 2 * (1 - truth) ** 4
        focal = -((positive + negative * target["negative"] * (truth < 1.0)) * self.class_weight).sum()
        weight, count = target["weight"], target["count"]
        overlap = giou(self.boxes(raw["sides"].float()), target["box"])
        known = weight * (target["distance"] > 0)
        wanted = torch.log(target["distance"].clamp(min=1.0) / LOG_DISTANCE_UNIT_M)
        distance = functional.smooth_l1_loss(raw["distance"][:, 0].float(), wanted, reduction="none")
        lit = weight * (target["state"] >= 0)
        state = functional.cross_entropy(raw["state"].float(), target["state"].clamp(min=0), reduction="none")
        terms = {
            "heat": Term(focal, count),
            "box": Term(((1 - overlap) * weight).sum(), count),
            "distance": Term((distance * known).sum(), known.sum()),
            "state": Term((state * lit).sum(), lit.sum()),
        }
        return {name: Term(term.total, term.count, self.weights[name]) for name, term in terms.items()}

    def decode(self, raw: Outputs, geometry: Geometry) -> Outputs:
        """boxes [B, K, 4] px, scores [B, K], classes [B, K], distances [B, K] m, states [B, K].

        Peaks by max-pool, top-k, gather: constant shapes, no integer arithmetic, no plugin.
        """
        score, best = raw["heat"].sigmoid().max(1, keepdim=True)
        peak = functional.max_pool2d(score, 3, 1, 1)
        score = score * (score >= peak).to(score.dtype)
        top, index = score.reshape(-1, self.rows * self.columns).topk(self.top_k, 1)
        state = raw["state"].max(1, keepdim=True)[1]
        distance = torch.exp(raw["distance"].clamp(-4.0, 4.0)) * LOG_DISTANCE_UNIT_M
        dense = [self.boxes(raw["sides"]) / geometry.scale, best.to(top.dtype), distance, state.to(top.dtype)]
        table = torch.cat(dense, 1).reshape(-1, 7, self.rows * self.columns)
        kept = table.gather(2, torch.stack([index] * 7, 1)).permute(0, 2, 1)
        return {
            "boxes": kept[..., :4],
            "scores": top,
            "classes": kept[..., 4].to(torch.int32),
            "distances": kept[..., 5],
            "states": kept[..., 6].to(torch.int32),
        }

    def constants(self, geometry: Geometry) -> dict[str, Any]:
        """Class and state names."""
        return {"classes": self.classes, "states": list(LIGHT_STATES)}


def _gather(values: Tensor, owner: Tensor) -> Tensor:
    """values [B, M, F] at owner [B, h, w] -> [B, F, h, w]."""
    if values.shape[1] == 0:
        return values.new_zeros(values.shape[0], values.shape[2], *owner.shape[1:])
    index = owner.flatten(1)[..., None].expand(-1, -1, values.shape[2])
    return values.gather(1, index).permute(0, 2, 1).reshape(values.shape[0], values.shape[2], *owner.shape[1:])


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of boxes [B, 4, h, w] -> [B, h, w], in -1..1."""
    x1, y1 = torch.maximum(first[:, 0], second[:, 0]), torch.maximum(first[:, 1], second[:, 1])
    x2, y2 = torch.minimum(first[:, 2], second[:, 2]), torch.minimum(first[:, 3], second[:, 3])
    inner = (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)
    area = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (first, second)]
    union = area[0] + area[1] - inner
    hull_x = torch.maximum(first[:, 2], second[:, 2]) - torch.minimum(first[:, 0], second[:, 0])
    hull_y = torch.maximum(first[:, 3], second[:, 3]) - torch.minimum(first[:, 1], second[:, 1])
    hull = (hull_x * hull_y).clamp(min=1e-6)
    return inner / union.clamp(min=1e-6) - (hull - union) / hull
