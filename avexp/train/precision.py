"""Lightning's precision of a hardware profile, with the reason for an automatic choice."""

from typing import Any, Literal

from avexp.core.config import TrainConfig
from avexp.core.hardware import auto_precision

Name = Literal["32-true", "bf16-mixed", "16-mixed"]
NAMES: dict[str, Name] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def lightning_precision(config: TrainConfig) -> tuple[Name, str]:
    """Name for the Trainer, and why."""
    chosen: Any = config.hardware.precision
    if chosen.name != "auto":
        return NAMES[chosen.name], f"set by hardware {config.hardware.name}"
    found, reason = auto_precision(config.hardware)
    return NAMES[found.name], reason
