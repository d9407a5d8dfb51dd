"""The Optuna study behind a search: its storage, samplers and pruners by name, and what a trial reports while it trains."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avexp.core.errors import ConfigError, did_you_mean
from avexp.jobs.space import Space

SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "cmaes": "CmaEsSampler",
    "grid": "GridSampler",
    "nsga2": "NSGAIISampler",
    "qmc": "QMCSampler",
}
PRUNERS = {
    "none": "NopPruner",
    "asha": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "median": "MedianPruner",
}
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    # trials run side by side: a living one counts as a bad one, so that the next goes elsewhere
    "tpe": {"multivariate": True, "group": True, "constant_liar": True},
}
DIRECTIONS = ("maximize", "minimize")


def checked(search: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """What is wrong with a search's settings, one line each."""
    faults = []
    for key in search:
        if key not in names:
            faults.append(f"hydra.sweeper.{key}: no such key{did_you_mean(key, list(names))}")
    for key, known in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        if (value := search.get(key)) is not None and value not in known:
            faults.append(
                f"hydra.sweeper.{key}: {value} is none of {', '.join(known)}{did_you_mean(str(value), list(known))}"
            )
    objectives = search.get("objectives") or {}
    for name, direction in objectives.items():
        if direction not in DIRECTIONS:
            faults.append(f"hydra.sweeper.objectives.{name}: {direction} is neither maximize nor minimize")
    if not objectives:
        faults.append("hydra.sweeper.objectives: name at least one, such as score: maximize")
    if len(objectives) > 1 and search.get("pruner", "none") != "none":
        faults.append("hydra.sweeper.pruner: several objectives cannot be pruned by one; use pruner=none")
    if len(objectives) > 1 and search.get("sampler") == "cmaes":
        faults.append("hydra.sweeper.sampler: cmaes takes one objective; use nsga2 or tpe")
    return faults


def storage(address: str) -> Any:
    """A journal file (also on a shared disk), or a database by URL."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    return RDBStorage(address) if "://" in address else JournalStorage(JournalFileBackend(address))


def sampler(search: Mapping[str, Any], space: Space, drawn: int = 0) -> Any:
    """By name.

    Args:
        search: its settings.
        space: that it draws from.
        drawn: trials that the study has; those that are drawn after them are others. A sequence (qmc) knows its own place.

    Raises:
        ConfigError: options that it does not take, or a space that it cannot walk.
    """
    import optuna

    name = str(search["sampler"])
    options = {**OWN_OPTIONS.get(name, {}), **(search.get("sampler_options") or {})}
    if name == "grid":
        options = {"search_space": space.grid(), **options}
    try:
        # what Optuna calls experimental here (groups, constant liar) has been there since version 2
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        seed = search.get("seed")
        if seed is not None and name != "qmc":
            seed = int(seed) + 1000 * drawn
        return getattr(optuna.samplers, SAMPLERS[name])(seed=seed, **options)
    except (TypeError, ValueError) as fault:
        raise ConfigError([f"hydra.sweeper.sampler_options: {fault}"]) from None


def pruner(search: Mapping[str, Any]) -> Any:
    """By name.

    Raises:
        ConfigError: options that it does not take.
    """
    import optuna

    try:
        return getattr(optuna.pruners, PRUNERS[str(search.get("pruner") or "none")])(
            **(search.get("pruner_options") or {})
        )
    except (TypeError, ValueError) as fault:
        raise ConfigError([f"hydra.sweeper.pruner_options: {fault}"]) from None


TIE = 1e-6
"""Between trials of equal KPI; smaller than any difference of KPIs that matters."""


class Reporter:
    """Tells the study how a trial goes, from inside its job.

    Args:
        spec: ``study`` of job.json: storage, name, trial, metric, search.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.metric = str(spec["metric"])
        study = optuna.load_study(
            study_name=spec["name"], storage=storage(spec["storage"]), pruner=pruner(spec["search"])
        )
        number = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, int(spec["trial"]))
        self._trial = optuna.trial.Trial(study, number)
        self._sign = 1.0 if study.direction is optuna.study.StudyDirection.MAXIMIZE else -1.0

    def report(self, epoch: int, values: Mapping[str, float], loss: float) -> bool:
        """Report an epoch (1 for the first); whether the trial should end here.

        Early on many trials find nothing at all. Pruners let all that are equal go on, so of equal ones the lower loss counts.

        Args:
            epoch: that was validated.
            values: KPIs.
            loss: mean of the epoch, of at least 0.
        """
        value = values.get(self.metric)
        if value is None or value != value:
            return False
        behind = TIE * (loss / (1.0 + loss) if loss >= 0.0 else 1.0)  # a loss that is no number is behind all
        self._trial.report(float(value) - self._sign * behind, epoch)
        return bool(self._trial.should_prune())


def reporter_of(folder: Path) -> Reporter | None:
    """For a trial's folder; None where nothing is asked for."""
    from avexp.core.files import read_json

    path = folder / "job.json"
    spec = read_json(path).get("study") if path.is_file() else None
    return Reporter(spec) if spec else None
