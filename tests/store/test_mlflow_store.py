"""Against the real MLflow: a SQLite store that two processes create at once, and a real server on loopback."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from avexp.core.errors import RunError
from avexp.core.run_folder import RunFolder
from avexp.store.mlflow_store import MlflowStore, flatten
from avexp.store.outbox import Outbox, Point, RefusedError, Sent, lines_behind
from avexp.store.tracker import FileTracker, MlflowTracker, sync

pytestmark = [
    # mlflow 3.17 on sqlalchemy 2.1; avexp silences it when it opens the store, the reader of these tests does not
    pytest.mark.filterwarnings("ignore:The ..noload.. loader strategy is deprecated:DeprecationWarning"),
    # sqlalchemy leaves pooled SQLite connections to the collector; mlflow has no call that disposes of its engine
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in.*sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
    ),
]

START = {"start_id": "s", "run_id": "x", "name": "n", "folder": "/f", "time_ms": 1, "params": {}, "tags": {}}
WRITER = """
import sys
from pathlib import Path
from avexp.store.tracker import MlflowTracker
root, run = Path(sys.argv[1]), Path(sys.argv[2])
run.mkdir(parents=True)
tracker = MlflowTracker(None, root, "exp")
tracker.start(run, run.name, run.name, {"seed": run.name}, {})
tracker.log({"loss": 1.0}, 1)
print(tracker.close(60), flush=True)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from avexp.core.run_folder import RunFolder
from avexp.store.mlflow_store import MlflowStore
from avexp.store.outbox import Outbox
root, run = Path(sys.argv[1]), Path(sys.argv[2])
class Dies(MlflowStore):
    def metrics(self, *arguments):
        super().metrics(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
Outbox(RunFolder(run), Dies(None, root, "exp")).send()
"""


def python(code, *arguments):
    command = [sys.executable, "-W", "error::ResourceWarning:avexp", "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real tracking server on loopback with its own SQLite file; starts while other tests run."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **quiet}, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(url):
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="module")
def root(tmp_path_factory, server):
    """A storage root whose new SQLite store two processes created at once (the server is still starting meanwhile)."""
    base = tmp_path_factory.mktemp("base")
    writers = [python(WRITER, base / "store", base / f"run{n}") for n in range(2)]
    for writer in writers:
        out, err = writer.communicate(timeout=60)
        assert (out, err) == ("None\n", "")  # all was sent, and MLflow printed nothing
    return base / "store"


def client(url):
    from mlflow import MlflowClient

    return MlflowClient(url, registry_uri=url)


def digest(folder, what):
    return hashlib.sha256(f"{folder}{what}".encode()).hexdigest()


def fill(tracker, folder):
    """A run with one of each."""
    for name, content in [("config.yaml", "seed: 1\n"), ("lock.json", "{}"), ("pictures/night.png", "png")]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "step-2.ckpt").write_bytes(b"weights")
    (folder / "bundle").mkdir()
    (folder / "bundle" / "manifest.json").write_text("{}")
    (folder / "bundle" / "big.onnx").write_bytes(b"0" * 2**20)
    params = {"model": {"heads": {"lanes": {"width_px": 30}}}, "steps": [1, 2], "long": "y" * 9000}
    tracker.start(folder, folder.name, f"exp/{folder.name}", params, {"stage": "train"})
    tracker.dataset("roads@3", "d" * 64, "store/datasets/roads/3", {"train": 100, "val": 10})
    for step in (1, 2):
        tracker.log({"val/path error [m]": 1.0 / step, "val/nan": float("nan")}, step)
    tracker.picture(folder / "pictures" / "night.png")
    tracker.output("checkpoint", folder / "checkpoints" / "step-2.ckpt", digest(folder, "checkpoint"))
    tracker.output("bundle", folder / "bundle", digest(folder, "bundle"))
    tracker.register("exp", "candidate", folder / "bundle", digest(folder, "bundle"))
    tracker.finish("finished")


def check(url, folder):
    """What a reader of the MLflow page finds of ``fill``."""
    reader = client(url)
    run = reader.get_run(Sent.of(RunFolder(folder)).run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == folder.name
    assert run.data.params["model.heads.lanes.width_px"] == "30"
    assert run.data.params["steps"] == "[1, 2]"
    assert len(run.data.params["long"]) == 6000
    assert run.data.tags["dataset.roads_3"] == "d" * 64
    history = reader.get_metric_history(run.info.run_id, "val/path error _m_")
    assert sorted((point.step, point.value) for point in history) == [(1, 1.0), (2, 0.5)]
    assert run.data.metrics["val/nan"] != run.data.metrics["val/nan"]
    assert {file.path for file in reader.list_artifacts(run.info.run_id)} == {"config.yaml", "lock.json", "pictures"}
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("roads@3", "d" * 12)
    assert json.loads(data.dataset.profile) == {"digest": "d" * 64, "frames": {"train": 100, "val": 10}}
    models = {output.model_id: reader.get_logged_model(output.model_id) for output in run.outputs.model_outputs}
    by_name = {model.name: model for model in models.values()}
    assert {name: model.tags["sha256"] for name, model in by_name.items()} == {
        name: digest(folder, name) for name in ("checkpoint", "bundle")
    }
    version = reader.get_model_version_by_alias("exp", "candidate")
    assert version.run_id == run.info.run_id
    assert version.tags["sha256"] == digest(folder, "bundle")
    assert version.source == by_name["bundle"].artifact_location
    link = json.loads(by_name["bundle"].tags["mlflow.modelVersions"])
    assert link == [{"name": "exp", "version": str(version.version)}]
    return reader, run, models


def artifacts(model):
    place = Path(model.artifact_location.removeprefix("file://"))
    return sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file())


def test_two_processes_created_the_store_and_both_runs_are_in_it(root):
    reader = client(f"sqlite:///{root}/mlflow.db")
    experiment = reader.get_experiment_by_name("exp")
    runs = reader.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["run0", "run1"]
    assert experiment.artifact_location == (root / "mlflow-artifacts" / "exp").as_uri()


def test_round_trip_through_sqlite(root, tmp_path):
    folder = tmp_path / "run"
    tracker = MlflowTracker(None, root, "exp", upload_max_mib=0.5)
    fill(tracker, folder)
    assert tracker.close(30) is None
    _, _, models = check(f"sqlite:///{root}/mlflow.db", folder)
    found = {model.name: artifacts(model) for model in models.values()}
    assert found == {"checkpoint": ["reference.json", "step-2.ckpt"], "bundle": ["reference.json"]}
    assert not Path("mlruns").exists()


def test_a_resumed_run_goes_on_in_its_mlflow_run(root, tmp_path):
    folder = tmp_path / "run"
    fill(tracker := MlflowTracker(None, root, "exp"), folder)
    assert tracker.close(30) is None
    first = Sent.of(RunFolder(folder)).run_id
    tracker = MlflowTracker(None, root, "exp")
    tracker.start(folder, folder.name, "other name", {"steps": "changed"}, {})
    tracker.log({"val/path error [m]": 0.25}, 3)
    assert tracker.close(30) is None
    reader = client(f"sqlite:///{root}/mlflow.db")
    run = reader.get_run(first)
    assert Sent.of(RunFolder(folder)).run_id == first
    assert (run.info.status, run.data.params["steps"]) == ("RUNNING", "[1, 2]")
    assert [point.step for point in reader.get_metric_history(first, "val/path error _m_")] == [1, 2, 3]


class Interrupted(MlflowStore):
    """Dies just after MLflow has stored what ``method`` sent."""

    def __init__(self, method, root):
        super().__init__(None, root, "exp")
        found = getattr(self, method)

        def dies(*arguments):
            found(*arguments)
            raise KeyboardInterrupt

        setattr(self, method, dies)


def sent_once(root, folder):
    """Sending the rest stores nothing twice, and there is one MLflow run."""
    assert lines_behind(RunFolder(folder)) > 0
    sync(folder)
    assert lines_behind(RunFolder(folder)) == 0
    reader, run, _ = check(f"sqlite:///{root}/mlflow.db", folder)
    assert len(reader.search_runs([run.info.experiment_id], f"tags.`avexp.folder` = '{folder}'")) == 1
    assert sync(folder) == sync(folder)


@pytest.mark.parametrize("method", ["open", "event"])
def test_stopped_between_sending_and_noting_it(root, tmp_path, method):
    folder = tmp_path / "run"
    fill(tracker := FileTracker(root, "exp"), folder)
    assert tracker.close() is None
    with pytest.raises(KeyboardInterrupt):
        Outbox(RunFolder(folder), Interrupted(method, root)).send()
    sent_once(root, folder)


def test_killed_between_sending_and_noting_it(root, tmp_path):
    folder = tmp_path / "run"
    fill(tracker := FileTracker(root, "exp"), folder)
    assert tracker.close() is None
    process = python(KILLED, root, folder)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    sent_once(root, folder)


def test_round_trip_through_a_server(root, server, tmp_path):
    wait_for(server)
    folder = tmp_path / "run"
    fill(tracker := MlflowTracker(server, tmp_path / "unused", "exp"), folder)
    assert tracker.close(30) is None
    check(server, folder)
    assert not (tmp_path / "unused").exists()


def test_a_run_can_be_sent_to_another_server_later(root, server, tmp_path):
    wait_for(server)
    folder = tmp_path / "run-none"
    fill(tracker := FileTracker(root, "exp"), folder)
    assert tracker.close() is None
    sync(folder, server)
    check(server, folder)


def test_a_run_deleted_in_mlflow_waits_and_is_named(root, tmp_path):
    folder = tmp_path / "run-deleted"
    fill(tracker := FileTracker(root, "exp"), folder)
    tracker.close()
    run_id = sync(folder).run_id
    reader = client(f"sqlite:///{root}/mlflow.db")
    reader.delete_run(run_id)
    store = MlflowStore(None, root, "exp")
    with pytest.raises(RunError, match="was deleted; restore it in MLflow"):
        store.open(START, run_id)
    reader.restore_run(run_id)
    store.open(START, run_id)
    reader.delete_run(run_id)
    with pytest.raises(RunError, match="was deleted"):
        store.metrics(run_id, [Point("a", 1.0, 1, 1)])


def test_what_mlflow_will_never_take_is_refused(root, tmp_path):
    store = MlflowStore(None, root, "exp")
    run_id = store.open({**START, "start_id": "refusals"}, None)
    params = [{**START, "params": {"a": value}, "kind": "start"} for value in (1, 2)]
    store.event(run_id, params[0], tmp_path)
    with pytest.raises(RefusedError, match="Changing param values is not allowed"):
        store.event(run_id, params[1], tmp_path)
    with pytest.raises(RefusedError, match="unknown kind 'hologram'"):
        store.event(run_id, {"kind": "hologram"}, tmp_path)
    outside = tmp_path / "secret"
    outside.write_text("s")
    (tmp_path / "run").mkdir()
    for path, text in [(outside, "lies outside the run folder"), ("gone.png", "no such file any more")]:
        with pytest.raises(RefusedError, match=text):
            store.event(run_id, {"kind": "picture", "path": str(path), "place": "p"}, tmp_path / "run")


def test_params_are_flattened():
    nested = {"a": {"b": 1, "c": {}}, "d": [{"e": None}, {"e": "x"}], "f": [1.5, "y"], "g": True}
    expected = {"a.b": "1", "a.c": "{}", "d.0.e": "null", "d.1.e": "x", "f": '[1.5, "y"]', "g": "true"}
    assert flatten(nested) == expected
