"""A launcher as plain values, as a ledger keeps it, -> the backend that runs its jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avexp.core.errors import ConfigError, did_you_mean
from avexp.jobs.backend import Backend
from avexp.jobs.local import LocalBackend
from avexp.jobs.settling import Rules
from avexp.jobs.slurm import Resources, SlurmBackend

NAMES = ("local", "slurm")
PARTS: dict[str, Any] = {"rules.": Rules, "resources.": Resources}
"""Parts of a launcher whose values stand flat in its config."""
SEARCHED = 4
"""Trials of a search at a time on a cluster, where neither launcher nor sweeper says."""
LEAST = {
    "concurrent": 1,
    "restarts_without_progress": 1,
    "stop_after_failures": 1,
    "grace_s": 0,
    "time_min": 1,
    "signal_s": 0,
}


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Where jobs run, and by which rules.

    Attributes:
        name: ``local`` or ``slurm``.
        concurrent: jobs at a time; None for one on this machine, and for no limit on a cluster.
        detach: return once everything is submitted; a controller of its own watches on.
        rules: bounds.
        resources: what SLURM is asked for beside the hardware profile.
    """

    name: str = "local"
    concurrent: int | None = None
    detach: bool = False
    rules: Rules = field(default_factory=Rules)
    resources: Resources = field(default_factory=Resources)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Launcher":
        """From plain values, as they stand in conf/hydra/launcher and in a ledger.

        Raises:
            ConfigError: unknown names, and values that do not fit.
        """
        places = {name: f"{part}{name}" for part, kind in PARTS.items() for name in kind.__dataclass_fields__}
        places |= {name: name for name in cls.__dataclass_fields__ if name not in ("rules", "resources")}
        plain = {key: value for key, value in values.items() if key not in ("rules", "resources")}
        plain |= {**(values.get("rules") or {}), **(values.get("resources") or {})}
        node = OmegaConf.structured(cls)
        for part in (node, node.rules, node.resources):
            OmegaConf.set_readonly(part, False)
        faults = []
        for key, value in plain.items():
            if key not in places:
                faults.append(f"hydra.launcher.{key}: no such key{did_you_mean(key, list(places))}")
            elif wrong := _set(node, places[key], value):
                faults.append(f"hydra.launcher.{key}: {wrong}")
        if faults:
            raise ConfigError(faults)
        found: Launcher = OmegaConf.to_object(node)  # type: ignore[assignment]
        return found

    @property
    def at_once(self) -> int:
        """Trials of a search that live at a time: each further one is chosen with what they have shown."""
        return self.concurrent or (SEARCHED if self.name == "slurm" else 1)

    def backend(self, folder: Path, modules: list[str]) -> Backend:
        """For a sweep's folder.

        Args:
            folder: of the sweep.
            modules: that local jobs import.
        """
        if self.name == "slurm":
            return SlurmBackend(folder, self.resources, self.concurrent)
        return LocalBackend(self.concurrent or 1, modules, folder)


def _set(node: Any, place: str, value: Any) -> str:
    """Put a value in its place; what is wrong with it, or nothing."""
    try:
        OmegaConf.update(node, place, value, merge=False)
    except OmegaConfBaseException as fault:
        return str(fault).splitlines()[0]
    name = place.rpartition(".")[2]
    given = OmegaConf.select(node, place)
    if name == "name" and given not in NAMES:
        return f"{given} is none of {', '.join(NAMES)}"
    if name in LEAST and given is not None and given < LEAST[name]:
        return f"{given} is less than {LEAST[name]}"
    return ""
