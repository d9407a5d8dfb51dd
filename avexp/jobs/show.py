"""A sweep on the terminal: a bar while it runs, a table of its trials."""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from avexp.core.files import read_json
from avexp.core.overrides import short_key
from avexp.core.progress import LOG_EVERY_S, columns, console
from avexp.jobs.best import SCORE, objectives_of, value_of
from avexp.jobs.controller import attended
from avexp.jobs.ledger import ENDED, LIVING, Ledger, State, Trial
from avexp.jobs.starts import starts

MOST_TOLD = 5
SHOWN = 20
"""Rows of a table that is not asked for in full."""
COLUMNS = ("step", "ETA", "node", "restarts", "changes", "why")
"""After number, state and objectives."""
COLOURS = {
    State.finished: "green",
    State.pruned: "yellow",
    State.failed: "bold red",
    State.running: "cyan",
    State.cancelled: "dim",
}


class Progress:
    """How far a sweep is, and what failed, as it fails.

    Args:
        ledger: of the sweep.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._bar: Bar | None = None
        self._task: Any = None
        self._said = 0.0
        self._failed = {trial.number for trial in ledger.each(State.failed)}

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._bar = Bar(*columns(), console=console)
            self._task = self._bar.add_task("trials", total=None, note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def show(self, ledger: Ledger) -> None:
        """Move it."""
        now = time.monotonic()
        if now - self._said < (0.2 if self._bar is not None else LOG_EVERY_S):
            return
        self._said = now
        counts = ledger.counts()
        if counts.get(State.failed, 0) != len(self._failed):
            self._tell_failures(ledger)
        total, done = sum(counts.values()), sum(counts.get(state, 0) for state in ENDED)
        note = ", ".join(f"{counts[state]} {state}" for state in (*LIVING, State.failed) if counts.get(state))
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
        else:
            console.print(f"trials: {done} of {total} ended; {note}", markup=False)

    def _tell_failures(self, ledger: Ledger) -> None:
        failed = {trial.number: trial for trial in ledger.each(State.failed)}
        for number in [number for number in failed if number not in self._failed][:MOST_TOLD]:
            _say_failed(failed[number])
        self._failed = set(failed)


def _say_failed(trial: Trial) -> None:
    console.print(f"failed      {trial.number}: {trial.reason.partition(chr(10))[0]}", markup=False, soft_wrap=True)


def grid(ledger: Ledger, everything: bool) -> Table:
    """Trials, the best first; a column that would be empty is left out."""
    objectives = list(objectives_of(ledger))
    rows = [_cells(ledger, trial, objectives) for trial in _ranked(ledger, None if everything else SHOWN)]
    found = Table(title=f"{ledger.folder.parent.name} {ledger.folder.name}", title_justify="left")
    always = ("trial", "state", *objectives, "changes")
    columns = ("trial", "state", *objectives, *COLUMNS)
    names = [name for name in columns if any(row[name] not in ("", "0") for row in rows) or name in always]
    for name in names:
        found.add_column(name, justify="left" if name in ("state", "node", "changes", "why") else "right")
    for row in rows:
        found.add_row(*(row[name] for name in names))
    return found


def _ranked(ledger: Ledger, limit: int | None) -> Iterable[Trial]:
    """By the first objective."""
    name, direction = next(iter(objectives_of(ledger).items()))
    if name == SCORE:
        return ledger.ranked(direction == "maximize", limit)
    sign = -1.0 if direction == "maximize" else 1.0
    told = ((value_of(trial, name), trial) for trial in ledger.each())
    order = sorted(told, key=lambda one: (one[0] is None, sign * (one[0] or 0.0), one[1].number))
    return [trial for _, trial in order[:limit]]


def _cells(ledger: Ledger, trial: Trial, objectives: Sequence[str]) -> dict[str, str]:
    row, colour = row_of(ledger, trial), COLOURS.get(trial.state, "")
    why = f"as trial {trial.same_as}" if trial.same_as is not None else trial.reason.partition("\n")[0][:40]
    told = {name: row["values"].get(name) for name in objectives}
    return {
        "trial": str(trial.number), "state": f"[{colour}]{trial.state}[/]" if colour else str(trial.state),
        **{name: "" if value is None else f"{value:.4f}" for name, value in told.items()},
        "step": str(row["step"]), "ETA": row["eta"], "node": row["node"], "restarts": str(max(0, row["starts"] - 1)),
        "changes": escape(" ".join(short(word) for word in trial.words)), "why": escape(why),
    }  # fmt: skip


def short(word: str) -> str:
    """An override for a narrow table: the key's end, and a number's first digits."""
    key, _, text = rounded(word).partition("=")
    return f"{short_key(key)}={text}"


def rounded(word: str) -> str:
    """An override with a number's first digits."""
    key, _, text = word.partition("=")
    with suppress(ValueError):
        text = f"{float(text):.4g}"
    return f"{key}={text}"


