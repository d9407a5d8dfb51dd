"""A sweep from its first word to its last trial: planned and frozen in a folder, then run, and gone on with at any time."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from avexp.core.errors import ConfigError, RunError
from avexp.core.files import digest_json, read_json
from avexp.core.ids import is_run_id
from avexp.core.overrides import Word
from avexp.core.progress import Advance
from avexp.core.run_folder import runs
from avexp.core.stage import conf_folder
from avexp.jobs.controller import Controller, Source
from avexp.jobs.freeze import TiersOf, freeze_data, freeze_runs
from avexp.jobs.frozen_conf import Confs, hydra_on, planner_on
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State, Trial
from avexp.jobs.plan import Planner, grid
from avexp.jobs.search import settings_of
from avexp.jobs.snapshot import snapshot
from avexp.jobs.space import Space

MOST_FAULTS = 20
"""That are told of one sweep."""
LATELY = 5
"""Earlier runs that tell how long a trial takes."""
RUN = "avexp.jobs.trial_run:run_trial"


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What was asked for.

    Attributes:
        folder: of the sweep.
        stage: key of SCHEMAS.
        function: ``module:name`` of the stage.
        then: called after it.
        words: overrides as typed, those with several values too.
        launcher: where its trials run.
        config_dirs: further folders of configs.
        saved: folder of a saved config that takes the place of conf/.
        root: name of the root config; the stage's own if empty.
        search: settings of a search; None for all combinations.
        command: as typed.
        outputs: under which earlier runs lie; where the sweep's folder says if None.
        tiers: a config -> where its shards come from, beside the storage root.
    """

    folder: Path
    stage: str
    function: str
    then: str = ""
    words: list[str] = field(default_factory=list)
    launcher: Launcher = field(default_factory=Launcher)
    config_dirs: list[Path] = field(default_factory=list)
    saved: Path | None = None
    root: str = ""
    search: dict[str, Any] | None = None
    command: str = ""
    outputs: Path | None = None
    tiers: TiersOf | None = None

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.folder.parent.name

    @property
    def home(self) -> Path:
        """Under which runs and sweeps of all stages lie."""
        return self.outputs or self.folder.parents[2]

    @property
    def confs(self) -> Confs:
        """Where its configs lie, before they are frozen."""
        root = self.root or ("config" if self.saved is not None else self.stage)
        return Confs(folder=self.saved or conf_folder(), root=root, dirs=self.config_dirs)

    @property
    def digest(self) -> str:
        """Of what is asked for, wherever it runs."""
        saved = (self.saved / "config.yaml").read_text() if self.saved is not None else ""
        return digest_json([self.stage, self.function, sorted(self.words), self.search, saved, self.root])


def create(plan: SweepPlan, advance: Advance | None = None, jobs: Sequence[Sequence[str]] | None = None) -> Ledger:
    """Plan and freeze: code, configs and trials are written before anything is submitted.

    Args:
        plan: what was asked for.
        advance: told how many trials are planned.
        jobs: the words of each trial, where another sweeper than ours chose them.

    Raises:
        ConfigError: what does not fit, in any trial.
    """
    folder = plan.folder
    check(plan)
    folder.mkdir(parents=True, exist_ok=True)
    words = freeze_runs(plan.stage, plan.words, plan.home)
    functions = [one.partition(":")[0] for one in (plan.function, plan.then) if one]
    code = snapshot(folder / "code", [*functions, *plan.confs.modules(), *_targets(words)])
    confs = plan.confs.frozen(folder, code)
    constant, rows, count = grid_of(plan, words)
    if jobs is not None:
        rows, count = (list(words) for words in jobs), len(jobs)
    swept = [word for word in words if word not in constant]
    with planner_on(confs, plan.stage, constant) as planner:
        search = search_of(plan, swept)
        freeze_data(planner, swept, (search or {}).get("space") or {}, plan.tiers)
        planner.base()
        trials = list(_distinct(_planned(planner, rows, count, advance)))
        planner.write_bases(folder / "bases")
    job = {"run": RUN, "stage": plan.stage, "function": plan.function, "then": plan.then, "sweep": folder.name}
    facts = {
        "kind": "sweep", "job": job, "stage": plan.stage, "words": words, "planned_with": planner.words,
        "pins": planner.pins, "confs": confs.plain(), "launcher": asdict(plan.launcher), "search": search,
        "command": plan.command, "digest": plan.digest, "code": str(code) if code else None, "created": time.time(),
        "host": os.uname().nodename, "python": sys.executable, "cwd": str(Path.cwd()),
    }  # fmt: skip
    return Ledger.create(folder, facts, trials)


def _targets(words: Sequence[str]) -> list[str]:
    return [value for key, _, value in (word.partition("=") for word in words) if key.endswith("_target_")]


def search_of(plan: SweepPlan, swept: Sequence[str]) -> dict[str, Any] | None:
    """Checked settings of a search, with what was typed laid over its space; None for all combinations."""
    if plan.search is None:
        return None
    return settings_of(plan.search, {key: text for key, _, text in (word.partition("=") for word in swept)})


def check(plan: SweepPlan) -> None:
    """What can be known to be wrong before anything is made or written.

    Raises:
        ConfigError: each value that does not fit, by itself.
    """
    constant, _, _ = grid_of(plan, plan.words)
    swept = [word for word in plan.words if word not in constant]
    with planner_on(plan.confs, plan.stage, constant) as planner:
        planner.base()
        search = search_of(plan, swept)
        check_space(planner, search)
        rows = _one_by_one([Word(word) for word in swept]) if search is None else ()
        faults = dict.fromkeys(fault for row in rows for fault in planner.check(row))
    if faults:
        raise ConfigError(list(faults)[:MOST_FAULTS])


