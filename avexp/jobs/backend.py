"""What runs jobs: the interface that this machine (local) and a cluster (slurm) have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from avexp.jobs.ledger import Attempt


class Phase(StrEnum):
    """How a scheduler sees a job."""

    waiting = "waiting"
    running = "running"
    ended = "ended"
    unknown = "unknown"  # it could not be asked: nothing may be concluded
    gone = "gone"  # it was asked, and knows no such job


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as its scheduler sees it.

    Attributes:
        phase: in short.
        word: the scheduler's own, such as NODE_FAIL.
        node: where it runs or ran.
        reason: why it waits, or its exit code.
    """

    phase: Phase
    word: str = ""
    node: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Jobs of one shape that are submitted together.

    Attributes:
        name: known to ledger and scheduler.
        file: batch.json with the jobs, by index.
        attempts: in the order of their index.
        shape: resources.
        code: snapshot that they run; None for the installed package.
        at_once: so many may run at a time.
        avoid: nodes where these trials ended without progress, as the scheduler wrote them.
    """

    name: str
    file: Path
    attempts: Sequence[Attempt]
    shape: Mapping[str, Any]
    code: Path | None
    at_once: int
    avoid: tuple[str, ...] = ()


class Backend(Protocol):
    """Runs jobs, and outlives whoever submitted them."""

    name: str
    poll_s: tuple[float, float]
    """Least and most seconds between two looks."""
    limit: int | None
    """Jobs of the sweep at a time, where each batch must be told its share; None where the backend sees to it itself."""

    def room(self, living: int) -> int:
        """How many jobs more may be submitted while so many live."""

    def submit(self, batch: Batch) -> list[str]:
        """Submit; the scheduler's id of each job, in order.

        Raises:
            RunError: refused, with the scheduler's words.
        """

    def find(self, batch: str, count: int) -> list[str] | None:
        """Ids of a batch whose submission was not answered; None if it never arrived.

        Raises:
            RunError: the scheduler cannot be asked.
        """

    def look(self, attempts: Sequence[Attempt]) -> dict[str, Seen]:
        """How jobs stand, by token. Whatever cannot be asked is unknown, never an exception."""

    def wait(self, seconds: float) -> None:
        """Let so much time pass, or less if something happens."""

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """Ask jobs to end; those that are gone are passed over."""

    def close(self) -> None:
        """End what this process holds; jobs go on."""
