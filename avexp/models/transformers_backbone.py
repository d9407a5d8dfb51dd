"""Backbones of Hugging Face transformers, by architecture or with pretrained weights: pip install avexp[transformers]."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class TransformersBackbone(nn.Module):
    """A transformers backbone (resnet, convnext, swin ...) with this house's interface.

    Args:
        architecture: its model type, such as ``resnet``; or a name or folder of pretrained weights if ``pretrained``.
        config: keywords of its configuration.
        stages: how many of its last stages are handed on.
        pretrained: load weights of ``architecture``; remote code is never run.

    Attributes:
        channels: of each output.
        strides: of each output, from the image on.

    Raises:
        ValueError: no such architecture.
    """

    def __init__(
        self, architecture: str, config: Mapping[str, Any] | None = None, stages: int = 4, pretrained: bool = False
    ) -> None:
        super().__init__()
        from transformers import AutoBackbone, AutoConfig

        if pretrained:
            settings = AutoConfig.from_pretrained(architecture, trust_remote_code=False, **dict(config or {}))
        else:
            settings = AutoConfig.for_model(architecture, **dict(config or {}))
        settings.out_features = settings.stage_names[-stages:]
        if pretrained:
            self.body = AutoBackbone.from_pretrained(architecture, config=settings, trust_remote_code=False)
        else:
            self.body = AutoBackbone.from_config(settings)
        self.channels: list[int] = list(self.body.channels)
        side = 256
        with torch.no_grad():
            self.strides = [side // feature.shape[-1] for feature in self.forward(torch.zeros(1, 3, side, side))]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        return list(self.body(images).feature_maps)
