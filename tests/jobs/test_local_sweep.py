"""Sweeps on this machine: run, killed, gone on with."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict

import pytest
from toy_stage import value_of

from avexp.core.errors import ConfigError, RunError
from avexp.core.file_lock import file_lock
from avexp.core.files import write_json
from avexp.jobs.controller import attended
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.map_jobs import map_jobs
from avexp.jobs.settling import cancel_trials
from avexp.jobs.starts import starts
from avexp.jobs.sweep import find_sweep, run, sweeps, unfinished

FORK = multiprocessing.get_context("spawn")


def states(ledger):
    return [trial.state for trial in ledger.each()]


def values(ledger):
    return [trial.value for trial in ledger.each()]


def completions(ledger):
    return [
        len((ledger.folder / str(trial.number) / "completions").read_text().splitlines())
        for trial in ledger.each()
        if trial.state is not State.same
    ]


def test_a_sweep_ends_with_a_run_folder_a_trial(planned):
    ledger = planned("seed=1,2,3", "steps=4", concurrent=2)
    run(ledger)
    assert states(ledger) == [State.finished] * 3
    assert len(set(values(ledger))) == 3
    folder = ledger.folder / "1"
    for name in (".hydra/config.yaml", ".hydra/overrides.yaml", "config.yaml", "lock.json", "status.json", "log.txt"):
        assert (folder / name).is_file(), name
    assert ledger.trial(0).metrics == {"val/toy": ledger.trial(0).value}


def test_equal_trials_run_once(planned):
    ledger = planned("seed=1,1,2", "steps=3,3", concurrent=2)
    run(ledger)
    assert ledger.counts() == {"finished": 2, "same": 4}
    assert completions(ledger) == [1, 1]


def test_a_failed_trial_is_a_row_with_its_log(planned):
    ledger = planned("steps=2", "only=[],[fail]", "seed=1")
    run(ledger)
    good, bad = ledger.trials()
    assert (good.state, bad.state) == (State.finished, State.failed)
    assert bad.reason.startswith("ValueError: told to fail\n")
    assert "Traceback" in bad.reason


def test_equal_failures_in_a_row_stop_the_sweep(planned):
    ledger = planned("steps=2", "only=[fail]", "seed=range(0,40)", stop_after_failures=3)
    controller = run(ledger)
    assert controller.stopped == "3 trials in a row failed alike: ValueError: told to fail"
    assert ledger.counts()["failed"] < 40
    assert ledger.counts()["planned"] > 0


def go_on(folder, environment):
    os.environ.update(environment)
    ledger = Ledger(folder)
    run(ledger)


@pytest.mark.parametrize("delay", [0.4, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_killed_launcher_loses_nothing_and_runs_nothing_twice(planned, delay, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.02")
    quiet = planned("seed=range(0,6)", "steps=12", folder="quiet", concurrent=3)
    run(quiet)
    ledger = planned("seed=range(0,6)", "steps=12", folder="killed", concurrent=3)
    process = FORK.Process(target=go_on, args=(ledger.folder, dict(os.environ)))
    process.start()
    until = time.monotonic() + 60
    while not ledger.attempts() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    run(ledger)
    assert states(ledger) == [State.finished] * 6
    assert values(ledger) == values(quiet)
    assert completions(ledger) == [1] * 6


def test_a_killed_trial_goes_on_where_it_was(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.03")
    ledger = planned("seed=5", "steps=20")
    killed = []

    def kill(one):
        folder = one.folder / "0"
        if not killed and len(list(folder.glob("checkpoints/*"))) > 3:
            killed.append(int((folder / "starts.jsonl").read_text().split('"pid": ')[1].split(",")[0]))
            os.kill(killed[0], signal.SIGKILL)

    run(ledger, show=kill)
    assert killed
    assert states(ledger) == [State.finished]
    assert len((ledger.folder / "0" / "starts.jsonl").read_text().splitlines()) == 2
    assert completions(ledger) == [1]


def test_a_trial_that_is_killed_after_its_last_step_tells_its_value_and_trains_no_more(planned):
    ledger = planned("seed=3", "steps=4", "only=[dies at its end]")
    run(ledger)
    assert (ledger.trial(0).state, ledger.trial(0).value) == (State.finished, value_of(3, 4))
    assert len(starts(ledger.folder / "0")) == 2
    assert completions(ledger) == [1]


def test_restarts_are_bounded_by_progress(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "30")  # it never comes to a checkpoint
    ledger = planned("seed=5", "steps=20", restarts_without_progress=2)

    def kill(one):
        path = one.folder / "0" / "starts.jsonl"
        if path.is_file():
            pid = int(path.read_text().splitlines()[-1].split('"pid": ')[1].split(",")[0])
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    run(ledger, show=kill)
    trial = ledger.trial(0)
    assert trial.state is State.failed
    assert trial.reason.startswith("no progress in 2 starts from step 0")


def test_sigterm_saves_and_the_trial_is_started_again(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.03")
    ledger = planned("seed=5", "steps=20")
    told = []

    def terminate(one):
        path = one.folder / "0" / "starts.jsonl"
        if path.is_file() and not told and len(list((one.folder / "0").glob("checkpoints/*"))) > 1:
            told.append(int(path.read_text().split('"pid": ')[1].split(",")[0]))
            os.kill(told[0], signal.SIGTERM)

    run(ledger, show=terminate)
    assert told
    assert states(ledger) == [State.finished]
    assert completions(ledger) == [1]


def test_cancelled_trials_save_and_stay_ended_until_they_are_retried(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.05")
    ledger = planned("seed=1,2,3", "steps=30")
    asked = []

    def cancel(one):
        if not asked and (one.folder / "0" / "checkpoints").is_dir():
            asked.append(cancel_trials(one, Launcher().backend(one.folder, []), [2]))
            (one.folder / "0" / "cancelled").touch()
            os.kill(
                int((one.folder / "0" / "starts.jsonl").read_text().split('"pid": ')[1].split(",")[0]), signal.SIGTERM
            )

    run(ledger, show=cancel)
    assert asked == [1]
    assert [ledger.trial(number).state for number in (0, 2)] == [State.cancelled] * 2
    assert ledger.trial(1).state is State.finished


def test_two_controllers_do_not_run_one_sweep(planned):
    ledger = planned("seed=1", "steps=1")
    write_json(ledger.folder / "controller.json", {"host": "there", "pid": 7})
    assert not attended(ledger.folder)
    with file_lock(ledger.folder / ".controller.lock", 1):
        assert attended(ledger.folder)
        with pytest.raises(RunError, match="is run by process 7 on there; look at it: avexp sweep watch"):
            run(ledger)


def test_whoever_watches_leaves_signals_alone():
    """They are the jobs' to heed: a launcher that did so could not be ended."""
    code = (
        "import signal\n"
        "import avexp.jobs.command, avexp.jobs.search, avexp.jobs.map_jobs, avexp.evaluate.after_sweep, avexp.cli.sweep\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_ctrl_c_ends_the_launcher_and_jobs_go_on(planned, monkeypatch, number):
    monkeypatch.setenv("TOY_STEP_S", "0.1")
    ledger = planned("seed=1,2", "steps=20", concurrent=2)
    command = [sys.executable, "-m", "avexp.cli", "sweep", "attach", str(ledger.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while ledger.counts().get("running", 0) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 75
    assert f"jobs go on; go on with: avexp sweep attach {ledger.folder}" in said
    assert ledger.counts() == {"running": 2}
    run(ledger)
    assert states(ledger) == [State.finished] * 2
    assert [trial.attempts for trial in ledger.each()] == [1, 1]
    assert completions(ledger) == [1, 1]


def test_several_nodes_need_a_cluster(planned):
    ledger = planned("seed=1", "hardware.nodes=2")
    with pytest.raises(RunError, match="use hydra/launcher=slurm"):
        run(ledger)
    assert states(ledger) == [State.planned]


def test_sweeps_are_found_by_id_and_by_plan(planned, plan, tmp_path):
    ledger = planned("seed=1,2", "steps=1", folder="20260101T000000Z-aaaaaa")
    outputs = tmp_path / "outputs"
    assert sweeps(outputs) == [ledger.folder]
    assert find_sweep(outputs, "aaaaaa") == ledger.folder
    with pytest.raises(RunError, match="no such sweep"):
        find_sweep(outputs, "zzz")
    assert unfinished(outputs, plan("seed=1,2", "steps=1").digest) == ledger.folder
    run(ledger)
    assert unfinished(outputs, plan("seed=1,2", "steps=1").digest) is None


def test_launcher_settings_are_checked():
    with pytest.raises(ConfigError, match="did you mean concurrent"):
        Launcher.of({"name": "local", "concurent": 3})
    with pytest.raises(ConfigError) as fault:
        Launcher.of({"name": "pbs", "concurrent": 0, "time_min": "ten", "setup": "module load"})
    assert [line.partition(":")[0] for line in fault.value.faults] == [
        f"hydra.launcher.{name}" for name in ("name", "concurrent", "time_min", "setup")
    ]
    assert fault.value.faults[:2] == [
        "hydra.launcher.name: pbs is none of local, slurm", "hydra.launcher.concurrent: 0 is less than 1",
    ]  # fmt: skip


def test_launcher_settings_come_back_from_a_ledger():
    launcher = Launcher.of({"name": "slurm", "grace_s": 1, "time_min": 10, "extra": {"exclusive": True}})
    assert Launcher.of(asdict(launcher)) == launcher
    assert (launcher.rules.grace_s, launcher.resources.time_min) == (1.0, 10)


def test_map_jobs_gather_in_order_and_go_on(tmp_path):
    launcher = Launcher.of({"name": "local", "concurrent": 2})
    found = map_jobs("toy_stage:double", [1, 2, "bad", 4], tmp_path / "map", launcher)
    assert [one.output for one in found] == [{"twice": 2}, {"twice": 4}, None, {"twice": 8}]
    assert found[2].reason.startswith("ValueError: no number")
    again = map_jobs("toy_stage:double", [1, 2, "bad", 4], tmp_path / "map", launcher)
    assert [one.output for one in again] == [one.output for one in found]
    ledger = Ledger(tmp_path / "map")
    assert [trial.attempts for trial in ledger.each()] == [1, 1, 2, 1]
    with pytest.raises(RunError, match="over other items"):
        map_jobs("toy_stage:double", [1], tmp_path / "map", launcher)
