"""The sweep ledger: one SQLite file in the sweep's folder that knows every trial before anything is submitted.

Only the controller writes it, under the sweep's lock; jobs write files of their own in their trial's folder. It works on a
shared file system: one writer at a time, no shared memory (journal_mode=DELETE), and readers that wait a bounded time.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.core.run_folder import SWEEP_LEDGER

FORMAT = 1
BUSY_S = 30.0
"""A reader or writer waits for another no longer than this [s]."""
SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trial (
    number INTEGER PRIMARY KEY, digest TEXT NOT NULL, base TEXT NOT NULL, changes TEXT NOT NULL, words TEXT NOT NULL,
    shape TEXT NOT NULL, state TEXT NOT NULL, same_as INTEGER, asked INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, value REAL, metrics TEXT NOT NULL DEFAULT '{}', reason TEXT NOT NULL DEFAULT '',
    created REAL NOT NULL, ended REAL, cost TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX trial_state ON trial (state);
CREATE INDEX trial_digest ON trial (digest);
CREATE TABLE attempt (
    token TEXT PRIMARY KEY, trial INTEGER NOT NULL, batch TEXT NOT NULL, job TEXT, submitted REAL NOT NULL, ended REAL,
    state TEXT NOT NULL, node TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX attempt_trial ON attempt (trial);
CREATE INDEX attempt_batch ON attempt (batch);
"""


class State(StrEnum):
    """How a trial stands."""

    planned = "planned"  # written down, not submitted
    submitted = "submitted"  # given to the scheduler
    running = "running"
    finished = "finished"
    pruned = "pruned"  # ended early by the search, with a checkpoint
    failed = "failed"
    cancelled = "cancelled"  # by a person
    same = "same"  # equal to another trial, whose result it has


LIVING = (State.submitted, State.running)
ENDED = (State.finished, State.pruned, State.failed, State.cancelled, State.same)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a sweep, or one item of a map job.

    Attributes:
        number: within the sweep; also its folder's name.
        digest: of what it computes; equal digests are the same trial.
        base: digest of the composed config that its changes are laid over.
        changes: dotted key -> plain value.
        words: how a person would type the difference.
        shape: resources as canonical JSON: trials of one shape go into one array.
        state: how it stands.
        same_as: the trial that it equals.
        asked: number of the search's own trial.
        attempts: submissions so far.
        failures: attempts in a row that ended without progress.
        value: what the search optimises, or the stage's result.
        metrics: final values by name.
        reason: why it ended as it did, or why it waits.
        created: UTC [s].
        ended: UTC [s].
        cost: cpu_hours, gpu_hours, money, wall_s.
    """

    number: int
    digest: str
    base: str
    changes: dict[str, Any]
    words: list[str]
    shape: str = "{}"
    state: State = State.planned
    same_as: int | None = None
    asked: int | None = None
    attempts: int = 0
    failures: int = 0
    value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    created: float = field(default_factory=time.time)
    ended: float | None = None
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One submission of a trial.

    Attributes:
        token: known to ledger and job; a job whose token is not the trial's newest ends at once.
        trial: its number.
        batch: of the submission; the scheduler's job name carries it, so that a lost answer of sbatch is found again.
        job: the scheduler's id; None until it answered.
        submitted: UTC [s].
        ended: UTC [s].
        state: submitting, submitted, or how it ended.
        node: where it ran.
        reason: in words.
    """

    token: str
    trial: int
    batch: str
    job: str | None = None
    submitted: float = field(default_factory=time.time)
    ended: float | None = None
    state: str = "submitting"
    node: str = ""
    reason: str = ""


_JSON = ("changes", "words", "metrics", "cost")
_NAMES = list(Trial.__dataclass_fields__)
_INSERT = f"INSERT INTO trial ({', '.join(_NAMES)}) VALUES ({', '.join('?' for _ in _NAMES)})"


