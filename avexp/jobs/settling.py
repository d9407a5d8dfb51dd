"""What becomes of a trial whose job ended: with a result, or without one."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avexp.core.files import read_json
from avexp.jobs.backend import Backend, Seen
from avexp.jobs.ledger import ENDED, LIVING, Attempt, Ledger, State, Trial
from avexp.jobs.starts import starts, step_of, without_progress

LOG_LINES = 20
MORE_MEMORY = "ask for more (hardware.memory_gib with hardware.cluster.ask_memory=true) or lower loader.batch_size"
TOO_MUCH = ("exceeded memory limit", "exceeded job memory limit", "oom-kill", "oom_kill")
"""What SLURM writes into a job's log where it, or the kernel, ended it for its memory; its state need not say so."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a sweep is run.

    Attributes:
        restarts_without_progress: starts from the same step before a trial is given up.
        stop_after_failures: equal failures in a row that stop the sweep.
        grace_s: a job's result may be seen so much later than its end: shared file systems lag [s].
    """

    restarts_without_progress: int = 3
    stop_after_failures: int = 5
    grace_s: float = 15.0


class Settling:
    """Writes the ends of attempts and trials into the ledger.

    Args:
        ledger: of the sweep.
        rules: bounds.
        tell: called with each trial that ended.
    """

    def __init__(self, ledger: Ledger, rules: Rules, tell: Callable[[Trial], None]) -> None:
        self.ledger, self.rules, self.tell = ledger, rules, tell
        self.stopped = ""
        self._alike: tuple[str, int] = ("", 0)

    def settle(self, attempt: Attempt, result: dict[str, Any]) -> None:
        """A result is there."""
        state = str(result["state"])
        folder = self.folder(attempt.trial)
        if state == "stopped":
            cancelled = (folder / "cancelled").exists()
            self.end(attempt, "stopped")
            self._again_or(attempt, State.cancelled if cancelled else None, str(result.get("reason", "")))
            return
        reason = str(result.get("reason", ""))
        if state == "failed" and (tail := log_tail(folder)):
            reason = f"{reason}\n{tail}" if reason else tail
        self.end(attempt, state)
        self.close(attempt.trial, State(state), reason, value=result.get("value"), metrics=result.get("metrics") or {})

    def without_result(self, attempt: Attempt, seen: Seen) -> None:
        """A job that ended and left nothing: the node died, it was killed, or its time was over."""
        self.end(attempt, seen.word or "lost", seen.reason, seen.node)
        folder = self.folder(attempt.trial)
        word = seen.word.partition(" ")[0]
        if word == "CANCELLED" or (folder / "cancelled").exists():
            why = seen.reason if word == "CANCELLED" else ""
            self.close(attempt.trial, State.cancelled, f"cancelled ({why})" if why else "cancelled")
        elif word == "OUT_OF_MEMORY":
            self.close(attempt.trial, State.failed, f"out of memory; {MORE_MEMORY}")
        else:
            self._again_or(attempt, None, f"{seen.word} {seen.reason}".strip())

    def _again_or(self, attempt: Attempt, end: State | None, reason: str) -> None:
        """Plan the trial again, within the bound of progress."""
        if end is not None:
            self.close(attempt.trial, end, reason)
            return
        folder, bound = self.folder(attempt.trial), self.rules.restarts_without_progress
        begun = any(start["token"] == attempt.token for start in starts(folder))
        trial = self.ledger.trial(attempt.trial)
        failures = without_progress(folder) if begun else trial.failures + 1
        if failures >= bound:
            step = max(0, step_of(folder))
            where = (
                f"no progress in {bound} starts from step {step}" if begun else f"never started in {failures} attempts"
            )
            said = _scheduler_log(self.ledger.folder, attempt)
            if any(words in said.lower() for words in TOO_MUCH):
                where = f"out of memory in {failures} starts from step {step}; {MORE_MEMORY}"
            self.close(attempt.trial, State.failed, f"{where} ({reason})\n{log_tail(folder) or said}".strip())
            return
        self.ledger.update(attempt.trial, state=State.planned, reason=f"again after {reason}", failures=failures)

    def close(
        self,
        number: int,
        state: State,
        reason: str = "",
        value: float | None = None,
        metrics: dict[str, float] | None = None,
    ) -> None:
        """A trial is over."""
        folder = self.folder(number)
        cost = read_json(folder / "cost.json") if (folder / "cost.json").is_file() else {}
        plain = {name: float(one) for name, one in cost.items() if isinstance(one, int | float)}
        values = {"state": state, "reason": reason, "value": value, "metrics": metrics or {}, "cost": plain}
        self.ledger.update(number, ended=time.time(), **values)
        trial = self.ledger.trial(number)
        self.tell(trial)
        self._count_failures(trial)

    def _count_failures(self, trial: Trial) -> None:
        """Equal failures in a row stop the sweep: the next would fail as well."""
        if trial.state is not State.failed:
            self._alike = ("", 0)
            return
        why = trial.reason.partition("\n")[0]
        self._alike = (why, self._alike[1] + 1 if self._alike[0] == why else 1)
        if self._alike[1] >= self.rules.stop_after_failures and not self.stopped:
            self.stopped = f"{self._alike[1]} trials in a row failed alike: {why}"

    def end(self, attempt: Attempt, state: str, reason: str = "", node: str = "") -> None:
        """An attempt is over."""
        where = {"node": node} if node else {}
        self.ledger.update_attempt(attempt.token, state=state, ended=time.time(), reason=reason, **where)

    def folder(self, number: int) -> Path:
        """Of a trial."""
        return self.ledger.folder / str(number)


def cancel_sweep(ledger: Ledger, backend: Backend) -> int:
    """End all trials for good, and ask for no more. How many were told to.

    A controller may be at work meanwhile.
    """
    ledger.set_fact("cancelled", time.time())
    return cancel_trials(ledger, backend, [trial.number for trial in ledger.each(State.planned, *LIVING)])


def cancel_trials(ledger: Ledger, backend: Backend, numbers: Iterable[int]) -> int:
    """End trials for good: those that run save first. How many were told to.

    A controller may be at work meanwhile: whatever it submits this moment sees the mark in the trial's folder.
    """
    living: list[Attempt] = []
    count = 0
    for number in numbers:
        trial, folder = ledger.trial(number), ledger.folder / str(number)
        if trial.state in ENDED:
            continue
        folder.mkdir(exist_ok=True)
        (folder / "cancelled").touch()
        if trial.state is State.planned:
            ledger.update(number, state=State.cancelled, reason="cancelled", ended=time.time())
        living += [one for one in ledger.attempts(number) if one.ended is None]
        count += 1
    backend.cancel(living)
    return count


def log_tail(folder: Path, lines: int = LOG_LINES) -> str:
    """The end of a trial's log."""
    path = folder / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (1 << 14)))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])


def _scheduler_log(folder: Path, attempt: Attempt) -> str:
    """What SLURM itself wrote of a job that never reached its own log."""
    number = (attempt.job or "none").replace(":", "_")
    found = sorted(folder.glob(f"slurm/{number}*"))
    return found[-1].read_text(errors="replace")[-2000:] if found else ""
