"""The config that a run goes on with: its own; only what does not change what it computes may be told anew.

Ranks may change between two parts of a run, even in the middle of an epoch, as long as the global batch stays: the order of
frames knows no ranks.
"""

import json
import time
from collections.abc import Sequence
from typing import cast

from omegaconf import DictConfig, OmegaConf

from avexp.core.errors import ConfigError, RunError
from avexp.core.lock import MACHINE_KEYS
from avexp.core.run_folder import RunFolder

RANKS = ("hardware.devices", "hardware.nodes", "loader.batch_size")
CHANGEABLE = (*RANKS, *(f"{group}.{name}" for group, names in MACHINE_KEYS.items() for name in names))


def resumed_config(run: RunFolder, overrides: Sequence[str] | None = None) -> DictConfig:
    """A run's config, with what its last resume changed.

    Args:
        run: to go on.
        overrides: ``key=value`` of this resume; None to read those of the last one.

    Raises:
        RunError: the run never started.
        ConfigError: an override would change what the run computes; names all of them.
    """
    if not run.config.is_file():
        raise RunError(str(run.path), "holds no config.yaml", "it never started; start a new run")
    config = OmegaConf.load(run.config)
    assert isinstance(config, DictConfig)
    if overrides is None:
        lines = run.resumes.read_text().splitlines() if run.resumes.is_file() else []
        words = json.loads(lines[-1])["overrides"] if lines else []
    else:
        words = list(overrides)
        _refuse(words)
    before = global_batch(config)
    config = cast(DictConfig, OmegaConf.merge(config, OmegaConf.from_dotlist(words)))
    if (after := global_batch(config)) != before:
        remedy = f"set loader.batch_size so that devices x nodes x batch_size is {before}"
        raise ConfigError([f"resume: the global batch would be {after}, the run's is {before}; {remedy}"])
    return config


def note_resume(run: RunFolder, overrides: Sequence[str]) -> None:
    """Write down that a run goes on, and with what: its other ranks and whoever reads the folder need to know."""
    with run.resumes.open("a") as stream:
        stream.write(json.dumps({"time": time.time(), "overrides": list(overrides)}) + "\n")


def _refuse(words: Sequence[str]) -> None:
    remedy = f"start a new run with +replay=<run>; only these may change: {', '.join(CHANGEABLE)}"
    faults = [
        f"resume: a run goes on with its own config; {word} cannot change it; {remedy}"
        for word in words
        if word.partition("=")[0] not in CHANGEABLE
    ]
    if faults:
        raise ConfigError(faults)


def global_batch(config: DictConfig) -> int:
    """Frames that all ranks together take in a step; 0 for a stage without batches."""
    sizes = [OmegaConf.select(config, key) for key in RANKS]
    return 0 if None in sizes else int(sizes[0]) * int(sizes[1]) * int(sizes[2])
