"""Submits what is planned, watches what lives, settles what ended, until nothing is left to do.

It may be killed at any moment: everything is in the ledger before it is done, and another controller goes on from there.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from avexp.core.errors import RunError
from avexp.core.file_lock import file_lock, held
from avexp.core.files import read_json, write_json
from avexp.jobs.backend import Backend, Phase, Seen
from avexp.jobs.ledger import Attempt, Ledger, State, Trial
from avexp.jobs.settling import Rules, Settling
from avexp.jobs.starts import revoked, starts
from avexp.jobs.submission import STARTED, Submitter

LOCK = ".controller.lock"
"""Of a sweep's folder: held by whoever runs it."""
WHO = "controller.json"
LOCK_S = 2.0
LISTING_S = 1.0
"""Results are looked for so often while the scheduler is left alone [s]."""
FEW = 64
MOST_AT_A_TIME = 20_000


def attended(folder: Path) -> bool:
    """Whether a process runs this sweep now; if none does jobs go on, and nothing further is submitted or settled."""
    return held(folder / LOCK)


class Source(Protocol):
    """Where trials come from that are not all known ahead."""

    def begin(self) -> None:
        """Settle what another controller left; called once, under the sweep's lock."""

    def ask(self, count: int) -> list[Trial]:
        """Up to so many new trials; fewer if it must see results first, or is done."""

    def tell(self, trial: Trial) -> None:
        """A trial ended."""

    def done(self) -> bool:
        """Whether none will come any more."""

    def study_spec(self, trial: Trial) -> dict[str, Any] | None:
        """What its job needs to report while it runs; None where nothing is pruned."""


