"""MLflow behind the outbox. The only module that imports mlflow, and it does so late and inside the sending thread.

The default store is one SQLite file with its artifacts beside it; any other tracking URL works too. A dataset version becomes a
dataset input; a checkpoint or bundle becomes a logged model and an output of the run; a registered bundle becomes a model
version with an alias, whose source is that logged model's artifact folder (a server refuses sources outside its artifacts).
"""

import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.core.file_lock import file_lock
from avexp.core.files import write_json
from avexp.store.outbox import Point, RefusedError

OPEN_TIMEOUT_S = 120.0
"""How long to wait while other processes create or open the same SQLite file."""
PARAM_MAX, TAG_MAX, KEY_MAX, PER_BATCH = 6000, 5000, 250, 100
"""MLflow's limits: letters of a param, tag and name; params or tags in one call."""
DIGEST_SHOWN = 12
"""Digits of a dataset's digest in MLflow's own field (it takes 36); all of them are in a tag and in the profile."""
NEVER = ("INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
"""Error codes that say no for good."""
STATES = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "pruned": "KILLED"}
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # [s]; 120 by default
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the outbox tries again by itself; 7 by default, with 247 s in all
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment that holds unless the user has set it."""


def default_url(root: Path) -> str:
    """The embedded store below a storage root."""
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


class MlflowStore:
    """A sink for outboxes.

    Args:
        url: tracking server or database; None for the embedded store.
        root: storage root; holds mlflow.db and mlflow-artifacts/ of the embedded store.
        experiment: MLflow experiment of the runs.
        upload_max_mib: larger checkpoints and bundles are recorded by path and digest, not copied [MiB].
    """

    def __init__(self, url: str | None, root: Path, experiment: str, upload_max_mib: float = 64.0) -> None:
        self._embedded = url is None
        self._url = url or default_url(root)
        self._root, self._experiment, self._upload_max_mib = root.resolve(), experiment, upload_max_mib
        self._client: Any = None
        self._experiment_id = ""

    @property
    def url(self) -> str:
        """Address, absolute."""
        return self._url

    def open(self, start: dict[str, Any], known: str | None) -> str:
        """Find or create the MLflow run of a start event; its id.

        Raises:
            RunError: the run was deleted in MLflow.
        """
        if self._client is None:
            self._client = self._opened_client()
        with _refusals():
            self._experiment_id = self._experiment_id or self._find_experiment()
            run_id = known or self._find_run(str(start["start_id"])) or self._create_run(start)
        self._must_be_active(run_id)
        return run_id

    def _opened_client(self) -> Any:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        for package in ("mlflow", "sqlalchemy", "alembic"):
            # for the whole process: what changes filters only for a while is not safe beside other threads
            warnings.filterwarnings("ignore", module=rf"{package}\b")
        import mlflow

        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)
            logging.getLogger("alembic").setLevel(logging.WARNING)
        file = self._url.removeprefix("sqlite:///") if self._url.startswith("sqlite:///") else None
        # MLflow creates and migrates a new SQLite file without a lock: two processes at once break it
        lock = file_lock(Path(file).with_name(f".{Path(file).name}.lock"), OPEN_TIMEOUT_S) if file else nullcontext()
        with lock:
            client = mlflow.MlflowClient(tracking_uri=self._url, registry_uri=self._url)
            if file:
                client.get_experiment("0")
        return client

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            place = self._root / "mlflow-artifacts" / re.sub(r"[^\w.-]", "_", self._experiment)
            try:
                return str(self._client.create_experiment(self._experiment, place.as_uri() if self._embedded else None))
            except MlflowException:
                found = self._client.get_experiment_by_name(self._experiment)  # another process was first
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find_run(self, start_id: str) -> str | None:
        """A run that was created just before its creator was killed."""
        found = self._client.search_runs([self._experiment_id], f"tags.`avexp.start_id` = '{start_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create_run(self, start: dict[str, Any]) -> str:
        tags = {f"avexp.{name}": str(start[name]) for name in ("start_id", "run_id", "folder")}
        name = str(start["name"]).removeprefix(f"{self._experiment}/")  # the page names the experiment anyway
        run = self._client.create_run(self._experiment_id, start["time_ms"], tags, run_name=name)
        return str(run.info.run_id)

    def _must_be_active(self, run_id: str) -> None:
        if self._client.get_run(run_id).info.lifecycle_stage != "active":
            raise RunError(
                f"MLflow run {run_id}", "was deleted", "restore it in MLflow, or remove the run's mlflow.json"
            )

    def metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """One log_batch."""
        from mlflow.entities import Metric

        batch = [Metric(_name(point.name), point.value, point.time_ms, point.step) for point in points]
        with self._while_active(run_id):
            self._client.log_batch(run_id, metrics=batch)

    def event(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        """Store an event by its kind; kinds of later versions are refused."""
        handlers = {
            "start": self._start,
            "resume": self._resume,
            "dataset": self._dataset,
            "picture": self._picture,
            "output": self._output,
            "register": self._register,
            "finish": self._finish,
        }
        if event.get("kind") not in handlers:
            raise RefusedError(f"an event of unknown kind {event.get('kind')!r}")
        with self._while_active(run_id):
            handlers[event["kind"]](run_id, event, folder)

    @contextmanager
    def _while_active(self, run_id: str) -> Iterator[None]:
        """MLflow answers for a deleted run as for a bad value: then nothing is refused, all of it waits."""
        try:
            with _refusals():
                yield
        except RefusedError:
            self._must_be_active(run_id)
            raise

    def _start(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(_name(key), _cut(value, PARAM_MAX)) for key, value in flatten(event["params"]).items()]
        tags = [RunTag(_name(key), _cut(str(value), TAG_MAX)) for key, value in event["tags"].items()]
        for first in range(0, len(params), PER_BATCH):
            self._client.log_batch(run_id, params=params[first : first + PER_BATCH])
        for first in range(0, len(tags), PER_BATCH):
            self._client.log_batch(run_id, tags=tags[first : first + PER_BATCH])
        config = folder / "config.yaml"
        if config.is_file():
            self._client.log_artifact(run_id, str(config))
        else:
            self._client.log_dict(run_id, event["params"], "config.yaml")

    def _resume(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        self._client.update_run(run_id, status="RUNNING")

    def _dataset(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest, source = str(event["digest"]), json.dumps({"uri": event["uri"]})
        profile = json.dumps({"digest": digest, "frames": event["split_counts"]})
        dataset = Dataset(event["name"], digest[:DIGEST_SHOWN], "avexp", source, profile=profile)
        context = InputTag("mlflow.data.context", str(event.get("context", "training")))
        self._client.log_inputs(run_id, [DatasetInput(dataset, [context])])
        self._client.set_tag(run_id, _name(f"dataset.{event['name']}"), digest)

    def _picture(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        path = _resolved(folder, event["path"])
        if not path.is_file() or not _inside(folder, path):
            raise RefusedError(
                f"{path}: " + ("lies outside the run folder" if path.is_file() else "no such file any more")
            )
        self._client.log_artifact(run_id, str(path), str(event["place"]))

    def _output(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        self._logged_model(run_id, event, folder)

    def _logged_model(self, run_id: str, event: dict[str, Any], folder: Path) -> Any:
        """The logged model of an output, made unless it is there; its artifacts are the file itself or a reference."""
        from mlflow.entities import LoggedModelOutput

        facts = {"kind": event["output"], "path": str(_resolved(folder, event["path"])), "sha256": event["sha256"]}
        known = self._client.search_logged_models([self._experiment_id], f"source_run_id = '{run_id}'")
        model = next((model for model in known if model.tags.get("sha256") == facts["sha256"]), None)
        if model is None:
            kind = _name(facts["kind"]).replace("/", "_").replace(".", "_").replace(":", "_")
            model = self._client.create_logged_model(self._experiment_id, kind, run_id, facts, model_type=kind)
        if model.status != "READY":
            self._upload(model.model_id, folder, facts)
            self._client.finalize_logged_model(model.model_id, "READY")
        outputs = self._client.get_run(run_id).outputs
        if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
            self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=int(event["step"]))])
        return model

    def _upload(self, model_id: str, folder: Path, facts: dict[str, Any]) -> None:
        path = Path(facts["path"])
        files = (
            [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path] if path.is_file() else []
        )
        size = sum(file.stat().st_size for file in files)
        copied = bool(files) and size <= self._upload_max_mib * 2**20 and _inside(folder, path)
        with tempfile.TemporaryDirectory(prefix="avexp-") as aside:
            reference = Path(aside) / "reference.json"
            write_json(reference, {**facts, "bytes": size, "copied": copied})
            self._client.log_model_artifact(model_id, str(reference))
        if copied and path.is_dir():
            self._client.log_model_artifacts(model_id, str(path), path.name)
        elif copied:
            self._client.log_model_artifact(model_id, str(path))

    def _register(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        from mlflow.exceptions import MlflowException

        name = _name(event["model"]).replace("/", "_").replace(":", "_")
        model = self._logged_model(run_id, {**event, "output": "bundle"}, folder)
        try:
            self._client.create_registered_model(name)
        except MlflowException as fault:
            if fault.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = self._client.search_model_versions(f"name = '{name}'")
        version = next((entry for entry in known if entry.tags.get("sha256") == event["sha256"]), None)
        if version is None:
            version = self._client.create_model_version(
                name,
                model.artifact_location,
                run_id,
                tags={"sha256": event["sha256"], "path": str(_resolved(folder, event["path"]))},
                await_creation_for=0,
                model_id=model.model_id,
            )
        self._client.set_registered_model_alias(name, str(event["alias"]), version.version)
        # a server does this by itself; on a database the page would not link the model to its version
        link = json.dumps([{"name": name, "version": str(version.version)}])
        self._client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})

    def _finish(self, run_id: str, event: dict[str, Any], folder: Path) -> None:
        for name in ("lock.json", "report.html"):
            if (folder / name).is_file():
                self._client.log_artifact(run_id, str(folder / name))
        self._client.set_tag(run_id, "avexp.state", event["status"])
        self._client.set_terminated(run_id, STATES.get(event["status"], "FAILED"), event["time_ms"])


@contextmanager
def _refusals() -> Iterator[None]:
    """MLflow's "no, never" as a refusal; everything else (down, busy, not allowed yet) is tried again."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as fault:
        if fault.error_code in NEVER:
            raise RefusedError(str(fault).splitlines()[0][:300]) from fault
        raise


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested params as dotted names with text; a list of plain values is one param."""
    if isinstance(value, dict) and value:
        flat: dict[str, str] = {}
        for key, child in value.items():
            flat |= flatten(child, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if isinstance(value, list | tuple) and any(isinstance(child, dict | list | tuple) for child in value):
        return flatten({str(index): child for index, child in enumerate(value)}, prefix)
    return {prefix: value if isinstance(value, str) else json.dumps(value, default=str)}


def _name(text: str) -> str:
    """A name that MLflow takes: letters, digits, _ - . : / and space, no empty or dotted part."""
    parts = [part for part in re.sub(r"[^\w\-. :/]", "_", str(text), flags=re.ASCII).split("/") if part.strip(". ")]
    return "/".join(parts)[:KEY_MAX].rstrip("/") or "_"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _resolved(folder: Path, path: str) -> Path:
    """Paths inside the run folder are stored relative to it: it may have been moved."""
    return (folder / path).resolve()


def _inside(folder: Path, path: Path) -> bool:
    """Only what lies in the run's folder is sent: a run from elsewhere must not name other files of this machine."""
    return path.is_relative_to(folder.resolve())
