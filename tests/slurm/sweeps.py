"""Sweeps under faults, the same on a real SLURM and on the fake one: a controller of its own, killed and started again."""

import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from slurm.jobs import wait_for
from toy_stage import value_of

from avexp.core.overrides import load_plugins
from avexp.core.stage import prepare_hydra
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.slurm import SlurmBackend
from avexp.jobs.starts import starts, step_of
from avexp.jobs.sweep import SweepPlan, create, run

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
TRAIN = [
    "+experiment=quickstart", "store=none", "data.reader.train_sessions=4", "data.reader.val_sessions=2",
    "model.width_px=96", "model.height_px=64", "model.norm=group", "trainer.pictures=0", "trainer.epochs=1",
    "trainer.validate_every_epochs=1", "trainer.ema_decay=null", "trainer.log_every_steps=1", "hardware.precision=fp32",
    "optimizer=sgd", "optimizer.lr=0.01", "data.reader.seed=1",
]  # fmt: skip
"""A training of a few seconds that a killed one can be compared with."""


@contextmanager
def pointed_at(cluster, **more):
    """This process sees the cluster, and its sweeps run this checkout's code."""
    prepare_hydra()
    load_plugins()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(cluster, **more).items():
            patch.setenv(name, value)
        patch.setattr(SlurmBackend, "poll_s", (0.2, 1.0))
        patch.setattr("avexp.jobs.sweep.snapshot", lambda folder, modules=(): None)
        yield


def plan_in(folder, *words, stage="ci", function="toy_stage:work", **launcher):
    """A sweep of the toy stage, unless told otherwise."""
    launcher = Launcher.of({"name": "slurm", "time_min": 10, "grace_s": 3, **launcher})
    return create(SweepPlan(folder=folder, stage=stage, function=function, words=list(words), launcher=launcher))


def empty(cluster):
    """No job is left."""
    cluster.call("scancel", "--user=root")
    wait_for(lambda: not cluster.call("squeue", "-h").stdout, what="an empty queue")


def environment(slurm, **more):
    """Of the controller and so of its jobs: this checkout's code and the toy stage."""
    return {**slurm.env(), "PYTHONPATH": f"{TESTS}:{ROOT}", "PYTHONUNBUFFERED": "1", **more}


class Runner:
    """``avexp sweep attach`` in a process, started again whenever it was killed."""

    def __init__(self, folder, variables, log):
        self.folder, self.variables, self.log = folder, variables, log
        self.starts = 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "avexp.cli", "sweep", "attach", str(self.folder)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.variables, stdout=log, stderr=log, cwd=self.folder)
        self.starts += 1

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.start()

    def end(self):
        self.process.kill()
        self.process.wait(10)

    def code(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the sweep hangs:\n{self.log.read_text()[-3000:]}") from None


def running(slurm):
    """Trials that run now: elements of arrays."""
    jobs = slurm.call("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%F_%K").stdout.split()
    return [job for job in jobs if not job.endswith("N/A")]


def disturb(slurm, runner, kinds, count, pause_s, seed, act, most_s):
    """Inject so many faults at random jobs; how many of each kind."""
    draw, done = random.Random(seed), dict.fromkeys(kinds, 0)
    until = time.monotonic() + most_s
    while sum(done.values()) < count and time.monotonic() < until and runner.process.poll() is None:
        time.sleep(draw.uniform(0, 2 * pause_s))
        # the kind that was seldom so far is next: each has its share
        kind = min(draw.sample(list(kinds), len(kinds)), key=lambda name: done[name])
        if kind == "launcher":
            runner.kill()
        else:
            jobs = running(slurm)
            if not jobs or not act(kind, draw.choice(jobs)):
                continue
        done[kind] += 1
    return done


def assert_as_if_nothing_happened(folder, quiet):
    """No trial lost, none run twice to its end, every value that of the undisturbed sweep."""
    ledger, calm = Ledger(folder), Ledger(quiet)
    trials, others = ledger.trials(), calm.trials()
    assert [trial.state for trial in trials] == [State.finished] * len(others), [
        (trial.number, trial.state, trial.reason[:300]) for trial in trials if trial.state is not State.finished
    ]
    assert [trial.value for trial in trials] == [trial.value for trial in others]
    assert [trial.metrics for trial in trials] == [trial.metrics for trial in others]
    ends = [folder / str(trial.number) / "completions" for trial in trials]
    # none where it was killed between saving the last step and saying so
    often = [
        (path.parent.name, path.read_text()) for path in ends if path.is_file() and path.read_text().count("\n") > 1
    ]
    assert often == []


def pid_of(folder, number):
    """Of a trial's newest start."""
    found = starts(folder / str(number))
    return found[-1]["pid"] if found else None


def run_while(ledger, slurm, *acts):
    """Run a sweep, and do things to it meanwhile, all at once; what they say of a fault is raised here."""

    faults = []

    def told(one):
        if one.exception():
            faults.append(one.exception())
            slurm.call("scancel", "--user=root")  # so that the sweep ends

    with ThreadPoolExecutor(len(acts)) as pool:
        for act in acts:
            pool.submit(act).add_done_callback(told)
        run(ledger)
    if faults:
        raise faults[0]


def begun(ledger, number=0, count=1):
    """A trial's newest start, once it was started so often and has saved something since."""
    folder = ledger.folder / str(number)
    wait_for(lambda: len(starts(folder)) >= count, 60, f"start {count} of trial {number}")
    start = starts(folder)[count - 1]
    wait_for(lambda: step_of(folder) > start["step"], 60, f"a checkpoint of start {count} of trial {number}")
    # the last element's own number is that of the whole array
    return {**start, "job": Ledger(ledger.folder).attempts(number)[-1].job}


def assert_cancelled(ledger, number=0):
    """A trial that a person ended: it saved, was not started again, and can be gone on with."""
    trial, folder = ledger.trial(number), ledger.folder / str(number)
    [start] = starts(folder)
    assert (trial.state, trial.attempts) == (State.cancelled, 1), (trial.reason, ledger.attempts(number))
    assert step_of(folder) > start["step"]


def assert_survived(ledger, number=0, count=1, attempts=1, ahead=True):
    """A trial finished, once, with the value that it has when nothing happens, and was started and submitted so often."""
    trial, folder = ledger.trial(number), ledger.folder / str(number)
    lines = starts(folder)
    assert trial.state is State.finished, (trial.reason, lines)
    config = OmegaConf.load(folder / "config.yaml")
    assert trial.value == value_of(config.seed, config.steps)
    assert len((folder / "completions").read_text().splitlines()) == 1
    assert (len(lines), trial.attempts) == (count, attempts), (lines, ledger.attempts(number))
    steps = [start["step"] for start in lines]
    assert not ahead or steps == sorted(set(steps)), f"each start begins ahead of the one before: {steps}"
