"""Sweeps under faults, the same on a real SLURM and on the fake one: a controller of its own, killed and started again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from avexp.jobs.ledger import Ledger, State

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"


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
    ends = [len((folder / str(trial.number) / "completions").read_text().splitlines()) for trial in trials]
    assert ends == [1] * len(trials), ends


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def pid_of(folder, number):
    """Of a trial's newest start."""
    import json

    path = folder / str(number) / "starts.jsonl"
    return json.loads(path.read_text().splitlines()[-1])["pid"] if path.is_file() else None


def end_all(slurm):
    slurm.call("scancel", f"--user={os.environ.get('USER', 'root')}")
