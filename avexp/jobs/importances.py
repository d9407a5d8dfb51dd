"""Which parameter decides: ``python -m avexp.jobs.importances <sweep folder>`` prints its share of each as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avexp.core.progress import console
from avexp.jobs.best import objectives_of, value_of
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.study import storage

ENOUGH = 5
"""Finished trials below which importances are made up."""
MOST_TELL = 2000
"""Trials of a grid that importances are of; of more, evenly so many."""
LONGEST_S = 300.0


def importances_of(ledger: Ledger) -> dict[str, float]:
    """Importance of each parameter for the first objective, summing to 1; empty where too few trials tell, or of one parameter.

    By fANOVA (Hutter et al. 2014): the share of the objective's variance that each explains, of a random forest over the trials.
    Not PED-ANOVA, Optuna's default: of a small grid's few good trials it ranks what hardly matters first. In a process of its
    own: the forest's library would leave 200 MiB with the launcher.
    """
    some = list(ledger.each(State.finished, limit=ENOUGH))
    if ledger.fact("search") is None and (len(some) < ENOUGH or len(some[0].words) < 2):
        return {}  # seen without a process
    command = [sys.executable, "-m", "avexp.jobs.importances", str(ledger.folder)]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=True, env=settings)
    except subprocess.TimeoutExpired:
        console.print(f"importances are left out: they took more than {LONGEST_S:.0f} s")
        return {}
    except subprocess.CalledProcessError as fault:
        why = (fault.stderr.strip().splitlines() or [f"exit code {fault.returncode}"])[-1]
        console.print(f"importances are left out: {why}", markup=False)
        return {}
    found: dict[str, float] = json.loads(done.stdout)
    return found


def reckoned(ledger: Ledger) -> dict[str, float]:
    """The same, in this process."""
    import optuna

    search = ledger.fact("search")
    try:
        study = _grid_study(ledger) if search is None else _study(ledger, search)
        if sum(frozen.state.name == "COMPLETE" for frozen in study.get_trials(deepcopy=False)) < ENOUGH:
            return {}
        several = len((search or {}).get("objectives") or ()) > 1
        target = (lambda frozen: frozen.values[0]) if several else None
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    except (KeyError, ValueError, RuntimeError):  # trials that are all alike, or have nothing in common
        return {}
    return {name: float(share) for name, share in found.items()} if len(found) > 1 else {}


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


if __name__ == "__main__":
    sys.stdout.write(json.dumps(reckoned(Ledger(Path(sys.argv[1])))))
