"""The multi-task network: backbone -> neck -> heads, its loss, and the end-to-end form that is exported."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from avexp.models.head import Geometry, Head, HeadInput, Outputs, Term
from avexp.models.loss_weights import FixedWeights
from avexp.records.batch import Batch
from avexp.records.labels import OBJECT_CLASSES

MEAN = (0.40, 0.41, 0.41)
DEVIATION = (0.25, 0.25, 0.26)


class Network(nn.Module):
    """A camera image in, each head's raw outputs out.

    Args:
        backbone: images -> feature maps; has ``channels`` and ``strides``.
        neck: called with the backbone's channels and strides; has ``channels`` and ``strides``.
        heads: by name; each called with a HeadInput.
        height_px: of the network image.
        width_px: of the network image.
        classes: object classes; those of the dataset when a run builds it.
        loss_weights: how the heads' losses combine; equal weights if None.
        norm: normalisation in the heads.
        activation: activation in the heads.

    Raises:
        ValueError: the image size is no multiple of the coarsest stride.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: Callable[..., nn.Module],
        heads: dict[str, Callable[..., Head]],
        height_px: int,
        width_px: int,
        classes: Sequence[str] = OBJECT_CLASSES,
        loss_weights: nn.Module | None = None,
        norm: str = "batch",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        strides = cast(Sequence[int], backbone.strides)
        if height_px % max(strides) or width_px % max(strides):
            raise ValueError(f"model: {width_px}x{height_px} px is no multiple of the coarsest stride {max(strides)}")
        if not heads:
            raise ValueError("model.heads: choose at least one head, such as model/heads=[objects,lanes]")
        self.size_px, self.classes = (height_px, width_px), list(classes)
        self.backbone = backbone
        self.neck = neck(channels=backbone.channels, strides=strides)
        shared = HeadInput(
            channels=cast(Sequence[int], self.neck.channels),
            strides=cast(Sequence[int], self.neck.strides),
            size_px=self.size_px,
            classes=self.classes,
            norm=norm,
            activation=activation,
        )
        self.heads = nn.ModuleDict({name: make(shared=shared) for name, make in heads.items()})
        self.loss_weights = loss_weights or FixedWeights()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def head(self, name: str) -> Head:
        """A head by name."""
        return cast(Head, self.heads[name])

    def forward(self, images: Tensor) -> dict[str, Outputs]:
        """float [B, 3, H, W] in 0..1 -> raw outputs by head."""
        x = (images - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        levels = self.neck(self.backbone(x))
        return {name: head(levels) for name, head in self.heads.items()}

    def terms(self, raw: dict[str, Outputs], batch: Batch) -> dict[str, dict[str, Term]]:
        """Loss terms by head and name, of this rank's frames."""
        return {name: self.head(name).loss(raw[name], self.head(name).encode(batch)) for name in self.heads}

    def decode(self, raw: dict[str, Outputs], geometry: Geometry) -> Outputs:
        """All heads' outputs, in camera pixels and metres."""
        return {
            name: value for head in self.heads for name, value in self.head(head).decode(raw[head], geometry).items()
        }


def combine(
    terms: dict[str, dict[str, Term]], weights: nn.Module, reduce: Callable[[Tensor], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise and each head's own.

    A normaliser is summed over ranks before it divides, so that a global batch means the same on any number of ranks.

    Args:
        terms: by head and name.
        weights: module that combines the heads' losses.
        reduce: mean over ranks of a tensor of counts.

    Returns:
        scalar, and scalars by head (detached).
    """
    names = [(head, name) for head, parts in terms.items() for name in parts]
    counts = reduce(torch.stack([terms[head][name].count.float() for head, name in names]))
    losses: dict[str, Tensor] = {}
    for count, (head, name) in zip(counts, names, strict=True):
        part = terms[head][name]
        losses[head] = losses.get(head, torch.zeros_like(part.total)) + part.weight * part.total / count.clamp(min=1e-3)
    return weights(losses), {name: loss.detach() for name, loss in losses.items()}


class EndToEnd(nn.Module):
    """uint8 camera frames in, decoded outputs out: the graph that is exported, with no Python after it.

    Args:
        network: in evaluation mode.
        image_size: camera image (width, height) [px].
        resize: float [B, 3, h, w] -> network image; the one that evaluation uses too.
        geometry: of that resize.
    """

    def __init__(
        self, network: Network, resize: Callable[[Tensor, tuple[int, int]], Tensor], geometry: Geometry
    ) -> None:
        super().__init__()
        self.network, self.resize, self.geometry = network, resize, geometry

    def forward(self, image: Tensor) -> Outputs:
        """uint8 [B, height, width, 3] RGB -> outputs by name."""
        # cast first: TensorRT takes uint8 into a cast and into nothing else
        pixels = image.to(torch.float32).permute(0, 3, 1, 2) * (1.0 / 255.0)
        return self.network.decode(self.network(self.resize(pixels, self.network.size_px)), self.geometry)


def camera_geometry(image_size: tuple[int, int], size_px: tuple[int, int]) -> Geometry:
    """Geometry of a camera image (width, height) scaled to the network's width; what is left below is padding.

    Args:
        image_size: (width, height) [px].
        size_px: network (height, width) [px].
    """
    scale = size_px[1] / image_size[0]
    return Geometry(scale=scale, rows_px=min(float(size_px[0]), image_size[1] * scale))