class Controller:
    """Runs one sweep.

    Args:
        ledger: of the sweep.
        backend: that runs its jobs.
        rules: bounds.
        code: snapshot that jobs run.
        source: of further trials.
        show: called after each look, with the ledger.
    """

    def __init__(
        self,
        ledger: Ledger,
        backend: Backend,
        rules: Rules,
        code: Path | None,
        source: Source | None = None,
        show: Callable[[Ledger], None] | None = None,
    ) -> None:
        self.ledger, self.backend, self.rules = ledger, backend, rules
        self.source, self.show = source, show
        self.folder = ledger.folder
        self.results = self.folder / "results"
        self.living: dict[str, Attempt] = {}
        self.stopped = ""
        self._ended_at: dict[str, float] = {}
        self._phases: dict[str, Seen] = {}
        self.settling = Settling(ledger, rules, self.source.tell if self.source is not None else lambda trial: None)
        study_spec = self.source.study_spec if self.source is not None else lambda trial: None
        self.submitter = Submitter(ledger, backend, rules, code, study_spec)

    def run(self, submit_only: bool = False) -> None:
        """Until all trials ended.

        Args:
            submit_only: return once everything that is planned was submitted.

        Raises:
            RunError: another controller runs this sweep; or the scheduler takes no jobs.
        """
        self.results.mkdir(exist_ok=True)
        with ExitStack() as stack:
            stack.callback(self.backend.close)
            try:
                stack.enter_context(file_lock(self.folder / LOCK, LOCK_S))
            except RunError:
                who = "process {pid} on {host}".format_map(read_json(self.folder / WHO))
                remedy = "look at it: avexp sweep watch; end that process and its jobs go on"
                raise RunError(str(self.folder), f"is run by {who}", remedy) from None
            write_json(self.folder / WHO, {"host": os.uname().nodename, "pid": os.getpid()})
            self._run(submit_only)

    def _run(self, submit_only: bool) -> None:
        if self.source is not None:
            self.source.begin()
        self.recover()
        pause = self.backend.poll_s[0]
        while True:
            moved = self.fill()
            if submit_only:
                return
            if not self.living and not moved and self._exhausted():
                break
            with self.ledger.together():
                moved |= self.poll()
            if self.show is not None:
                self.show(self.ledger)
            pause = self.backend.poll_s[0] if moved else min(self.backend.poll_s[1], pause * 1.5)
            if not moved:
                self._wait(pause)
        self.ledger.set_fact("stopped", self.stopped)
        if not self.stopped:
            self.ledger.set_fact("ended", time.time())

    def _over(self) -> bool:
        """Whether nothing further is to be submitted: equal failures stopped the sweep, or a person cancelled it."""
        return bool(self.stopped or self.ledger.fact("cancelled"))

    def _exhausted(self) -> bool:
        if self._over():
            return True
        return not self.ledger.trials(State.planned, limit=1) and (self.source is None or self.source.done())

    def recover(self) -> None:
        """Take over what another controller left: living jobs, and submissions whose answer was lost."""
        for attempt in self.ledger.attempts(living=True):
            if attempt.job is None:
                attempt = self._found_again(attempt) or attempt
            if attempt.job is not None:
                self.living[attempt.token] = attempt

    def _found_again(self, attempt: Attempt) -> Attempt | None:
        """The job of an attempt that was being submitted; None if it never arrived: the trial is planned again."""
        file = self.submitter.file(attempt.batch)
        entries = read_json(file)["jobs"] if file.is_file() else []
        place = next((index for index, entry in enumerate(entries) if entry["token"] == attempt.token), None)
        ids = self.backend.find(attempt.batch, len(entries)) if place is not None else None
        job = ids[place] if ids is not None and place is not None else None
        if job is None and not revoked(self.results, attempt.token):
            job = STARTED
        if job is None:
            self._end(attempt, "never arrived")
            self.ledger.update(attempt.trial, state=State.planned)
            return None
        self.ledger.update_attempt(attempt.token, job=job, state="submitted")
        return Attempt(**{**attempt.__dict__, "job": job, "state": "submitted"})

    def fill(self) -> bool:
        """Submit what there is room for; whether anything was."""
        slots = self.submitter.slots(self.living)
        if self._over() or slots <= 0:
            return False
        planned = self.ledger.trials(State.planned, limit=min(self.backend.room(len(self.living)), MOST_AT_A_TIME))
        if self.source is not None and len(planned) < slots:
            asked = self.source.ask(slots - len(planned))
            planned += [trial for trial in asked if trial.state is State.planned]
        submitted = self.submitter.submit(planned, slots, alone=not self.living)
        self.living |= {attempt.token: attempt for attempt in submitted}
        return bool(submitted)

    def poll(self) -> bool:
        """Look at everything that lives; whether anything changed."""
        moved = False
        for token in self._arrived():
            attempt = self.living[token]
            self.settling.settle(attempt, read_json(self.results / f"{token}.json"))
            self._forget(attempt)
            moved = True
        for token, seen in self.backend.look(list(self.living.values())).items():
            if token in self.living and seen != self._phases.get(token):
                moved |= self._changed(self.living[token], seen)
        for token in [token for token in self._ended_at if token in self.living]:
            if time.monotonic() - self._ended_at[token] >= self._grace():
                attempt, seen = self.living[token], self._phases[token]
                begun = any(start["token"] == token for start in starts(self._trial_folder(attempt.trial)))
                if not begun and not revoked(self.results, token):
                    del self._ended_at[token], self._phases[token]  # it starts this moment
                    continue
                self.settling.without_result(attempt, seen)
                self._forget(attempt)
                moved = True
        if self.settling.stopped and not self.stopped:
            self.stopped = self.settling.stopped
            self._call_back()
        return moved

    def _wait(self, seconds: float) -> None:
        """Until a result is there, or it is time to ask the scheduler again: it must not be asked often."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._arrived():
            self.backend.wait(min(left, LISTING_S))

    def _grace(self) -> float:
        return 0.2 if self.backend.name == "local" else self.rules.grace_s

    def _arrived(self) -> list[str]:
        """Living attempts whose result is there: one listing, however many live; few are asked for by name."""
        if len(self.living) <= FEW:
            return [token for token in self.living if (self.results / f"{token}.json").is_file()]
        with os.scandir(self.results) as entries:
            names = {entry.name for entry in entries}
        return [token for token in self.living if f"{token}.json" in names]

    def _changed(self, attempt: Attempt, seen: Seen) -> bool:
        self._phases[attempt.token] = seen
        if seen.phase is Phase.unknown:
            return False
        if seen.phase in (Phase.ended, Phase.gone):
            self._ended_at.setdefault(attempt.token, time.monotonic())
            return False
        self._ended_at.pop(attempt.token, None)
        state = State.running if seen.phase is Phase.running else State.submitted
        self.ledger.update(attempt.trial, state=state, reason=seen.reason if state is State.submitted else "")
        self.ledger.update_attempt(attempt.token, state=seen.word or state, node=seen.node, reason=seen.reason)
        return True

    def _call_back(self) -> None:
        """Jobs that wait are taken out of the queue and planned again; those that run go on."""
        waiting = [
            attempt
            for token, attempt in self.living.items()
            if self._phases.get(token, Seen(Phase.waiting)).phase is Phase.waiting
        ]
        self.backend.cancel(waiting)
        for attempt in waiting:
            if revoked(self.results, attempt.token):
                self._end(attempt, "called back")
                self.ledger.update(attempt.trial, state=State.planned)

    def _end(self, attempt: Attempt, state: str) -> None:
        self.settling.end(attempt, state)
        self._forget(attempt)

    def _forget(self, attempt: Attempt) -> None:
        self.living.pop(attempt.token, None)
        self._ended_at.pop(attempt.token, None)
        self._phases.pop(attempt.token, None)

    def _trial_folder(self, number: int) -> Path:
        return self.folder / str(number)
