"""The pieces that the search ranges over: normalisation, activation, convolution block."""

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.1, inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
}


def norm_layer(kind: str, channels: int) -> nn.Module:
    """``batch``, ``group`` (no batch statistics: the same on any number of ranks) or ``none``.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        groups = next(count for count in (8, 4, 2, 1) if channels % count == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm={kind}: no such normalisation; known: batch, group, none")


def activation_layer(kind: str) -> nn.Module:
    """One of ACTIVATIONS.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in ACTIVATIONS:
        raise ValueError(f"activation={kind}: no such activation; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[kind]()


def conv_block(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, norm: str = "batch", activation: str | None = "relu"
) -> nn.Sequential:
    """Convolution ("same" padding), normalisation, activation (None for none)."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=norm == "none")
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    parts = [conv, norm_layer(norm, outputs)] + ([activation_layer(activation)] if activation else [])
    return nn.Sequential(*parts)
