"""What training talks to: everything is written to the run folder at once, and sent on in the background.

Nothing here raises into training, and no call waits for a server, except ``close``, and that for a bounded time.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from avexp.core.errors import ConfigError, RunError
from avexp.core.run_folder import RunFolder
from avexp.store.forwarder import Forwarder, root_cause
from avexp.store.json_lines import JsonLines, read_lines
from avexp.store.mlflow_store import MlflowStore, default_url
from avexp.store.outbox import Outbox, Sent, lines_behind

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


class Tracker(Protocol):
    """Params, metrics, pictures, inputs, outputs and cost of a run. Calls before ``start`` are ignored (other ranks)."""

    def start(
        self, run_folder: Path, run_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """Begin, or go on with a run that was begun before (its params stay as they were)."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Values of metrics at an optimizer step; a few microseconds."""

    def picture(self, path: Path) -> None:
        """A picture or other file to show beside the run."""

    def dataset(self, name: str, digest: str, uri: str, split_counts: Mapping[str, int]) -> None:
        """A dataset version that the run reads."""

    def output(self, kind: str, path: Path, sha256: str) -> None:
        """A checkpoint or bundle that the run made."""

    def register(self, model_name: str, alias: str, bundle_path: Path, sha256: str) -> None:
        """A bundle as the next version of a registered model, with an alias such as candidate or champion."""

    def finish(self, status: str) -> None:
        """How the run ended: finished, stopped or failed."""

    def close(self, timeout_s: float = 10.0) -> str | None:
        """End; None if all was stored, else what is missing and what to do, in one line."""


