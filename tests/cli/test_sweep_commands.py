"""``avexp sweep ...`` on a sweep that ended, failed and goes on."""

import json

import pytest
from typer.testing import CliRunner

from avexp.cli.sweep import app
from avexp.core.errors import RunError
from avexp.core.progress import console
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.sweep import SweepPlan, create, run

NAME = "20260101T000000Z-aaaaaa"


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    from pathlib import Path

    tests = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(str(tests))
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{tests.parent}")
    monkeypatch.setattr("avexp.jobs.sweep.snapshot", lambda folder, modules=(): None)
    plan = SweepPlan(
        folder=tmp_path / "ci" / "toy" / NAME, stage="ci", function="toy_stage:work", command="avexp ci -m ...",
        words=["seed=1,2", "only=[],[fail]", "steps=2"], launcher=Launcher.of({"concurrent": 2}),
    )  # fmt: skip
    ledger = create(plan)
    run(ledger)
    ledger.close()
    return tmp_path


def said(outputs, *words):
    with console.capture() as captured:
        CliRunner().invoke(app, [*map(str, words), "--outputs", str(outputs)], catch_exceptions=False)
    return captured.get()


def as_json(outputs, monkeypatch, *words):
    found = []
    monkeypatch.setattr("avexp.cli.sweep.say_json", found.append)
    said(outputs, *words, "--json")
    return json.loads(json.dumps(found[0]))


def test_a_person_sees_what_is_there(outputs):
    assert f"{NAME}  toy            2 failed, 2 finished" in said(outputs, "ls")
    table = said(outputs, "status", "aaaaaa")
    for text in ("2 failed, 2 finished", "failed      1: ValueError: told to fail", "next        avexp sweep why 1"):
        assert text in table
    why = said(outputs, "why", 1)
    assert "trial 1: failed; seed=1 only=[fail] steps=2" in why or "trial 1: failed; seed=1 only=[fail]" in why
    assert "Traceback" in why
    assert "Traceback" in CliRunner().invoke(app, ["logs", "1", "--outputs", str(outputs)]).output
    assert "trial " in said(outputs, "best")


def test_a_watcher_ends_when_nothing_moves(outputs, monkeypatch):
    monkeypatch.setattr("avexp.cli.sweep.STARTS_S", 0.0)
    assert "2 failed, 2 finished" in said(outputs, "watch")
    said(outputs, "retry", "--failed")  # planned, and nobody runs it
    found = said(outputs, "watch")
    assert "2 finished, 2 planned" in found
    assert "nobody runs it" in found


def test_a_program_reads_it(outputs, monkeypatch):
    [row] = as_json(outputs, monkeypatch, "ls")
    assert (row["counts"], row["attended"]) == ({"failed": 2, "finished": 2}, False)
    status = as_json(outputs, monkeypatch, "status")
    assert [trial["state"] for trial in status["trials"]] == ["finished", "failed", "finished", "failed"]
    best = as_json(outputs, monkeypatch, "best")
    assert best[0]["values"]["score"] == max(trial["value"] or 0 for trial in status["trials"])
    assert as_json(outputs, monkeypatch, "why", 1)["attempts_made"][0]["state"] == "failed"


def test_retry_extend_and_cancel(outputs):
    assert "2 trials are planned again" in said(outputs, "retry")
    assert "2 trials are asked to end" in said(outputs, "cancel")
    ledger = Ledger(outputs / "ci" / "toy" / NAME)
    assert ledger.counts() == {"cancelled": 2, "finished": 2}
    assert "2 trials are planned again" in said(outputs, "retry", "--cancelled")
    assert len(ledger.trials(State.planned)) == 2
    with pytest.raises(RunError, match="is a grid"):
        said(outputs, "extend", 5)


def test_unknown_sweeps_and_trials_are_one_line(outputs):
    with pytest.raises(RunError, match="no such sweep under"):
        said(outputs, "status", "zzz")
    with pytest.raises(RunError, match="has no trial 9"):
        said(outputs, "why", 9)
