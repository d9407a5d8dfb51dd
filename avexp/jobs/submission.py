"""Trials -> attempts that the scheduler has taken; what it refuses is planned again."""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.core.files import read_json, write_json
from avexp.core.progress import console
from avexp.jobs.backend import Backend, Batch
from avexp.jobs.ledger import Attempt, Ledger, Trial
from avexp.jobs.settling import Rules
from avexp.jobs.starts import revoked

REFUSED_S = 600.0
"""A scheduler that takes no job at all is asked again for so long [s]; while jobs of the sweep live, for ever."""
AGAIN_S = (1.0, 60.0)
"""Least and most until it is asked again [s]."""
TOO_MANY = ("limit", "maximum", "exceed", "too many")
"""In the words of a scheduler that might take fewer jobs."""
NEVER = ("nvalid", "configuration source", "no such program")
"""In the words of one that will not take them later either."""
MOST_LOCAL_BATCH = 256
STARTED = "::"
"""Job of an attempt whose number nobody was told: its result, its process or its end will be seen."""


class Submitter:
    """Gives trials to the scheduler; written down before and after.

    Args:
        ledger: of the sweep.
        backend: that runs its jobs.
        rules: bounds.
        code: snapshot that jobs run.
        study_spec: what the job of a trial needs to report while it runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        backend: Backend,
        rules: Rules,
        code: Path | None,
        study_spec: Callable[[Trial], dict[str, Any] | None],
    ) -> None:
        self.ledger, self.backend, self.rules, self.code = ledger, backend, rules, code
        self.folder, self.study_spec = ledger.folder, study_spec
        self.results = self.folder / "results"
        self._most = int(getattr(backend, "most_array", MOST_LOCAL_BATCH))
        self._fewer = self._most
        self._refused_since: float | None = None
        self._ask_again, self._pause_s = 0.0, AGAIN_S[0]
        self._at_once: dict[str, int] = {}

    def slots(self, living: Mapping[str, Attempt]) -> int:
        """How many jobs more may run at a time; none shortly after a refusal. A batch holds what it was given, until less of
        it lives: so the limit holds without a controller too.
        """
        if time.monotonic() < self._ask_again:
            return 0
        if self.backend.limit is None:
            return self.backend.room(len(living))
        count = Counter(attempt.batch for attempt in living.values())
        return self.backend.limit - sum(min(lives, self._given(batch)) for batch, lives in count.items())

    def _given(self, batch: str) -> int:
        if batch not in self._at_once:
            path = self.file(batch)
            self._at_once[batch] = int(read_json(path).get("at_once", 1)) if path.is_file() else 1
        return self._at_once[batch]

    def submit(self, trials: Sequence[Trial], slots: int, alone: bool) -> list[Attempt]:
        """Submit what can be.

        Args:
            trials: planned ones.
            slots: that may run at a time.
            alone: nothing of this sweep lives.

        Raises:
            RunError: it was refused for too long, and nothing lives that could make room.
        """
        found: list[Attempt] = []
        for group, at_once in self._groups(trials, slots):
            found += self._batch(group, at_once, alone and not found)
            if self._refused_since is not None:
                break
        return found

    def _groups(self, trials: Sequence[Trial], slots: int) -> Iterator[tuple[list[Trial], int]]:
        """By shape and nodes to avoid, no larger than the scheduler takes, each with its share of the slots."""
        shapes: dict[tuple[str, ...], list[Trial]] = {}
        for trial in trials:
            shapes.setdefault((trial.shape, *self._avoided(trial)), []).append(trial)
        most, left = self._fewer, slots
        for group in (alike[first : first + most] for alike in shapes.values() for first in range(0, len(alike), most)):
            if self.backend.limit is None:
                yield group, len(group)
            elif left > 0:
                share = min(left, len(group), max(1, round(slots * len(group) / len(trials))))
                left -= share
                yield group, share

    def _avoided(self, trial: Trial) -> tuple[str, ...]:
        """Nodes of its last attempts that came to nothing: it may be the node that is broken."""
        if not trial.failures:
            return ()
        return tuple(sorted({one.node for one in self.ledger.attempts(trial.number)[-trial.failures :] if one.node}))

    def _batch(self, trials: Sequence[Trial], at_once: int, alone: bool) -> list[Attempt]:
        name, avoid = f"avexp-{self.folder.name}-{secrets.token_hex(4)}", self._avoided(trials[0])
        attempts = [Attempt(token=secrets.token_hex(8), trial=trial.number, batch=name) for trial in trials]
        self.ledger.begin_attempts(attempts)
        shape = json.loads(trials[0].shape)
        self._write(name, trials, attempts, shape, at_once)
        batch = Batch(
            name=name, file=self.file(name), attempts=attempts, shape=shape, code=self.code, at_once=at_once,
            avoid=avoid,
        )  # fmt: skip
        try:
            ids = self.backend.submit(batch)
        except RunError as fault:
            found = self._there_after_all(batch)
            if not found:
                return self._refused(batch, fault, alone)
            ids = found
        self._refused_since, self._pause_s = None, AGAIN_S[0]
        self._fewer = min(self._most, 2 * self._fewer)
        with self.ledger.together():
            return [self._living(attempt, job) for attempt, job in zip(attempts, ids, strict=True)]

    def _write(
        self, name: str, trials: Sequence[Trial], attempts: Sequence[Attempt], shape: Mapping[str, Any], at_once: int
    ) -> None:
        """What jobs read: each trial's, and the batch's list of them."""
        template = self.ledger.fact("job")
        ranks = int(shape.get("devices") or 1) * int(shape.get("nodes") or 1)
        jobs = []
        for attempt, trial in zip(attempts, trials, strict=True):
            folder = self.folder / str(trial.number)
            folder.mkdir(exist_ok=True)
            spec = {
                **template, "token": attempt.token, "number": trial.number, "changes": trial.changes, "words": trial.words,
                "base": str(self.folder / "bases" / f"{trial.base[:16]}.yaml"), "asked": trial.asked, "ranks": ranks,
                "slurm": self.backend.name == "slurm", "restarts_without_progress": self.rules.restarts_without_progress,
            }  # fmt: skip
            if (study := self.study_spec(trial)) is not None:
                spec["study"] = study
            (folder / "job.json").write_text(json.dumps(spec))
            jobs.append({"folder": str(folder), "token": attempt.token, "trial": attempt.trial})
        write_json(self.file(name), {"results": str(self.results), "jobs": jobs, "at_once": at_once})
        self._at_once[name] = at_once

    def _living(self, attempt: Attempt, job: str) -> Attempt:
        self.ledger.update_attempt(attempt.token, job=job, state="submitted")
        return Attempt(**{**attempt.__dict__, "job": job, "state": "submitted"})

    def _there_after_all(self, batch: Batch) -> list[str] | None:
        """Ids of a batch whose answer was lost."""
        try:
            return self.backend.find(batch.name, len(batch.attempts))
        except RunError:
            return None

    def _refused(self, batch: Batch, fault: RunError, alone: bool) -> list[Attempt]:
        """Planned again, as if it had never been tried; a job that arrives late finds its attempt revoked."""
        now = time.monotonic()
        hopeless = self.backend.name == "local" or any(word in str(fault) for word in NEVER)
        if self._refused_since is None:
            self._refused_since = now
            bound = f"tried again for {REFUSED_S / 60:.0f} min" if alone else "tried again as jobs end"
            if not (alone and hopeless):
                console.print(f"not submitted: {fault}; {bound}", markup=False, soft_wrap=True)
        found = []
        for attempt in batch.attempts:
            if revoked(self.results, attempt.token):
                self.ledger.unsubmitted(attempt, f"not submitted: {fault}")
            else:
                found.append(self._living(attempt, STARTED))
        if any(words in str(fault).lower() for words in TOO_MANY):
            self._fewer = max(1, len(batch.attempts) // 2)
        self._ask_again, self._pause_s = now + self._pause_s, min(AGAIN_S[1], 2 * self._pause_s)
        if alone and not found and (hopeless or now - self._refused_since > REFUSED_S):
            raise fault
        return found

    def file(self, batch: str) -> Path:
        """Of a batch."""
        return self.folder / "batches" / f"{batch}.json"