class Ledger:
    """An opened ledger.

    Args:
        folder: of the sweep.
    """

    FILE = SWEEP_LEDGER

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / self.FILE
        if not path.is_file():
            raise RunError(str(folder), "holds no sweep", "avexp sweep ls shows those there are")
        self._base = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._base.row_factory = sqlite3.Row
        try:
            found = self.fact("format")
        except sqlite3.DatabaseError as fault:
            raise RunError(str(path), f"is no ledger ({fault})", "restore it") from None
        if found != FORMAT:
            raise RunError(str(path), f"has format {found}, this avexp reads {FORMAT}", "use the avexp that made it")

    @classmethod
    def create(cls, folder: Path, facts: Mapping[str, Any], trials: Iterable[Trial] = ()) -> "Ledger":
        """A new one that appears with all of this, or not at all; nothing is overwritten.

        Raises:
            RunError: there is one already.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path, aside = folder / cls.FILE, folder / f".{cls.FILE}.new"
        if path.exists():
            raise RunError(str(folder), "holds a sweep already", "go on with it: avexp sweep attach, or resume=auto")
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(aside)) as base:
            base.executescript(SCHEMA)
            rows = [(name, json.dumps(value)) for name, value in {**facts, "format": FORMAT}.items()]
            base.executemany("INSERT INTO fact VALUES (?, ?)", rows)
            base.executemany(_INSERT, (_row(trial) for trial in trials))
            base.commit()
        aside.rename(path)
        return cls(folder)

    def close(self) -> None:
        """End."""
        self._base.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All or nothing; within another block, part of that."""
        if self._base.in_transaction:
            yield
            return
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def fact(self, name: str, default: Any = None) -> Any:
        """One fact of the sweep."""
        row = self._base.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return default if row is None else json.loads(row["value"])

    def set_fact(self, name: str, value: Any) -> None:
        """Write one down."""
        self._base.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, json.dumps(value)))

    def add(self, trials: Iterable[Trial]) -> None:
        """New trials, all or none."""
        with self.together():
            self._base.executemany(_INSERT, (_row(trial) for trial in trials))

    def update(self, number: int, **values: Any) -> None:
        """Change a trial."""
        names = ", ".join(f"{name} = ?" for name in values)
        plain = [json.dumps(value) if name in _JSON else value for name, value in values.items()]
        self._base.execute(f"UPDATE trial SET {names} WHERE number = ?", (*plain, number))

    def trials(self, *states: State, limit: int | None = None) -> list[Trial]:
        """Trials in these states, in order; all if none is given."""
        return list(self.each(*states, limit=limit))

    def each(self, *states: State, limit: int | None = None) -> Iterator[Trial]:
        """The same, one by one."""
        where = f"WHERE state IN ({', '.join('?' for _ in states)})" if states else ""
        bound = f"LIMIT {int(limit)}" if limit is not None else ""
        for row in self._base.execute(f"SELECT * FROM trial {where} ORDER BY number {bound}", states):
            yield _trial(row)

    def ranked(self, maximize: bool, limit: int | None = None) -> Iterator[Trial]:
        """All trials, the best value first, those without one last."""
        order, bound = "DESC" if maximize else "ASC", f"LIMIT {int(limit)}" if limit is not None else ""
        query = f"SELECT * FROM trial ORDER BY value IS NULL, value {order}, number {bound}"
        for row in self._base.execute(query):
            yield _trial(row)

    def trial(self, number: int) -> Trial:
        """One.

        Raises:
            RunError: there is none.
        """
        row = self._base.execute("SELECT * FROM trial WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise RunError(str(self.folder), f"has no trial {number}", "avexp sweep status shows them")
        return _trial(row)

    def by_digest(self, digest: str) -> Trial | None:
        """The first trial that computes this and is no copy itself."""
        query = "SELECT * FROM trial WHERE digest = ? AND state != 'same' ORDER BY number LIMIT 1"
        row = self._base.execute(query, (digest,)).fetchone()
        return None if row is None else _trial(row)

    def counts(self) -> dict[str, int]:
        """Trials by state."""
        rows = self._base.execute("SELECT state, count(*) AS count FROM trial GROUP BY state")
        return {row["state"]: row["count"] for row in rows}

    def next_number(self) -> int:
        """Of a new trial."""
        return int(self._base.execute("SELECT coalesce(max(number), -1) + 1 AS next FROM trial").fetchone()["next"])

    def begin_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Written down before the scheduler is asked."""
        names = list(Attempt.__dataclass_fields__)
        marks = ", ".join("?" for _ in names)
        with self.together():
            for attempt in attempts:
                values = [getattr(attempt, name) for name in names]
                self._base.execute(f"INSERT INTO attempt ({', '.join(names)}) VALUES ({marks})", values)
                self._base.execute(
                    "UPDATE trial SET state = ?, attempts = attempts + 1, reason = '' WHERE number = ?",
                    (State.submitted, attempt.trial),
                )

    def unsubmitted(self, attempt: Attempt, reason: str) -> None:
        """Nobody took it: as if it had never been tried."""
        with self.together():
            self._base.execute("DELETE FROM attempt WHERE token = ?", (attempt.token,))
            values = (State.planned, reason, attempt.trial)
            query = "UPDATE trial SET state = ?, reason = ?, attempts = attempts - 1 WHERE number = ?"
            self._base.execute(query, values)

    def update_attempt(self, token: str, **values: Any) -> None:
        """Change an attempt."""
        names = ", ".join(f"{name} = ?" for name in values)
        self._base.execute(f"UPDATE attempt SET {names} WHERE token = ?", (*values.values(), token))

    def attempts(self, trial: int | None = None, living: bool = False) -> list[Attempt]:
        """Attempts in the order of submission; of one trial, or of all; ``living`` for the newest of each living trial."""
        where = "" if trial is None else "WHERE trial = ?"
        values: list[Any] = [] if trial is None else [trial]
        if living:
            where = "JOIN trial ON trial.number = attempt.trial WHERE trial.state IN (?, ?) AND attempt.ended IS NULL"
            values = [str(state) for state in LIVING]
        rows = self._base.execute(f"SELECT attempt.* FROM attempt {where} ORDER BY submitted, attempt.rowid", values)
        return [Attempt(**{name: row[name] for name in Attempt.__dataclass_fields__}) for row in rows]


def _row(trial: Trial) -> list[Any]:
    values = ((name, getattr(trial, name)) for name in _NAMES)
    return [json.dumps(value) if name in _JSON else value for name, value in values]


def _trial(row: sqlite3.Row) -> Trial:
    values = {name: row[name] for name in Trial.__dataclass_fields__}
    values |= {name: json.loads(values[name]) for name in _JSON}
    return Trial(**{**values, "state": State(values["state"])})
