"""What a sweep has beside its trials: its run in MLflow, and in the end its best trials as experiments, pictures, a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.files import write_bytes, write_text
from avexp.core.instantiate import build
from avexp.core.lock import COMMIT
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder
from avexp.jobs.best import best_trials, experiment_text, objectives_of, value_of
from avexp.jobs.frozen_conf import Confs
from avexp.jobs.importances import importances_of
from avexp.jobs.ledger import Ledger, State, Trial
from avexp.jobs.show import cost_line, rounded
from avexp.report import sweep_plots
from avexp.report.html import Card, Report
from avexp.report.tables import Table
from avexp.store.tracker import Tracker

MOST_BEST = 5
"""Experiments that are written of a Pareto front."""
MOST_ROWS = 200


def announce(folder: Path) -> None:
    """The sweep's own run in MLflow: its trials become that run's children. Bounded; a dead server delays it to the end."""
    tracker = _tracker(folder)
    if tracker is not None:
        tracker.close()


def conclude(folder: Path) -> None:
    """Experiments, pictures, report, MLflow; where they lie."""
    ledger = Ledger(folder)
    best = best_trials(ledger)
    experiments = []
    for place, (trial, values) in enumerate(best[:MOST_BEST]):
        name = "best" if place == 0 else f"best-{place + 1}"
        path = folder / "conf" / "experiment" / f"{name}.yaml"
        if ledger.fact("stage") == "train" and not Confs.of(ledger).saved:
            write_text(path, experiment_text(ledger, trial, values))
            experiments.append(path)
    pictures = _pictures(ledger)
    for name, (content, _) in pictures.items():
        write_bytes(folder / "pictures" / f"{name}.png", content)
    _report(ledger, best, pictures).write(RunFolder(folder).report)
    tracker = _tracker(folder)
    if tracker is not None:
        if best:
            tracker.log({f"best/{name}": value for name, value in best[0][1].items()}, 0)
        for path in [RunFolder(folder).report, *sorted((folder / "pictures").glob("*.png")), *experiments]:
            tracker.picture(path)
        tracker.finish("finished")
        if behind := tracker.close():
            console.print(behind, markup=False)
    console.print(f"report      {RunFolder(folder).report}", markup=False, soft_wrap=True)
    if len(best) > 1:
        front = f"front       {len(best)} trials that no other beats in all: avexp sweep best {folder.name}"
        console.print(front, markup=False, soft_wrap=True)
    if experiments:
        words = f"python train.py --config-dir {folder / 'conf'} +experiment=best"
        console.print(f"best        {words}", markup=False, soft_wrap=True)
    elif best and ledger.fact("stage") == "train":
        words = f"python train.py +replay={folder / str(best[0][0].number)}"
        console.print(f"best        {words}", markup=False, soft_wrap=True)
    elif best:
        words = " ".join(best[0][0].words)
        console.print(f"best        trial {best[0][0].number}: {words}", markup=False, soft_wrap=True)
    ledger.close()


def _tracker(folder: Path) -> Tracker | None:
    """Of the sweep's own run; None where nothing is tracked."""
    ledger = Ledger(folder)
    bases = sorted((folder / "bases").glob("*.yaml"))
    config = OmegaConf.load(bases[0]) if bases else None
    node = config.get("store") if isinstance(config, DictConfig) else None
    if node is None or not isinstance(config, DictConfig):
        return None
    tracker: Tracker = build(
        OmegaConf.to_container(node, resolve=True), "store", root=config.storage.root, experiment=config.name
    )
    search: Mapping[str, Any] = ledger.fact("search") or {}
    params = {"command": ledger.fact("command"), "space": search.get("space"), "sampler": search.get("sampler")}
    tags = {"stage": "sweep", "experiment": str(config.name), "sweep": folder.name}
    tracker.start(folder, folder.name, f"{config.name}/{folder.name}", params, tags)
    ledger.close()
    return tracker


