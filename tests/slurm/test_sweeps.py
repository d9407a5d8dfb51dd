"""Sweeps on a real SLURM: what facts about its faults say happens, happens to a trial, and the trial survives."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from slurm.behaviour import wait_for
from slurm.sweeps import ROOT, Runner, assert_as_if_nothing_happened, disturb, environment, pid_of

from avexp.core.overrides import load_plugins
from avexp.core.stage import prepare_hydra
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.sweep import SweepPlan, create, run

pytestmark = pytest.mark.slurm
TRAIN = [
    "+experiment=quickstart", "store=none", "data.reader.train_sessions=4", "data.reader.val_sessions=2",
    "model.width_px=96", "model.height_px=64", "model.norm=group", "trainer.pictures=0", "trainer.epochs=3",
    "trainer.validate_every_epochs=3", "trainer.ema_decay=null", "trainer.log_every_steps=1", "hardware.precision=fp32",
    "optimizer=sgd", "optimizer.lr=0.01", "data.reader.seed=1",
]  # fmt: skip


@pytest.fixture
def slurm(cluster, monkeypatch):
    for name, value in environment(cluster).items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.call("scancel", "--user=root")
    wait_for(lambda: not cluster.call("squeue", "-h").stdout, what="an empty queue")


@pytest.fixture
def planned(tmp_path, monkeypatch):
    prepare_hydra()
    load_plugins()
    monkeypatch.setattr("avexp.jobs.sweep.snapshot", lambda folder: None)

    def make(*words, folder="sweep", stage="ci", function="toy_stage:work", **launcher):
        settings = {"name": "slurm", "time_min": 10, "grace_s": 5, **launcher}
        plan = SweepPlan(
            folder=tmp_path / "outputs" / stage / "x" / folder, stage=stage, function=function, words=list(words),
            launcher=Launcher.of(settings),
        )  # fmt: skip
        return create(plan)

    return make


def states(ledger):
    return [trial.state for trial in ledger.each()]


def started(ledger, number=0):
    folder = ledger.folder / str(number)
    return (folder / "starts.jsonl").is_file() and len(list(folder.glob("checkpoints/*"))) > 1


def node_of(ledger, slurm, number=0):
    job = ledger.attempts(number)[-1].job
    return slurm.call("squeue", "-h", "-j", job, "-o", "%N").stdout.strip()


def test_an_array_with_a_limit_ends_and_tells_nodes(planned, slurm):
    ledger = planned("seed=range(0,12)", "steps=5", concurrent=3)
    seen = []
    run(ledger, show=lambda one: seen.append(len(slurm.call("squeue", "-h", "-t", "R").stdout.splitlines())))
    assert states(ledger) == [State.finished] * 12
    assert max(seen) <= 3
    assert {attempt.node for attempt in ledger.attempts()} <= {"", "node1", "node2", "node3", "node4"}


def test_more_than_an_array_holds(planned, slurm):
    ledger = planned("seed=range(0,60)", "steps=1")
    run(ledger)
    assert states(ledger) == [State.finished] * 60
    assert len({attempt.batch for attempt in ledger.attempts()}) == 2  # MaxArraySize is 50 here


def disturbed(ledger, when, act):
    """Run, and do something once."""
    done = []

    def look(one):
        if not done and when():
            act()
            done.append(True)

    run(ledger, show=look)
    assert done


def test_a_power_cut_is_no_failure(planned, slurm, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.5")
    ledger = planned("seed=3", "steps=12")
    cut = []

    def act():
        cut.append(node_of(ledger, slurm))
        slurm.power_cut(cut[0])

    disturbed(ledger, lambda: started(ledger), act)
    slurm.power_on(cut[0])
    assert states(ledger) == [State.finished]
    assert len((ledger.folder / "0" / "starts.jsonl").read_text().splitlines()) == 2


def test_preemption_saves_and_goes_on(planned, slurm, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_STEP_S", "0.3")
    ledger = planned("seed=range(0,4)", "steps=30", extra={"exclusive": True})

    def act():
        script = tmp_path / "urgent.sh"
        script.write_text("#!/bin/sh\nsleep 1\n")
        slurm.call("sbatch", "--partition=urgent", "--exclusive", "--nodes=2", str(script))

    disturbed(ledger, lambda: all(started(ledger, number) for number in range(4)), act)
    assert states(ledger) == [State.finished] * 4
    lines = [(ledger.folder / str(number) / "starts.jsonl").read_text().splitlines() for number in range(4)]
    assert sorted(map(len, lines)) == [1, 1, 2, 2]


def test_a_time_limit_saves_and_goes_on(planned, slurm, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.5")
    ledger = planned("seed=3", "steps=20", time_min=2, signal_s=60)
    disturbed(
        ledger, lambda: started(ledger), lambda: slurm.call("scancel", "--signal=USR2", ledger.attempts(0)[-1].job)
    )
    assert states(ledger) == [State.finished]
    assert len((ledger.folder / "0" / "starts.jsonl").read_text().splitlines()) == 2
    assert ledger.trial(0).attempts == 1  # it went back into the queue by itself


def test_a_killed_job_is_started_again_without_accounting(planned, slurm, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.3")
    ledger = planned("seed=3", "steps=15")
    disturbed(ledger, lambda: started(ledger), lambda: os.kill(pid_of(ledger.folder, 0), signal.SIGKILL))
    assert states(ledger) == [State.finished]
    assert ledger.trial(0).attempts == 2


def test_a_wrong_number_of_tasks_is_said_in_the_first_seconds(planned, slurm):
    ledger = planned(
        "seed=3", "steps=1", "hardware.devices=2", extra={"ntasks_per_node": 1}, restarts_without_progress=1
    )
    run(ledger)
    assert states(ledger) == [State.failed]
    assert "SLURM started 1 tasks, the run needs 2" in ledger.trial(0).reason


def test_a_dependency_that_never_comes_ends_the_job(planned, slurm, tmp_path):
    script = tmp_path / "bad.sh"
    script.write_text("#!/bin/sh\nexit 1\n")
    job = slurm.call("sbatch", "--parsable", str(script)).stdout.strip()
    ledger = planned("seed=3", "steps=1", dependency=f"afterok:{job}")
    run(ledger)
    assert states(ledger) == [State.cancelled]


def test_a_killed_launcher_finds_its_jobs_again(planned, slurm, tmp_path):
    ledger = planned("seed=range(0,4)", "steps=8")
    folder = ledger.folder
    ledger.close()
    runner = Runner(folder, environment(slurm, TOY_STEP_S="0.5"), tmp_path / "controller.log")
    wait_for(lambda: Ledger(folder).attempts(), what="a submission")
    time.sleep(1)
    runner.kill()
    assert runner.code(120) == 0, runner.log.read_text()
    again = Ledger(folder)
    assert states(again) == [State.finished] * 4
    assert [trial.attempts for trial in again.each()] == [1] * 4


def test_two_nodes_of_two_tasks_learn_what_one_process_learns(planned, slurm):
    # a few steps: the order of sums rounds differently, and training makes more of it step by step
    few = ["trainer.steps_max=4"]
    together = [*few, "hardware.nodes=2", "hardware.devices=2", "loader.batch_size=2"]
    runs = []
    for name, words in (("a", together), ("b", together), ("alone", [*few, "loader.batch_size=8"])):
        ledger = planned(*TRAIN, *words, stage="train", function="avexp.train.fit:fit", folder=name)
        run(ledger)
        assert states(ledger) == [State.finished], ledger.trial(0).reason
        folder = ledger.folder / "0"
        newest = sorted((folder / "checkpoints").glob("step-*.ckpt"))[-1]
        runs.append((torch.load(newest, weights_only=True)["state_dict"], (folder / "losses.txt").read_text()))
        assert not list(folder.glob("hpc_ckpt*"))
    (first, chain), (again, chain_again), (alone, _) = runs
    assert chain == chain_again
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
        torch.testing.assert_close(
            value, alone[name], rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_chaos(planned, slurm, tmp_path, monkeypatch):
    """Preemption, time-out, power cut, kill, and kills of the launcher, four of each, on a sweep of short trials."""
    monkeypatch.setenv("TOY_STEP_S", "0")
    words = ["seed=range(0,12)", "steps=40"]
    quiet = planned(*words, folder="quiet", name="local", concurrent=2)
    run(quiet)
    ledger = planned(*words, restarts_without_progress=60)
    folder = ledger.folder
    ledger.close()
    runner = Runner(folder, environment(slurm, TOY_STEP_S="0.5"), tmp_path / "controller.log")
    off = []

    def act(kind, job):
        if kind == "preempt":
            script = tmp_path / "urgent.sh"
            script.write_text("#!/bin/sh\nsleep 1\n")
            return slurm.call("sbatch", "--partition=urgent", "--exclusive", str(script)).returncode == 0
        if kind == "timeout":
            return slurm.call("scancel", "--signal=USR2", job).returncode == 0
        if kind == "kill":
            with suppress(ProcessLookupError):
                number = next(one.trial for one in Ledger(folder).attempts() if one.job == job)
                os.kill(pid_of(folder, number), signal.SIGKILL)
                return True
            return False
        for node in off:
            slurm.power_on(node)
        off[:] = [node for node in slurm.call("squeue", "-h", "-j", job, "-o", "%N").stdout.split() if node]
        for node in off:
            slurm.power_cut(node)
        return bool(off)

    kinds = ("preempt", "timeout", "power cut", "kill", "launcher")
    done = disturb(slurm, runner, kinds, 20, 1.5, 2, act, 300)
    for node in off:
        slurm.power_on(node)
    assert sum(done.values()) >= 20, done
    assert runner.code(300) == 0, runner.log.read_text()[-2000:]
    assert_as_if_nothing_happened(folder, quiet.folder)


def test_a_person_types_it(slurm, tmp_path):
    command = [
        sys.executable, str(ROOT / "train.py"), "-m", *TRAIN, "seed=1,2", "hydra/launcher=slurm",
        "hydra.launcher.time_min=10", f"storage.root={tmp_path}/store", f"storage.outputs={tmp_path}/outputs",
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 finished" in done.stdout
    code = next((tmp_path / "outputs").glob("train/*/*/code"))
    assert (code / "avexp" / "train" / "fit.py").is_file()
    log = next((tmp_path / "outputs").glob("train/*/*/0/log.txt")).read_text()
    assert "epoch 3:" in log
    assert Path(next((tmp_path / "outputs").glob("train/*/*/0/report.html"))).stat().st_size > 10_000
