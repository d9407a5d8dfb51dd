"""The default backbone: a residual network whose every width, depth, kernel and stride is config.

Shapes: images [B, 3, H, W] -> one feature map a stage, [B, widths[i], H / strides, W / strides].
"""

from collections.abc import Sequence

from torch import Tensor, nn

from avexp.models.layers import activation_layer, conv_block

BLOCKS = ("basic", "bottleneck")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions (basic) or 1x1, 3x3, 1x1 (bottleneck) beside a shortcut (He et al. 2016).

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the block.
        kernel: of the spatial convolutions.
        norm: as of ResNet.
        activation: as of ResNet.
        block: as of ResNet.
        drop: probability that a frame takes the shortcut alone, in training.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, kernel: int, norm: str, activation: str, block: str, drop: float
    ) -> None:
        super().__init__()
        if block == "basic":
            body = [
                conv_block(inputs, outputs, kernel, stride, norm, activation),
                conv_block(outputs, outputs, kernel, 1, norm, None),
            ]
        else:
            inner = max(8, outputs // 4)
            body = [
                conv_block(inputs, inner, 1, 1, norm, activation),
                conv_block(inner, inner, kernel, stride, norm, activation),
                conv_block(inner, outputs, 1, 1, norm, None),
            ]
        self.body = nn.Sequential(*body)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_block(inputs, outputs, 1, stride, norm, None)
        self.activation = activation_layer(activation)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, h, w] -> [B, outputs, h / stride, w / stride]."""
        body = self.body(x)
        if self.training and self.drop > 0.0:
            kept = body.new_empty(len(body), 1, 1, 1).bernoulli_(1.0 - self.drop)
            body = body * kept / (1.0 - self.drop)
        out: Tensor = self.activation(body + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Stem and stages.

    Args:
        stem_width: channels after the stem (stride 2).
        widths: channels of each stage.
        depths: residual blocks of each stage.
        strides: of each stage's first block.
        kernel: of the spatial convolutions.
        norm: ``batch``, ``group`` or ``none``.
        activation: name in layers.ACTIVATIONS.
        block: ``basic`` or ``bottleneck``.
        drop_path: stochastic depth (Huang et al. 2016): by which probability a frame leaves out the last block's convolutions in
            training; of the blocks before it evenly less.

    Attributes:
        channels: of each output.
        strides: of each output, from the image on.

    Raises:
        ValueError: lists of different lengths, an unknown block, or no probability below 1.
    """

    def __init__(
        self,
        stem_width: int = 24,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 1, 1, 1),
        strides: Sequence[int] = (2, 2, 2, 2),
        kernel: int = 3,
        norm: str = "batch",
        activation: str = "relu",
        block: str = "basic",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= drop_path < 1.0:
            raise ValueError(f"drop_path={drop_path}: a probability from 0 to below 1")
        if not len(widths) == len(depths) == len(strides):
            raise ValueError(f"widths, depths and strides must be of one length: {widths}, {depths}, {strides}")
        if block not in BLOCKS:
            raise ValueError(f"block={block}: no such block; known: {', '.join(BLOCKS)}")
        self.stem = conv_block(3, stem_width, kernel, 2, norm, activation)
        self.stages = nn.ModuleList()
        self.channels, self.strides = list(widths), []
        inputs, total = stem_width, 2
        drops = (drop_path * (number + 1) / sum(depths) for number in range(sum(depths)))
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            blocks = [ResidualBlock(inputs, width, stride, kernel, norm, activation, block, next(drops))]
            blocks += [
                ResidualBlock(width, width, 1, kernel, norm, activation, block, next(drops)) for _ in range(depth - 1)
            ]
            self.stages.append(nn.Sequential(*blocks))
            inputs, total = width, total * stride
            self.strides.append(total)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        x, features = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
