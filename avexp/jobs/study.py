"""The Optuna study behind a search: its storage, samplers and pruners by name, and what a trial reports while it trains."""

import warnings
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from avexp.core.errors import ConfigError, did_you_mean
from avexp.core.progress import console
from avexp.jobs.best import objectives_of, value_of
from avexp.jobs.ledger import Ledger, State
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
ENOUGH = 5
"""Finished trials below which importances are made up."""
MOST_TELL = 2000
"""Trials of a grid that importances are of; of more, evenly so many."""
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


def importances_of(ledger: Ledger) -> dict[str, float]:
    """Importance of each parameter for the first objective, summing to 1; empty where too few trials tell, or of one parameter.

    By fANOVA (Hutter et al. 2014): the share of the objective's variance that each explains, of a random forest over the trials.
    Not PED-ANOVA, Optuna's default: of a small grid's few good trials it ranks what hardly matters first. In a process of its
    own: the forest's library would leave 200 MiB with the launcher.
    """
    some = list(ledger.each(State.finished, limit=ENOUGH))
    if ledger.fact("search") is None and (len(some) < ENOUGH or len(some[0].words) < 2):
        return {}  # seen without a process
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_importances, ledger.folder).result()
    except BrokenProcessPool:
        console.print("importances are left out: the process that reckons them was ended, as by a limit of memory")
        return {}


def _importances(folder: Path) -> dict[str, float]:
    import optuna

    ledger = Ledger(folder)
    search = ledger.fact("search")
    try:
        study = _grid_study(ledger) if search is None else _study(ledger, search)
        if sum(frozen.state.name == "COMPLETE" for frozen in study.get_trials(deepcopy=False)) < ENOUGH:
            return {}
        several = len((search or {}).get("objectives") or ()) > 1
        target = (lambda frozen: frozen.values[0]) if several else None
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
        if len(found) < 2:
            return {}
    except (KeyError, ValueError, RuntimeError):
        return {}
    finally:
        ledger.close()
    return {name: float(share) for name, share in found.items()}


def _study(ledger: Ledger, search: Mapping[str, Any]) -> Any:
    import optuna

    address = str(search.get("storage") or ledger.folder / "study.journal")
    return optuna.load_study(study_name=search.get("study") or ledger.folder.name, storage=storage(address))


def _grid_study(ledger: Ledger) -> Any:
    """The finished trials of a grid, as if they had been asked for."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, direction = next(iter(objectives_of(ledger).items()))
    told = [(trial, value_of(trial, name)) for trial in ledger.each(State.finished)]
    rows = [(dict(word.split("=", 1) for word in trial.words), value) for trial, value in told if value is not None]
    rows = rows[:: 1 + len(rows) // MOST_TELL]
    space: dict[str, BaseDistribution] = {}
    for key in rows[0][0] if rows else ():
        texts = sorted({row[key] for row, _ in rows})
        numbers = [number for number in map(_number, texts) if number is not None]
        whole = len(numbers) == len(texts) and len(texts) > 1
        space[key] = FloatDistribution(min(numbers), max(numbers)) if whole else CategoricalDistribution(texts)
    study = optuna.create_study(direction=optuna.study.StudyDirection[direction.upper()])
    for row, value in rows:
        values = {
            key: row[key] if isinstance(one, CategoricalDistribution) else _number(row[key])
            for key, one in space.items()
        }
        study.add_trial(optuna.trial.create_trial(params=values, distributions=space, value=value))
    return study


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def reporter_of(folder: Path) -> Reporter | None:
    """For a trial's folder; None where nothing is asked for."""
    from avexp.core.files import read_json

    path = folder / "job.json"
    spec = read_json(path).get("study") if path.is_file() else None
    return Reporter(spec) if spec else None
