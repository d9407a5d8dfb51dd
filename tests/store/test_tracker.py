"""Trackers against servers that are down or hang; the server side that works is in test_mlflow_store."""

import json
import math
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from avexp.core.errors import ConfigError, RunError
from avexp.core.files import write_json
from avexp.core.run_folder import RunFolder
from avexp.store.json_lines import read_lines, read_metrics
from avexp.store.outbox import Sent
from avexp.store.tracker import FileTracker, MlflowTracker, sync

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # requests, on a connection given up


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def hung_server():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def start(tracker, folder):
    tracker.start(folder, "20261123T051500Z-k3f9qa", "exp/k3", {"seed": 1}, {"stage": "train"})


def test_files_hold_all_of_a_run(tmp_path):
    tracker = FileTracker(tmp_path / "store", "exp")
    tracker.log({"ignored": 1.0}, 0)  # another rank never starts
    start(tracker, tmp_path / "run")
    tracker.log({"loss": 0.5, "val": math.inf}, 3)
    tracker.picture(tmp_path / "run" / "pictures" / "a.png")
    tracker.output("bundle", tmp_path / "elsewhere", "b" * 64)
    tracker.finish("stopped")
    assert tracker.close() is None
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == {"loss": [(3, 0.5)], "val": [(3, math.inf)]}
    events = [line.value for line in read_lines(tmp_path / "run" / "tracking.jsonl")]
    assert [event["kind"] for event in events] == ["start", "picture", "output", "finish"]
    assert events[0]["params"] == {"seed": 1}
    assert events[1]["path"] == "pictures/a.png"
    assert events[2]["path"] == str(tmp_path / "elsewhere")
    assert events[2]["step"] == 3


def test_a_resumed_run_does_not_start_again(tmp_path):
    for _ in range(2):
        tracker = FileTracker(tmp_path, "exp")
        start(tracker, tmp_path / "run")
        tracker.close()
    kinds = [line.value["kind"] for line in read_lines(tmp_path / "run" / "tracking.jsonl")]
    assert kinds == ["start", "resume"]


def test_nothing_raises_into_training_and_close_tells(tmp_path):
    (tmp_path / "file").write_text("")
    tracker = FileTracker(tmp_path, "exp")
    start(tracker, tmp_path / "file" / "run")
    tracker.log({"loss": 1.0}, 1)
    assert "could not be written" in tracker.close()
    tracker = FileTracker(tmp_path, "exp")
    start(tracker, tmp_path / "run")
    tracker.log({"loss": "text"}, 1)
    tracker.log({"loss": 1.0}, 2)
    assert "ValueError" in tracker.close()
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == {"loss": [(2, 1.0)]}


def test_a_dead_server_costs_training_nothing_and_close_says_what_to_do(tmp_path, closed_port):
    tracker = MlflowTracker(closed_port, tmp_path / "store", "exp")
    start(tracker, tmp_path / "20261123T051500Z-k3f9qa")
    for step in range(20):
        tracker.log({"loss": 1.0}, step)
    told = tracker.close(20)
    remedy = "send them with `avexp run sync 20261123T051500Z-k3f9qa`"
    assert told == f"tracking: 21 lines behind (Connection refused); {remedy}"
    with pytest.raises(RunError, match=r"21 lines behind \(Connection refused\); is the server up\?"):
        sync(tmp_path / "20261123T051500Z-k3f9qa")


def test_a_hung_server_holds_close_only_for_its_time(tmp_path, hung_server):
    tracker = MlflowTracker(hung_server, tmp_path / "store", "exp")
    start(tracker, tmp_path / "run")
    tracker.log({"loss": 1.0}, 1)
    began = time.monotonic()
    told = tracker.close(0.5)
    assert time.monotonic() - began < 2.0
    assert told.startswith("tracking: 2 lines behind (no answer within ")


def test_a_folder_that_was_never_tracked_is_named(tmp_path):
    with pytest.raises(RunError, match="was never tracked"):
        sync(tmp_path)


@pytest.mark.parametrize("url", ["htp://host", "host:5000", "file:///tmp"])
def test_a_url_that_mlflow_does_not_know_is_refused_before_the_run(url):
    with pytest.raises(ConfigError, match="is no tracking URL"):
        MlflowTracker(url)


def test_lines_are_plain_json(tmp_path):
    tracker = FileTracker(tmp_path, "exp")
    start(tracker, tmp_path / "run")
    tracker.log({"loss": 0.5}, 3)
    tracker.close()
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert (found["step"], found["values"]) == (3, {"loss": 0.5})
    assert abs(found["time_ms"] / 1000 - time.time()) < 60


def test_a_run_resumed_towards_a_dead_server_does_not_count_as_sent(tmp_path, closed_port):
    run = RunFolder(tmp_path / "run")
    tracker = FileTracker(tmp_path, "exp")
    start(tracker, run.path)
    tracker.close()
    size = run.tracking.stat().st_size
    write_json(run.tracking_state, asdict(Sent(url="http://old:1", run_id="a", tracking=size)))
    tracker = MlflowTracker(closed_port, tmp_path, "exp")
    start(tracker, run.path)
    assert "2 lines behind" in tracker.close()


def test_trackers_do_not_import_mlflow():
    code = "import sys, avexp.store.tracker, avexp.store.lineage, avexp.store.cost; print([m for m in HEAVY if m in sys.modules])"
    heavy = "('mlflow', 'torch', 'sqlalchemy', 'numpy')"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("HEAVY", heavy)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
