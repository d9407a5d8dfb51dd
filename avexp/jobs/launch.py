"""A launcher as plain values, as a ledger keeps it, -> the backend that runs its jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avexp.core.errors import ConfigError, did_you_mean
from avexp.jobs.backend import Backend
from avexp.jobs.local import LocalBackend
from avexp.jobs.settling import Rules
from avexp.jobs.slurm import Resources, SlurmBackend

NAMES = ("local", "slurm")


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
            ConfigError: unknown names.
        """
        known = {**cls.__dataclass_fields__, **Rules.__dataclass_fields__, **Resources.__dataclass_fields__}
        plain = {key: value for key, value in values.items() if key not in ("rules", "resources")}
        plain |= {**(values.get("rules") or {}), **(values.get("resources") or {})}
        faults = [
            f"hydra.launcher.{key}: no such key{did_you_mean(key, list(known))}" for key in plain if key not in known
        ]
        if plain.get("name", "local") not in NAMES:
            faults.append(f"hydra.launcher.name: {plain['name']} is none of {', '.join(NAMES)}")
        if faults:
            raise ConfigError(faults)

        def part(kind: Any) -> Any:
            return kind(**{key: value for key, value in plain.items() if key in kind.__dataclass_fields__})

        own = {key: plain[key] for key in ("name", "concurrent", "detach") if key in plain}
        return cls(**own, rules=part(Rules), resources=part(Resources))

    def backend(self, folder: Path, modules: list[str]) -> Backend:
        """For a sweep's folder.

        Args:
            folder: of the sweep.
            modules: that local jobs import.
        """
        if self.name == "slurm":
            return SlurmBackend(folder, self.resources, self.concurrent)
        return LocalBackend(self.concurrent or 1, modules, folder)
