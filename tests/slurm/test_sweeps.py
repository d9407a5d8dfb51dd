"""Sweeps on a real SLURM: their size, all kinds of faults together, and as a person types them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from slurm.jobs import submit, wait_for
from slurm.sweeps import (
    ROOT,
    TRAIN,
    Runner,
    assert_as_if_nothing_happened,
    assert_survived,
    begun,
    disturb,
    environment,
    pid_of,
)

from avexp.jobs.ledger import Ledger, State
from avexp.jobs.sweep import run

pytestmark = pytest.mark.slurm


def states(ledger):
    return [trial.state for trial in ledger.each()]


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


def test_a_wrong_number_of_tasks_is_said_in_the_first_seconds(planned, slurm):
    ledger = planned(
        "seed=3", "steps=1", "hardware.devices=2", extra={"ntasks_per_node": 1}, restarts_without_progress=1
    )
    run(ledger)
    assert states(ledger) == [State.failed]
    assert "SLURM started 1 tasks, the run needs 2" in ledger.trial(0).reason


def test_chaos(planned, slurm, tmp_path, monkeypatch):
    """Preemption, time-out, power cut, kill, and kills of the launcher, five of each, on a sweep of fifty short trials."""
    monkeypatch.setenv("TOY_STEP_S", "0")
    words = ["seed=range(0,50)", "steps=30"]
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
        if kind == "timeout":  # to the step: to the job scancel tries for 45 s while others of its array wait
            return slurm.call("scancel", "--signal=USR2", f"{job}.0").returncode == 0
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
            slurm.report_down(node)
        return bool(off)

    kinds = ("preempt", "timeout", "power cut", "kill", "launcher")
    done = disturb(slurm, runner, kinds, 25, 1.0, 2, act, 300)
    for node in off:
        slurm.power_on(node)
    assert min(done.values()) >= 4, done
    assert runner.code(300) == 0, runner.log.read_text()[-2000:]
    assert_as_if_nothing_happened(folder, quiet.folder)


def test_a_controller_may_be_a_job_itself(planned, slurm, tmp_path):
    """Jobs that it submits are none of its own allocation's, and it is started again where it was preempted."""
    ledger = planned("seed=1,2,3", "steps=20")
    attach = f"exec {sys.executable} -m avexp.cli sweep attach {ledger.folder}"
    job = submit(slurm, tmp_path, attach, "--requeue", "--ntasks=2", "--time=10")
    begun(ledger, 2)
    assert slurm.call("scontrol", "requeue", job).returncode == 0
    wait_for(lambda: ledger.fact("ended"), 60, "the sweep's end")
    for number in range(3):
        assert_survived(ledger, number)


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
    assert "epoch 1:" in log
    assert Path(next((tmp_path / "outputs").glob("train/*/*/0/report.html"))).stat().st_size > 10_000