def _one_by_one(swept: Sequence[Word]) -> Iterator[list[str]]:
    """Each value once, beside the first option of each swept group: a key may be that option's."""
    first = {word.key: word.values()[0] for word in swept if word.composed}
    for word in swept:
        others = [option for key, option in first.items() if key != word.key]
        yield from ([*others, value] for value in word.values())


def check_space(planner: Planner, search: Mapping[str, Any] | None) -> None:
    """A search's space against the config, before anything is asked of it.

    Raises:
        ConfigError: values that fit nowhere, all of them.
    """
    if search is None:
        return
    faults = dict.fromkeys(fault for words in Space(search["space"]).probes() for fault in planner.check(words))
    if faults:
        raise ConfigError(list(faults)[:MOST_FAULTS])


@dataclass(frozen=True)
class Preview:
    """What a plan comes to.

    Attributes:
        trials: of a grid.
        search: settings of a search.
        shape: resources of a trial that changes none, as canonical JSON.
        seconds: that a trial took lately; None if there was none.
    """

    trials: list[Trial]
    search: dict[str, Any] | None
    shape: str
    seconds: float | None


def preview(plan: SweepPlan) -> Preview:
    """The trials as they would be planned now; nothing is written."""
    constant, rows, count = grid_of(plan, plan.words)
    with planner_on(plan.confs, plan.stage, constant) as planner:
        search = search_of(plan, [word for word in plan.words if word not in constant])
        shape = planner.shape(planner.base(), {})
        check_space(planner, search)
        trials = list(_distinct(_planned(planner, rows, count, None)))
    times = []
    for run in runs(plan.home, plan.stage):
        if run.state() == "finished" and run.name == plan.name and run.cost.is_file():
            times.append(float(read_json(run.cost)["wall_s"]))
        if len(times) == LATELY:
            break
    return Preview(trials, search, shape, median(times) if times else None)


def grid_of(plan: SweepPlan, words: Sequence[str]) -> tuple[list[str], Iterator[list[str]], int]:
    """Constant words, each trial's own, and how many trials. A search takes the swept words as its space."""
    with hydra_on(plan.confs):
        return grid(words) if plan.search is None else ([word for word in words if not Word(word).swept], iter(()), 0)


def _planned(planner: Planner, rows: Iterator[list[str]], count: int, advance: Advance | None) -> Iterator[Trial]:
    """Trials of a grid; the faults of all of them at once."""
    faults: list[str] = []
    for number, words in enumerate(rows):
        try:
            yield planner.trial(number, words)
        except ConfigError as fault:
            faults += [one for one in fault.faults if one not in faults]
        if advance is not None:
            advance(number + 1, count)
    if faults:
        raise ConfigError(faults[:MOST_FAULTS])


def _distinct(trials: Iterator[Trial]) -> Iterator[Trial]:
    """Equal trials are found, and not run twice."""
    seen: dict[str, int] = {}
    for trial in trials:
        if trial.digest in seen:
            yield Trial(**{**trial.__dict__, "state": State.same, "same_as": seen[trial.digest]})
        else:
            seen[trial.digest] = trial.number
            yield trial


def run(
    ledger: Ledger,
    launcher: Launcher | None = None,
    source: Source | None = None,
    show: Callable[[Ledger], None] | None = None,
    submit_only: bool = False,
) -> Controller:
    """Submit and watch until all trials ended.

    Args:
        ledger: of the sweep.
        launcher: another than the ledger's.
        source: of further trials: a search.
        show: called while it runs.
        submit_only: return once everything planned is submitted.
    """
    chosen = launcher or Launcher.of(ledger.fact("launcher"))
    job, code = ledger.fact("job"), ledger.fact("code")
    modules = [str(job[name]).partition(":")[0] for name in ("run", "function", "then") if job.get(name)]
    backend = chosen.backend(ledger.folder, modules)
    controller = Controller(ledger, backend, chosen.rules, Path(code) if code else None, source, show)
    controller.run(submit_only)
    return controller


def sweeps(outputs: Path) -> list[Path]:
    """Folders of all sweeps and map jobs, newest first."""
    found = [path.parent for path in outputs.glob(f"*/*/*/{Ledger.FILE}")]
    return sorted(found, key=lambda path: path.name, reverse=True)


def find_sweep(outputs: Path, reference: str) -> Path:
    """A sweep by folder, id, end of an id, or ``latest``.

    Raises:
        RunError: there is none.
    """
    folder = Path(reference)
    if (folder / Ledger.FILE).is_file():
        return folder.resolve()
    known = sweeps(outputs)
    fitting = known[:1] if reference == "latest" else [
        path for path in known if path.name.startswith(reference) or path.name.endswith(reference)
    ]  # fmt: skip
    if len(fitting) == 1 and reference:
        return fitting[0]
    names = ", ".join(path.name for path in known[:5]) or "none"
    what = "several sweeps fit" if fitting else f"no such sweep under {outputs}"
    raise RunError(reference, what, f"the newest: {names}")


def unfinished(outputs: Path, digest: str) -> Path | None:
    """The newest sweep of an equal plan that is neither at its end nor cancelled."""
    for folder in sweeps(outputs):
        if not is_run_id(folder.name):
            continue
        ledger = Ledger(folder)
        same = ledger.fact("digest") == digest and not (ledger.fact("ended") or ledger.fact("cancelled"))
        ledger.close()
        if same:
            return folder
    return None
