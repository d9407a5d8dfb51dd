"""What a run says of itself lies in its folder first; the outbox sends it on to a tracking server, at least once.

``metrics.jsonl`` holds ``{step, time_ms, values: {name: value}}`` a line; ``tracking.jsonl`` holds events with a ``kind``
(start, resume, dataset, picture, output, register, finish), the first of them the start. How far both were sent is in
``mlflow.json``, written aside and renamed: a kill between sending and renaming sends a batch again, never loses one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from avexp.core.errors import DataError, RunError
from avexp.core.file_lock import file_lock
from avexp.core.files import read_json, write_json
from avexp.core.run_folder import RunFolder
from avexp.store.json_lines import Line, read_lines

BATCH_MAX = 1000
"""Points in one call: MLflow's own limit."""
LOCK_TIMEOUT_S = 20.0


class RefusedError(Exception):
    """The server will never take this entry; the rest goes on."""


@dataclass(frozen=True)
class Point:
    """One value of one metric."""

    name: str
    value: float
    step: int
    time_ms: int


class Sink(Protocol):
    """Where an outbox sends to. Any exception but RefusedError means: try again later."""

    @property
    def url(self) -> str:
        """Address, absolute."""

    def open(self, start: dict[str, Any], known: str | None) -> str:
        """Find or create the run of a start event; its id there. ``known`` is the id if it was created before."""

    def metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Store at most BATCH_MAX points; the same points again are no error."""

    def event(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        """Store an event; the same event again is no error."""


@dataclass
class Sent:
    """How far a run was sent.

    Attributes:
        url: server that the rest is about.
        run_id: the run's id there, once it is known.
        metrics: offset in metrics.jsonl [bytes].
        tracking: offset in tracking.jsonl [bytes].
        refused: entries that the server will never take.
        reason: why it refused the first of them.
    """

    url: str = ""
    run_id: str | None = None
    metrics: int = 0
    tracking: int = 0
    refused: int = 0
    reason: str = ""

    def __str__(self) -> str:
        """What ``avexp run sync`` says."""
        refused = f"; {self.refused} entries refused, such as: {self.reason}" if self.refused else ""
        return f"sent to {self.url}, run {self.run_id}{refused}"

    @staticmethod
    def of(run: RunFolder, url: str | None = None) -> "Sent":
        """Read it; nothing was sent yet if there is none, it is damaged, or it is about another server."""
        try:
            sent = Sent(**read_json(run.tracking_state)) if run.tracking_state.is_file() else Sent()
        except (DataError, TypeError):
            sent = Sent()
        return sent if url in (None, sent.url) else Sent(url=str(url))


def lines_behind(run: RunFolder, url: str | None = None) -> int:
    """Lines of a run that were not sent yet."""
    sent = Sent.of(run, url)
    return sum(1 for _ in read_lines(run.metrics, sent.metrics)) + sum(
        1 for _ in read_lines(run.tracking, sent.tracking)
    )


class Outbox:
    """Sends a run's lines. Several processes may do so for one run: a lock and the offsets on disk keep them apart.

    Args:
        run: the run's folder.
        sink: where to.
    """

    def __init__(self, run: RunFolder, sink: Sink) -> None:
        self.run, self.sink = run, sink
        self._opened = False

    def send(self, lock_timeout_s: float = LOCK_TIMEOUT_S) -> int:
        """Send all that is behind; the number of lines sent.

        Raises:
            RunError: another process is sending; or the run has no start event.
            Exception: what the sink raised; all that was sent before it counts as sent.
        """
        with file_lock(self.run.tracking_lock, lock_timeout_s):
            sent = Sent.of(self.run, self.sink.url)
            # events first in time: what they close (finish) must come after every metric that was written before them
            end = self.run.tracking.stat().st_size if self.run.tracking.is_file() else 0
            if not self._opened or sent.run_id is None:
                sent.run_id = self.sink.open(self._start(), sent.run_id)
                self._opened = True
                self._save(sent)
            return self._send_metrics(sent, sent.run_id) + self._send_events(sent, sent.run_id, end)

    def _start(self) -> dict[str, Any]:
        first = next((line.value for line in read_lines(self.run.tracking) if line.value), None)
        if first is None or first.get("kind") != "start":
            raise RunError(str(self.run.tracking), "does not begin with a start event", "the run was never tracked")
        return first

    def _save(self, sent: Sent) -> None:
        write_json(self.run.tracking_state, asdict(sent))

    def _send_metrics(self, sent: Sent, run_id: str) -> int:
        count = 0
        lines = read_lines(self.run.metrics, sent.metrics)
        while batch := list(islice(lines, BATCH_MAX // 10)):
            points = [point for line in batch for point in _points(line)]
            for first in range(0, len(points), BATCH_MAX):
                self._deliver(sent, run_id, points[first : first + BATCH_MAX])
            sent.metrics = batch[-1].end
            self._save(sent)
            count += len(batch)
        return count

    def _deliver(self, sent: Sent, run_id: str, points: Sequence[Point]) -> None:
        """Send; halve what is refused until the refused point stands alone."""
        try:
            self.sink.metrics(run_id, points)
        except RefusedError as fault:
            if len(points) == 1:
                _note(sent, fault)
                return
            middle = len(points) // 2
            self._deliver(sent, run_id, points[:middle])
            self._deliver(sent, run_id, points[middle:])

    def _send_events(self, sent: Sent, run_id: str, end: int) -> int:
        count = 0
        for line in read_lines(self.run.tracking, sent.tracking, end):
            if line.value is not None:
                try:
                    self.sink.event(run_id, line.value, self.run.path)
                except RefusedError as fault:
                    _note(sent, fault)
            sent.tracking = line.end
            self._save(sent)
            count += 1
        return count


def _points(line: Line) -> list[Point]:
    """Nothing of a damaged line: it must not stop the lines behind it."""
    try:
        entry = line.value or {"values": {}, "step": 0, "time_ms": 0}
        step, time_ms = int(entry["step"]), int(entry["time_ms"])
        return [Point(str(name), float(value), step, time_ms) for name, value in entry["values"].items()]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def _note(sent: Sent, fault: RefusedError) -> None:
    sent.refused += 1
    sent.reason = sent.reason or str(fault)
