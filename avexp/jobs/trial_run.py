"""A trial of a sweep inside its job: the frozen config becomes a run folder, and the stage's function runs on it."""

import os
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.config import over_schema
from avexp.core.errors import ConfigError
from avexp.core.files import read_json, write_text
from avexp.core.instantiate import refused_targets
from avexp.core.lock import write_lock
from avexp.core.preflight import typed, typed_with_faults
from avexp.core.resume import note_resume, resumed_config
from avexp.core.run_folder import RunFolder
from avexp.jobs.ledger import Ledger

MOST_BASES = 64
"""That are read ahead: they stay in memory."""
STATES = {"finished": "finished", "stopped": "stopped", "pruned": "pruned"}


def run_trial(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Start a trial, or go on with it.

    Args:
        folder: of the trial.
        spec: job.json: stage, function, then, base, changes, words.

    Returns:
        state, value and metrics.
    """
    run, stage = RunFolder(folder), spec["stage"]
    first = int(os.environ.get("SLURM_PROCID", "0")) == 0
    if run.lock.is_file():
        config = resumed_config(run)
        if first:
            note_resume(run, [])
    else:
        config = frozen_config(Path(spec["base"]), stage, spec["changes"])
        if first:
            begin(run, stage, config, spec["words"])
    found, faults = typed_with_faults(config, stage)
    faults += refused_targets(config)
    if faults:
        raise ConfigError(faults)
    value = _call(spec["function"], found, run)
    if spec.get("then"):
        _call(spec["then"], typed(config, stage), run)
    if not first:  # how the run stands is for the first rank to say: it may just be writing that it was stopped
        return {"state": "finished"}
    state = run.state()
    if state == "running":
        run.set_status("finished")
        state = "finished"
    number = float(value) if isinstance(value, int | float) else None
    return {"state": STATES.get(state, "failed"), "value": number, "metrics": final_values(run)}


def prepare(folder: Path) -> None:
    """Read what all trials of a sweep begin with, before they are forked."""
    ledger = Ledger(folder)
    stage = ledger.fact("stage")
    ledger.close()
    for base in islice(sorted((folder / "bases").glob("*.yaml")), MOST_BASES):
        _base(base, stage)


@lru_cache(MOST_BASES)
def _base(path: Path, stage: str) -> DictConfig:
    """A frozen config over its schema; not to be changed."""
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    config = over_schema(loaded, stage)
    OmegaConf.set_struct(config, False)
    return config


def frozen_config(base: Path, stage: str, changes: Mapping[str, Any]) -> DictConfig:
    """The config as it was planned."""
    config = deepcopy(_base(base, stage))
    for key, value in changes.items():
        OmegaConf.update(config, key, value, merge=False)
    return config


def begin(run: RunFolder, stage: str, config: DictConfig, words: list[str]) -> None:
    """The same files as a run that was typed."""
    hydra = {"config.yaml": OmegaConf.to_yaml(config), "overrides.yaml": OmegaConf.to_yaml(OmegaConf.create(words))}
    for name, text in hydra.items():
        write_text(run.hydra / name, text)
    write_lock(run, stage, config, words)
    run.set_status("running", pid=os.getpid())


def final_values(run: RunFolder) -> dict[str, float]:
    """The last said of each metric, from the run's own file."""
    import json

    found: dict[str, float] = {}
    for line in run.metrics.read_text().splitlines() if run.metrics.is_file() else []:
        try:
            found |= json.loads(line)["values"]
        except (ValueError, KeyError):
            continue
    return found


@lru_cache
def _function(dotted: str) -> Any:
    module, _, name = dotted.partition(":")
    return getattr(import_module(module), name)


def _call(dotted: str, config: Any, run: RunFolder) -> Any:
    return _function(dotted)(config, run)


def sweep_tags(run: RunFolder) -> dict[str, str]:
    """Tags that make a trial's run a child of its sweep's; empty for a run that is no trial."""
    if not (run.path / "job.json").is_file():
        return {}
    spec = read_json(run.path / "job.json")
    parent = RunFolder(run.path.parent).tracking_state
    found = {"sweep": str(spec.get("sweep", "")), "trial": str(spec.get("number", ""))}
    if parent.is_file() and (number := read_json(parent).get("run_id")):
        found["mlflow.parentRunId"] = str(number)
    return found