def table(ledger: Ledger, everything: bool = False) -> None:
    """Trials, the best first; what it cost, what failed, what to type next."""
    console.print(grid(ledger, everything))
    more = sum(ledger.counts().values()) - SHOWN
    if more > 0 and not everything:
        console.print(f"{more} more rows: avexp sweep status --all", markup=False)
    for line in summary(ledger):
        console.print(line, markup=False, soft_wrap=True)
    failed = ledger.trials(State.failed, limit=MOST_TOLD)
    for trial in failed:
        _say_failed(trial)
    if failed:
        console.print(f"next        avexp sweep why {failed[0].number} --of {ledger.folder.name}", markup=False)


def summary(ledger: Ledger) -> list[str]:
    """A sweep in a few lines: its states, its cost, and whether anybody runs it."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(ledger.counts().items()))
    lines = [counts, f"cost        {cost_line(ledger.folder, ledger.each())}", f"sweep       {ledger.folder}"]
    if stopped := ledger.fact("stopped"):
        lines += [f"stopped     {stopped}", f"next        avexp sweep retry {ledger.folder.name}, then attach"]
    elif unsettled(ledger) and not attended(ledger.folder):
        lines.append(f"next        avexp sweep attach {ledger.folder}: nobody runs it; jobs go on, none is submitted")
    return lines


def unsettled(ledger: Ledger) -> bool:
    """Whether trials live or are still to come."""
    counts = ledger.counts()
    if any(counts.get(state) for state in (*LIVING, State.planned)):
        return True
    return not (ledger.fact("ended") or ledger.fact("cancelled"))


def row_of(ledger: Ledger, trial: Trial) -> dict[str, Any]:
    """A trial as plain values. While it runs: step and values so far, and when it will be through."""
    attempts = ledger.attempts(trial.number)
    folder = ledger.folder / str(trial.number)
    living = trial.state in LIVING
    last = last_line(folder / "metrics.jsonl") if living else {}
    so_far = replace(trial, metrics=last.get("values", {})) if living else trial
    values = {name: value for name in objectives_of(ledger) if (value := value_of(so_far, name)) is not None}
    return {
        "trial": trial.number, "state": str(trial.state), "value": next(iter(values.values()), None), "values": values,
        "words": trial.words, "step": last.get("step", ""), "eta": _eta(folder, last) if living else "",
        "node": attempts[-1].node if attempts else "", "job": attempts[-1].job if attempts else None,
        "attempts": trial.attempts, "starts": max(trial.attempts, len(starts(folder))), "reason": trial.reason,
        "same_as": trial.same_as, "cost": cost_of(ledger.folder, trial), "metrics": trial.metrics, "folder": str(folder),
    }  # fmt: skip


def _eta(folder: Path, last: dict[str, Any]) -> str:
    """Time left by its own pace since this start."""
    path, begun = folder / "derived.yaml", starts(folder)
    step = last.get("step") or 0
    if not path.is_file() or not begun or step <= max(0, begun[-1]["step"]):
        return ""
    whole = next(
        (int(line.partition(":")[2]) for line in path.read_text().splitlines() if line.startswith("steps:")), 0
    )
    pace = (last["time_ms"] / 1e3 - begun[-1]["time"]) / (step - max(0, begun[-1]["step"]))
    return f"{pace * (whole - step) / 60:.0f} min" if whole > step else ""


def last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file of JSON lines."""
    if not path.is_file():
        return {}
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (1 << 14)))
        for line in reversed(stream.read().splitlines()):
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return found
    return {}


def cost_of(folder: Path, trial: Trial) -> dict[str, float]:
    """What a trial has cost: of one that lives, as it was saved last, and the time since then."""
    path = folder / str(trial.number) / "cost.json"
    if trial.cost or not trial.attempts or not path.is_file():
        return trial.cost
    cost: dict[str, float] = read_json(path)
    if trial.state is not State.running:
        return cost
    shape = json.loads(trial.shape)
    nodes, devices = int(shape.get("nodes") or 1), int(shape.get("devices") or 1)
    gpus = nodes * devices if shape.get("accelerator") == "cuda" else 0
    since = max(0.0, time.time() - path.stat().st_mtime) / 3600
    price = float(shape.get("price_per_hour") or 0.0)
    return {
        **cost,
        "gpu_hours": cost["gpu_hours"] + since * gpus,
        "money": cost["money"] + since * (gpus or nodes) * price,
    }


def cost_line(folder: Path, trials: Iterable[Trial]) -> str:
    """What a sweep has cost so far."""
    costs = [cost_of(folder, trial) for trial in trials]
    total = {name: sum(cost.get(name, 0.0) for cost in costs) for name in ("cpu_hours", "gpu_hours", "money")}
    parts = [f"{total['cpu_hours']:.2f} CPU-hours"]
    parts += [f"{total['gpu_hours']:.2f} GPU-hours"] if total["gpu_hours"] else []
    parts += [f"{total['money']:.2f} in money"] if total["money"] else []
    return ", ".join(parts)