def _ended(ledger: Ledger) -> list[Trial]:
    """In the order of their end, copies of others left out."""
    found = [trial for trial in ledger.each() if trial.ended is not None and trial.state is not State.same]
    return sorted(found, key=lambda trial: trial.ended or 0.0)


def _pictures(ledger: Ledger) -> dict[str, tuple[bytes, str]]:
    """Name -> PNG and caption."""
    objectives, trials = objectives_of(ledger), _ended(ledger)
    found: dict[str, tuple[bytes, str]] = {}
    first, direction = next(iter(objectives.items()))
    values = [value_of(trial, first) if trial.state is State.finished else None for trial in trials]
    reached = {place: value_of(one, first) for place, one in enumerate(trials) if one.state is State.pruned}
    pruned = {place: value for place, value in reached.items() if value is not None}
    if not any(value is not None for value in values):
        return found
    maximize = direction == "maximize"
    found["history"] = sweep_plots.history(values, pruned, first, maximize), "Every trial, and the best so far."
    shares = importances_of(ledger)
    if shares:
        found["importances"] = sweep_plots.importances(shares), "How much of the difference each parameter explains."
    done = [(trial, value) for trial, value in zip(trials, values, strict=True) if value is not None]
    rows = [dict(word.split("=", 1) for word in trial.words) for trial, _ in done]
    if rows and rows[0]:
        content = sweep_plots.parallel(rows, [value for _, value in done], first, maximize)
        found["parallel"] = content, "A line a trial: what it was given, and what it came to."
    if len(objectives) == 2:
        names = tuple(objectives)
        both = [(trial, [value_of(trial, name) for name in names]) for trial, _ in done]
        points = [
            (trial.number, (pair[0], pair[1])) for trial, pair in both if pair[0] is not None and pair[1] is not None
        ]
        numbers = {trial.number for trial, _ in best_trials(ledger)}
        front = [place for place, (number, _) in enumerate(points) if number in numbers]
        plotted = [(float(x or 0.0), float(y or 0.0)) for _, (x, y) in points]
        found["pareto"] = sweep_plots.pareto(plotted, front, (names[0], names[1])), "What can be had for what."
    return found


def _report(
    ledger: Ledger, best: list[tuple[Trial, dict[str, float]]], pictures: Mapping[str, tuple[bytes, str]]
) -> Report:
    counts = ledger.counts()
    report = Report(f"avexp: sweep of {ledger.folder.parent.name}", f"Sweep {ledger.folder.name}")
    if best:
        trial, values = best[0]
        report.add_cards([Card(name, f"{value:.4f}", f"trial {trial.number}") for name, value in values.items()])
    search = ledger.fact("search") or {}
    report.add_facts({
        "command": ledger.fact("command"), "trials": ", ".join(f"{count} {state}" for state, count in counts.items()),
        "search": f"{search['sampler']}, pruner {search.get('pruner', 'none')}" if search else "all combinations",
        "cost": cost_line(ledger.folder, ledger.each()), "code": _commit(ledger), "folder": ledger.folder,
    })  # fmt: skip
    if pictures:
        report.section("The sweep").plots([pictures[name] for name in pictures])
    objectives = objectives_of(ledger)
    columns = ["trial", "state", *objectives, "why", "changes"]
    rows = []
    for trial in ledger.each(limit=MOST_ROWS):
        values_ = [value_of(trial, name) for name in objectives]
        cells = ["-" if value is None else f"{value:.4f}" for value in values_]
        why = f"as trial {trial.same_as}" if trial.same_as is not None else trial.reason.partition("\n")[0]
        rows.append([str(trial.number), str(trial.state), *cells, why, " ".join(map(rounded, trial.words))])
    if not any(row[-2] for row in rows):
        columns, rows = [*columns[:-2], columns[-1]], [[*row[:-2], row[-1]] for row in rows]
    report.section("Trials").table(Table(columns, rows, numbers=frozenset(range(2, 2 + len(objectives)))))
    return report


def _commit(ledger: Ledger) -> str:
    path = Path(ledger.fact("code") or "-") / COMMIT
    return path.read_text().strip() if path.is_file() else "installed package"