class FileTracker:
    """Tracks into the run folder only.

    Args:
        root: storage root.
        experiment: name of the experiment.
    """

    url: str | None = None

    def __init__(self, root: str | Path = "outputs/store", experiment: str = "avexp") -> None:
        self._root, self._experiment = Path(root), experiment
        self._run: RunFolder | None = None
        self._metrics: JsonLines | None = None
        self._events: JsonLines | None = None
        self._step = 0
        self._fault = ""

    def start(
        self, run_folder: Path, run_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """See Tracker."""
        with self._kept_from_training():
            run = RunFolder(Path(run_folder).resolve())
            begun = any(line.value for line in read_lines(run.tracking))
            self._run, self._metrics, self._events = run, JsonLines(run.metrics), JsonLines(run.tracking)
            if begun:
                self._event("resume")
            else:
                where = {"url": self.url, "root": str(self._root.resolve()), "experiment": self._experiment}
                # run ids of sweep trials are mere numbers: what makes this run one of its kind is drawn here, once
                who = {"start_id": secrets.token_hex(8), "run_id": run_id, "name": name, "folder": str(run.path)}
                self._event("start", **where, **who, params=dict(params), tags=dict(tags))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        if self._metrics is None:
            return
        with self._kept_from_training():
            self._step = step
            plain = {name: float(value) for name, value in values.items()}
            self._metrics.append({"step": step, "time_ms": _now_ms(), "values": plain})

    def picture(self, path: Path) -> None:
        """See Tracker."""
        self._event("picture", path=self._relative(path), place="pictures")

    def dataset(self, name: str, digest: str, uri: str, split_counts: Mapping[str, int]) -> None:
        """See Tracker."""
        self._event("dataset", name=name, digest=digest, uri=uri, split_counts=dict(split_counts))

    def output(self, kind: str, path: Path, sha256: str) -> None:
        """See Tracker."""
        self._event("output", output=kind, path=self._relative(path), sha256=sha256, step=self._step)

    def register(self, model_name: str, alias: str, bundle_path: Path, sha256: str) -> None:
        """See Tracker."""
        path = self._relative(bundle_path)
        self._event("register", model=model_name, alias=alias, path=path, sha256=sha256, step=self._step)

    def finish(self, status: str) -> None:
        """See Tracker."""
        self._event("finish", status=status)

    def close(self, timeout_s: float = 10.0) -> str | None:
        """See Tracker."""
        unwritten = 0
        for lines in (self._metrics, self._events):
            if lines is not None:
                lines.close()
                unwritten += lines.unwritten
                self._fault = self._fault or lines.fault
        self._metrics = self._events = None
        if unwritten or self._fault:
            return f"tracking: {unwritten} lines could not be written ({self._fault})"
        return None

    def _event(self, kind: str, **facts: Any) -> None:
        if self._events is not None:
            with self._kept_from_training():
                self._events.append({"kind": kind, "time_ms": _now_ms(), **facts})

    def _relative(self, path: Path) -> str:
        """Relative to the run folder where it lies inside, so that a moved run can still be sent."""
        absolute = Path(path).resolve()
        if self._run is not None and absolute.is_relative_to(self._run.path):
            return str(absolute.relative_to(self._run.path))
        return str(absolute)

    @contextmanager
    def _kept_from_training(self) -> Iterator[None]:
        """Keep the first fault for ``close`` to tell."""
        try:
            yield
        except Exception as fault:
            self._fault = self._fault or f"{type(fault).__name__}: {fault}"


class MlflowTracker(FileTracker):
    """Tracks into the run folder, and from there to MLflow in a background thread.

    Args:
        url: tracking server or database; None for the embedded store ``<root>/mlflow.db``.
        root: storage root.
        experiment: MLflow experiment.
        upload_max_mib: larger checkpoints and bundles are recorded by path and digest, not copied [MiB].

    Raises:
        ConfigError: the URL is none that MLflow knows.
    """

    def __init__(
        self,
        url: str | None = None,
        root: str | Path = "outputs/store",
        experiment: str = "avexp",
        upload_max_mib: float = 64.0,
    ) -> None:
        super().__init__(root, experiment)
        if url is not None and urlsplit(url).scheme.split("+")[0] not in SCHEMES:
            raise ConfigError(
                [f"store.url: {url} is no tracking URL; such as http://host:5000 or sqlite:////path/mlflow.db"]
            )
        self.url = url
        self._upload_max_mib = upload_max_mib
        self._forwarder: Forwarder | None = None

    def start(
        self, run_folder: Path, run_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        """See Tracker. The store is imported and opened in the thread: this takes milliseconds."""
        super().start(run_folder, run_id, name, params, tags)
        with self._kept_from_training():
            self._forwarder = Forwarder(self._outbox)

    def _outbox(self) -> Outbox:
        assert self._run is not None
        return Outbox(self._run, MlflowStore(self.url, self._root, self._experiment, self._upload_max_mib))

    def close(self, timeout_s: float = 10.0) -> str | None:
        """See Tracker."""
        run, forwarder = self._run, self._forwarder
        unwritten = super().close()
        if run is None or forwarder is None:
            return unwritten
        forwarder.close(timeout_s)
        self._forwarder = None
        url = self.url or default_url(self._root)
        sent, behind = Sent.of(run, url), lines_behind(run, url)
        if behind:
            reason = f" ({forwarder.fault})" if forwarder.fault else ""
            return f"tracking: {behind} lines behind{reason}; send them with `avexp run sync {run.id}`"
        if sent.refused:
            return f"tracking: MLflow refused {sent.refused} entries, such as: {sent.reason}"
        return unwritten


def sync(run_folder: Path, url: str | None = None) -> Sent:
    """Send what is behind of a run; nothing happens if nothing is.

    Args:
        run_folder: of the run.
        url: another server than the one it was tracked to; all of the run is sent there.

    Raises:
        RunError: the run was never tracked, or the server cannot be reached; with what is behind.
    """
    run = RunFolder(Path(run_folder).resolve())
    start = next((line.value for line in read_lines(run.tracking) if line.value), None)
    if start is None or start.get("kind") != "start":
        raise RunError(str(run.path), "was never tracked", "there is nothing to send")
    store = MlflowStore(url or start["url"], Path(start["root"]), str(start["experiment"]))
    try:
        Outbox(run, store).send()
    except RunError:
        raise
    except Exception as fault:
        what = f"{lines_behind(run, store.url)} lines behind ({root_cause(fault)})"
        raise RunError(store.url, what, "is the server up?") from fault
    return Sent.of(run)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
