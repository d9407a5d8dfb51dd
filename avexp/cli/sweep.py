"""``avexp sweep ...``: look at sweeps and act on them."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avexp.cli.options import OUTPUTS, AsJson, Outputs
from avexp.core.errors import RunError
from avexp.core.progress import console, say_json

if TYPE_CHECKING:
    from avexp.jobs.ledger import Ledger

app = typer.Typer(no_args_is_help=True, help="Look at sweeps, and go on with, extend, retry or cancel them.")

Sweep = Annotated[str, typer.Argument(help="Folder, id, end of an id, or latest.")]
Of = Annotated[str, typer.Option("--of", help="Sweep: folder, id, end of an id, or latest.")]
LATEST = "latest"
WATCH_S = 2.0
STARTS_S = 15.0
"""A controller in the background has begun within this [s]."""
LOG_POLL_S = 0.5


def _open(outputs: Path, sweep: str) -> "Ledger":
    from avexp.jobs.ledger import Ledger
    from avexp.jobs.sweep import find_sweep

    return Ledger(find_sweep(outputs, sweep))


@app.command("ls")
def ls(outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """Sweeps and map jobs, newest first."""
    from avexp.jobs.ledger import Ledger
    from avexp.jobs.sweep import sweeps

    rows = []
    for folder in sweeps(outputs):
        ledger = Ledger(folder)
        rows.append({"sweep": folder.name, "name": folder.parent.name, "kind": ledger.fact("kind"), **_summary(ledger)})
        ledger.close()
    if as_json:
        say_json(rows)
        return
    for row in rows:
        counts = ", ".join(f"{count} {state}" for state, count in row["counts"].items())
        alone = "; nobody runs it" if row["unsettled"] and not row["attended"] else ""
        console.print(f"{row['sweep']}  {row['name']:<14} {counts}{alone}", markup=False, highlight=False)
    if not rows:
        console.print(f"no sweeps under {outputs}; start one with python train.py -m +experiment=quickstart seed=1,2")


def _summary(ledger: "Ledger") -> dict[str, Any]:
    from avexp.core.files import read_json
    from avexp.jobs.controller import WHO, attended
    from avexp.jobs.show import unsettled

    path = ledger.folder / WHO
    return {
        "counts": ledger.counts(), "path": str(ledger.folder), "command": ledger.fact("command"),
        "stopped": ledger.fact("stopped") or "", "attended": attended(ledger.folder),
        "unsettled": unsettled(ledger),
        "controller": read_json(path) if path.is_file() else None,
    }  # fmt: skip


@app.command("status")
def status(
    sweep: Sweep = LATEST,
    everything: Annotated[bool, typer.Option("--all", help="All trials.")] = False,
    outputs: Outputs = OUTPUTS,
    as_json: AsJson = False,
) -> None:
    """Trials with state, node, step, value and cost."""
    from avexp.jobs.show import row_of, table

    ledger = _open(outputs, sweep)
    if as_json:
        say_json({**_summary(ledger), "trials": [row_of(ledger, trial) for trial in ledger.each()]})
        return
    table(ledger, everything)


@app.command("watch")
def watch(sweep: Sweep = LATEST, outputs: Outputs = OUTPUTS) -> None:
    """The table again and again, as long as anybody runs the sweep. It changes nothing; Ctrl-C ends it."""
    from rich.console import Group
    from rich.live import Live

    from avexp.jobs.controller import attended
    from avexp.jobs.show import grid, summary, table, unsettled

    ledger = _open(outputs, sweep)
    began = time.monotonic()
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while unsettled(ledger) and (attended(ledger.folder) or time.monotonic() - began < STARTS_S):
            drawn = time.monotonic()
            live.update(Group(grid(ledger, False), *summary(ledger)), refresh=True)
            time.sleep(max(WATCH_S, 9 * (time.monotonic() - drawn)))  # of a core a tenth at most
        live.update("")
    table(ledger)


@app.command("attach")
def attach(sweep: Sweep = LATEST, outputs: Outputs = OUTPUTS) -> None:
    """Go on with a sweep: settle what ended, submit what is planned, wait."""
    from avexp.evaluate.after_sweep import conclude
    from avexp.jobs.command import exit_code
    from avexp.jobs.command import watch as run

    ledger = _open(outputs, sweep)
    if ledger.fact("kind") != "sweep":
        raise RunError(str(ledger.folder), "is a map job", "type its own command again: it goes on")
    raise SystemExit(exit_code(run(ledger, _waiting(ledger), conclude)))


def _waiting(ledger: "Ledger") -> Any:
    """The ledger's launcher, waited for."""
    from dataclasses import replace

    from avexp.jobs.launch import Launcher

    return replace(Launcher.of(ledger.fact("launcher")), detach=False)


