"""The one place that turns ``_target_`` nodes into objects; and what a config from elsewhere may name."""

import os
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from avexp.core.errors import AvexpError, ConfigError

ALLOWED = (
    "avexp.augmentation.",
    "avexp.catalog.",
    "avexp.ingest.",
    "avexp.models.",
    "avexp.store.",
    "avexp.train.",
    "torch.nn.",
    "torch.optim.",
)
"""What a saved config may name: ours, and torch's layers and optimizers. A team adds its own with AVEXP_ALLOW=package."""


def refused_targets(node: Any, place: str = "") -> list[str]:
    """Targets outside the allow-list, one fault each: for configs that were not typed here (saved runs, checkpoints)."""
    allowed = ALLOWED + tuple(f"{name}." for name in os.environ.get("AVEXP_ALLOW", "").split(",") if name)
    if isinstance(node, DictConfig | ListConfig):
        node = OmegaConf.to_container(node, resolve=False)
    faults: list[str] = []
    if isinstance(node, dict):
        target = node.get("_target_")
        # a module reached through another (avexp.models.x.os.system) is caught by the depth: rooms are flat
        known = isinstance(target, str) and target.startswith(allowed)
        deep = isinstance(target, str) and target.startswith("avexp.") and target.count(".") != 3
        if target is not None and (not known or deep):
            remedy = f"if you trust it, set AVEXP_ALLOW={str(target).split('.')[0]}"
            faults.append(f"{place}._target_: {target} may not be named by a config from elsewhere; {remedy}")
        for key, child in node.items():
            faults += refused_targets(child, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            faults += refused_targets(child, f"{place}.{index}")
    return faults


def refuse_untrusted(node: Any, place: str) -> None:
    """Raise for targets outside the allow-list.

    Raises:
        ConfigError: with all of them.
    """
    faults = refused_targets(node, place)
    if faults:
        raise ConfigError(faults)


def build(node: Any, place: str, **arguments: Any) -> Any:
    """Instantiate a config node (a plain dict or a config); lists and dicts in it become plain.

    Args:
        node: with ``_target_``, or a dict or list of such; None gives None.
        place: its path in the config, for an error.
        **arguments: added to the target's.

    Raises:
        ConfigError: the target does not take these arguments.
    """
    if node is None:
        return None
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as fault:
        cause = fault.__cause__
        if isinstance(cause, AvexpError):
            raise cause from None
        # Hydra's own text spreads over lines: what, then why
        text = " ".join(line.strip() for line in str(cause or fault).splitlines() if line.strip())
        raise ConfigError([f"{place}: {text}"]) from fault
