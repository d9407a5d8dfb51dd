"""``-m`` as a person types it, and ``avexp sweep attach``: from words to the last line that is printed."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from avexp.core.command_line import program
from avexp.core.errors import RunError
from avexp.core.progress import bar, console
from avexp.core.stage import STOPPED, SweepWords
from avexp.jobs.dry_run import dry_run
from avexp.jobs.freeze import TiersOf
from avexp.jobs.frozen_conf import planner_of
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import LIVING, Ledger, State
from avexp.jobs.show import Progress, table
from avexp.jobs.snapshot import environment
from avexp.jobs.sweep import SweepPlan, create, find_sweep, run, unfinished

Conclude = Callable[[Path], None]


def plan_of(
    asked: SweepWords,
    config: DictConfig,
    words: Sequence[str],
    settings: Mapping[str, Any],
    search: dict[str, Any] | None,
    tiers: TiersOf | None = None,
) -> SweepPlan:
    """What Hydra was asked for.

    Args:
        asked: the stage and what was typed.
        config: Hydra's.
        words: overrides as typed.
        settings: of the launcher.
        search: of the search.
        tiers: a config -> where its shards come from, beside the storage root.
    """
    return SweepPlan(
        folder=Path(str(config.hydra.sweep.dir)).absolute(),
        stage=asked.entry.stage,
        function=asked.entry.function,
        then=asked.entry.then,
        words=[word for word in words if not word.startswith("hydra")],
        launcher=Launcher.of(settings),
        config_dirs=asked.config_dirs,
        saved=asked.line.saved_config,
        root=asked.line.config_name or "",
        search=search,
        command=f"{program()} {shlex.join(asked.typed)}",
        outputs=asked.outputs,
        tiers=tiers,
    )


def sweep(
    plan: SweepPlan, asked: SweepWords, announce: Conclude | None = None, conclude: Conclude | None = None
) -> None:
    """Start a sweep, or go on with one.

    Args:
        plan: what was asked for.
        asked: what was typed; takes the exit code.
        announce: called with the folder of a new sweep before its first trial.
        conclude: called with the folder once all trials ended.
    """
    folder = plan.folder
    known: Path | None = None
    if asked.line.resume == "auto":
        known = unfinished(plan.home, plan.digest)
    elif asked.line.resume is not None:
        known = find_sweep(plan.home, asked.line.resume)
    elif (folder / Ledger.FILE).is_file():
        known = folder  # the same hydra.sweep.dir, typed again
    if asked.line.dry_run and known is not None:
        console.print(f"would go on with {known}, and has not", markup=False, soft_wrap=True)
        table(Ledger(known))
        asked.exit_code = 0
        return
    if asked.line.dry_run:
        asked.exit_code = dry_run(plan)
        return
    if known is not None:
        ledger = Ledger(known)
        if ledger.fact("digest") != plan.digest:
            raise RunError(
                str(known), "is a sweep of other words", "choose another hydra.sweep.dir, or type its own again"
            )
        console.print(f"go on with {known}", markup=False)
    else:
        ledger = _begun(plan, announce)
    asked.exit_code = exit_code(watch(ledger, plan.launcher, conclude))


def _begun(plan: SweepPlan, announce: Conclude | None) -> Ledger:
    """A new sweep, of which nothing is submitted yet: a person who interrupts it here is told so."""
    try:
        with interruptible():
            with bar("plan trials") as advance:
                ledger = create(plan, advance)
            counts, search = ledger.counts(), ledger.fact("search")
            count = int(search["trials"]) if search else sum(counts.values())
            same = f", {counts[State.same]} of them equal to others" if counts.get(State.same) else ""
            what = f"{'a search of ' if search else ''}{count} trial{'s' * (count != 1)}{same}"
            console.print(f"sweep {plan.folder}: {what}", markup=False, soft_wrap=True)
            if announce is not None:
                announce(plan.folder)
            return ledger
    except KeyboardInterrupt:
        planned = (plan.folder / Ledger.FILE).is_file()
        hint = f"; go on with: avexp sweep attach {plan.folder}" if planned else ""
        console.print(f"\nnothing was submitted{hint}", markup=False, soft_wrap=True)
        raise SystemExit(STOPPED) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """A SIGTERM is a Ctrl-C here: whoever ends a launcher is told what goes on without it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def launched(plan: SweepPlan, jobs: Sequence[Sequence[str]], first: int) -> list[tuple[float | None, str]]:
    """Value and fault of each of these jobs, in order: a sweep of its own for each call."""
    folder = plan.folder / f"jobs-{first}"
    with bar("plan trials") as advance:
        ledger = create(SweepPlan(**{**plan.__dict__, "folder": folder}), advance, jobs)
    watch(ledger, plan.launcher, None)
    ledger = Ledger(folder)
    found = []
    for trial in ledger.each():
        one = ledger.trial(trial.same_as) if trial.same_as is not None else trial
        found.append((one.value, "" if one.state in (State.finished, State.pruned) else one.reason or str(one.state)))
    ledger.close()
    return found


def watch(ledger: Ledger, launcher: Launcher | None = None, conclude: Conclude | None = None) -> Path:
    """Run a planned sweep to its end, or detach; Ctrl-C leaves its jobs alone."""
    folder = ledger.folder
    chosen = launcher or Launcher.of(ledger.fact("launcher"))
    source = _source(ledger, chosen)
    if chosen.detach:
        if chosen.name == "slurm" and source is None:
            run(ledger, chosen, submit_only=True)
        ledger.close()
        detach(folder)
        return folder
    with Progress(ledger) as progress, interruptible():
        try:
            run(ledger, chosen, source, progress.show)
        except KeyboardInterrupt:
            progress.close()
            console.print(
                f"\nleft alone: jobs go on; go on with: avexp sweep attach {folder}", markup=False, soft_wrap=True
            )
            ledger.close()
            raise SystemExit(STOPPED) from None
    table(ledger)
    if conclude is not None and not ledger.fact("stopped"):
        conclude(folder)
    ledger.close()
    return folder


def _source(ledger: Ledger, launcher: Launcher) -> Any:
    if ledger.fact("search") is None:
        return None
    from avexp.jobs.search import Search

    return Search(ledger, planner_of(ledger), launcher.at_once)


def detach(folder: Path) -> None:
    """A controller in the background."""
    code = Ledger(folder).fact("code")
    with (folder / "controller.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "avexp.cli", "sweep", "attach", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment(Path(code) if code else None)},
        )
    console.print(f"goes on in the background (process {process.pid}, log {folder / 'controller.log'})", markup=False)
    console.print(f"watch       avexp sweep watch {folder}", markup=False)


def exit_code(folder: Path) -> int:
    """Of a sweep as it stands: 1 where a trial failed."""
    if not (folder / Ledger.FILE).is_file():
        return 1
    ledger = Ledger(folder)
    counts = ledger.counts()
    detached = bool(Launcher.of(ledger.fact("launcher")).detach)
    ledger.close()
    if counts.get(State.failed):
        return 1
    return 0 if detached or not any(counts.get(state) for state in (*LIVING, State.planned)) else STOPPED