@app.command("retry")
def retry(
    sweep: Sweep = LATEST,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed; so if nothing is said.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Those that were cancelled.")] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """Plan trials again; avexp sweep attach submits them."""
    from avexp.jobs.ledger import State

    ledger = _open(outputs, sweep)
    asked = ledger.trials(*[State.cancelled] * cancelled, *[State.failed] * (failed or not cancelled))
    again = [trial for trial in asked if trial.base]
    if len(again) < len(asked):
        console.print(f"{len(asked) - len(again)} trials never had a config that fits: they stay", markup=False)
    for trial in again:
        (ledger.folder / str(trial.number) / "cancelled").unlink(missing_ok=True)
        ledger.update(trial.number, state=State.planned, failures=0, reason="", ended=None)
    _reopen(ledger)
    console.print(
        f"{len(again)} trials are planned again; next: avexp sweep attach {ledger.folder}", markup=False, soft_wrap=True
    )


def _reopen(ledger: "Ledger") -> None:
    """It is neither at its end, nor stopped, nor cancelled."""
    for name in ("ended", "stopped", "cancelled"):
        ledger.set_fact(name, None)


@app.command("extend")
def extend(trials: int, sweep: Sweep = LATEST, outputs: Outputs = OUTPUTS) -> None:
    """Let a search ask for so many trials more; avexp sweep attach runs them."""
    ledger = _open(outputs, sweep)
    search = ledger.fact("search")
    if search is None:
        raise RunError(str(ledger.folder), "is a grid: it has all its trials", "start another sweep for further values")
    search["trials"] = int(search["trials"]) + trials
    ledger.set_fact("search", search)
    _reopen(ledger)
    console.print(
        f"{search['trials']} trials in all; next: avexp sweep attach {ledger.folder}", markup=False, soft_wrap=True
    )


@app.command("cancel")
def cancel(
    sweep: Sweep = LATEST,
    trial: Annotated[list[int] | None, typer.Option("--trial", help="Only these.")] = None,
    outputs: Outputs = OUTPUTS,
) -> None:
    """End a sweep, or some of its trials, for good: those that run save first."""
    from avexp.jobs.controller import attended
    from avexp.jobs.settling import cancel_sweep, cancel_trials
    from avexp.jobs.show import unsettled

    ledger = _open(outputs, sweep)
    backend = _waiting(ledger).backend(ledger.folder, [])
    count = cancel_trials(ledger, backend, trial) if trial else cancel_sweep(ledger, backend)
    console.print(f"{count} trials are asked to end", markup=False)
    if unsettled(ledger) and not attended(ledger.folder):
        hint = f"next        avexp sweep attach {ledger.folder}: nobody runs it, so nobody settles them"
        console.print(hint, markup=False, soft_wrap=True)


@app.command("why")
def why(trial: int, of: Of = LATEST, outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """Why a trial waits, failed or was started again; all its attempts, and the end of its log."""
    from avexp.jobs.controller import attended
    from avexp.jobs.settling import log_tail
    from avexp.jobs.show import row_of, unsettled
    from avexp.jobs.starts import starts

    ledger = _open(outputs, of)
    found = ledger.trial(trial)
    attempts = [vars(one) for one in ledger.attempts(trial)]
    if as_json:
        say_json({**row_of(ledger, found), "attempts_made": attempts})
        return
    same = f" as trial {found.same_as}" if found.same_as is not None else ""
    console.print(f"trial {trial}: {found.state}{same}; {' '.join(found.words)}", markup=False, soft_wrap=True)
    if found.reason:
        console.print(found.reason, markup=False, soft_wrap=True)
    folder = ledger.folder / str(trial)
    begun = starts(folder)
    for one in attempts:
        where = f" on {one['node']}" if one["node"] else ""
        what = f"job {one['job']}{where}  {one['state']}  {one['reason']}"
        console.print(f"  {_when(one['submitted'])}  {what}", markup=False, soft_wrap=True)
        for start in (start for start in begun if start["token"] == one["token"]):
            step = f"step {start['step']}" if start["step"] >= 0 else "the beginning"
            console.print(f"    {_when(start['time'])}  started on {start['node']} from {step}", markup=False)
    if unsettled(ledger) and not attended(ledger.folder):
        console.print(f"nobody runs this sweep: avexp sweep attach {ledger.folder}", markup=False, soft_wrap=True)
    tail = log_tail(folder)
    if tail and tail not in found.reason:
        console.print(tail, markup=False, soft_wrap=True)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


@app.command("logs")
def logs(
    trial: int,
    of: Of = LATEST,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    outputs: Outputs = OUTPUTS,
) -> None:
    """What a trial printed."""
    from avexp.jobs.ledger import LIVING, State

    ledger = _open(outputs, of)
    path = ledger.folder / str(trial) / "log.txt"
    place = 0
    while True:
        if path.is_file():
            with path.open("rb") as stream:
                stream.seek(place)
                part = stream.read()
            place += len(part)
            console.file.write(part.decode(errors="replace"))
            console.file.flush()
        if not follow or ledger.trial(trial).state not in (State.planned, *LIVING):
            return
        time.sleep(LOG_POLL_S)


@app.command("best")
def best(sweep: Sweep = LATEST, outputs: Outputs = OUTPUTS, as_json: AsJson = False) -> None:
    """The best trials: of one objective the best, of several those that no other beats in all."""
    from avexp.jobs.best import best_trials, objectives_of

    ledger = _open(outputs, sweep)
    names = objectives_of(ledger)
    rows: list[dict[str, Any]] = [
        {
            "trial": trial.number,
            "words": trial.words,
            "values": values,
            "folder": str(ledger.folder / str(trial.number)),
        }
        for trial, values in best_trials(ledger)
    ]
    if as_json:
        say_json(rows)
        return
    for row in rows:
        values = ", ".join(f"{name} {value:.4f}" for name, value in row["values"].items())
        console.print(f"trial {row['trial']}: {values}; {' '.join(row['words'])}", markup=False, soft_wrap=True)
        console.print(f"  {row['folder']}", markup=False, soft_wrap=True)
    if not rows:
        console.print(f"no trial has finished with {', '.join(names)} yet")
