"""What a head is: a small network, a target encoder, a loss, a decoder. One head a file.

Legend: B batch, H W network image, h w feature map, C classes, K kept objects, S lane slots, R lane rows, P path knots.
Targets are encoded on the device, after augmentation; decode() is tensor code that the exported graph runs too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from avexp.models.layers import conv_block
from avexp.records.batch import Batch
from avexp.records.labels import TASKS

Outputs = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadInput:
    """What the network tells its heads when it builds them.

    Attributes:
        channels: of the neck's levels, finest first.
        strides: of the levels.
        size_px: (height, width) of the network image.
        classes: object class names.
        norm: normalisation of the heads' convolutions.
        activation: of the heads' convolutions.
    """

    channels: Sequence[int]
    strides: Sequence[int]
    size_px: tuple[int, int]
    classes: Sequence[str]
    norm: str = "batch"
    activation: str = "relu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How decoded network pixels become camera pixels (a uniform scale, see augmentation's ``fit_matrix``).

    Attributes:
        scale: network pixels per camera pixel.
        rows_px: rows of the network image that show the camera image; the rest is padding.
    """

    scale: float
    rows_px: float


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a loss: a sum, and what to divide it by once it is summed over ranks.

    Attributes:
        total: scalar sum over the rank's frames.
        count: scalar normaliser of the rank (positives, labelled cells).
        weight: of this part within the head's loss.
    """

    total: Tensor
    count: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Postprocessed:
    """What a head adds to a Prediction: its fields by name."""

    fields: dict[str, Any] = field(default_factory=dict)


class Head(nn.Module, ABC):
    """A task's part of the network.

    Attributes:
        task: name in records.labels.TASKS, or "" for a head whose labels are not records' own.
    """

    task: ClassVar[str] = ""

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Outputs:
        """Neck levels -> raw outputs by name."""

    @abstractmethod
    def encode(self, batch: Batch) -> Outputs:
        """Labels in network pixels -> targets."""

    @abstractmethod
    def loss(self, raw: Outputs, target: Outputs) -> dict[str, Term]:
        """Parts of the loss by name. A frame without this label adds nothing."""

    @abstractmethod
    def decode(self, raw: Outputs, geometry: Geometry) -> Outputs:
        """Raw outputs -> outputs of the exported graph, in camera pixels and metres."""

    @abstractmethod
    def constants(self, geometry: Geometry) -> dict[str, Any]:
        """What a reader of the outputs must know (class names, rows), as plain JSON."""

    def labelled(self, batch: Batch) -> Tensor:
        """bool [B]: frames that this head learns from."""
        if not self.task:
            return torch.ones(len(batch), dtype=torch.bool, device=batch.labelled.device)
        return batch.labelled[:, TASKS.index(self.task)]


def tower(inputs: int, width: int, depth: int, shared: HeadInput) -> nn.Sequential:
    """3x3 convolutions before a head's outputs."""
    blocks = [
        conv_block(inputs if step == 0 else width, width, 3, 1, shared.norm, shared.activation) for step in range(depth)
    ]
    return nn.Sequential(*blocks)


def output_conv(inputs: int, outputs: int, bias: float | None = 0.0) -> nn.Conv2d:
    """A last 1x1 convolution with small weights; None for no bias."""
    conv = nn.Conv2d(inputs, outputs, 1, bias=bias is not None)
    nn.init.normal_(conv.weight, std=0.01)
    if conv.bias is not None and bias is not None:
        nn.init.constant_(conv.bias, bias)
    return conv


def masked_bce(logits: Tensor, target: Tensor, mask: Tensor) -> Term:
    """Binary cross-entropy over the cells of a mask, and their number."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    mask = mask.expand_as(loss).to(loss.dtype)
    return Term((loss * mask).sum(), mask.sum())


def scaled(terms: Mapping[str, Term], **weights: float) -> dict[str, Term]:
    """The terms with their weights set."""
    return {name: Term(term.total, term.count, weights.get(name, term.weight)) for name, term in terms.items()}
