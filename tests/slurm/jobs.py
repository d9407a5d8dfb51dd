"""Jobs of a real SLURM or of the fake one: submitted, looked at, waited for."""

import re
import time

import pytest

TRAPS = """
for word in USR1 USR2 TERM; do trap "echo $WHO $word >> $SLURM_JOB_ID.log" $word; done
echo $WHO start ${SLURM_RESTART_COUNT:-0} >> $SLURM_JOB_ID.log
"""
TURNS = "for turn in $(seq 200); do sleep 0.1; [ -e enough ] && exit 0; done\n"


def submit(slurm, folder, body, *options, head=""):
    """The number of a job."""
    script = folder / f"job{len(list(folder.glob('job*.sh')))}.sh"
    script.write_text(f"#!/bin/bash\n{head}\n{body}\n")
    done = slurm.call("sbatch", "--parsable", *options, str(script), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def squeue(slurm, job, text, *options):
    done = slurm.call("squeue", "-h", "-t", "all", "-j", job, "-o", text, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def show(slurm, job):
    """Facts of scontrol."""
    done = slurm.call("scontrol", "show", "job", job, "-o")
    assert done.returncode == 0, done.stderr + done.stdout
    return dict(re.findall(r"(\S+?)=(\S*)", done.stdout.splitlines()[0]))


def wait_for(ready, seconds=40, what="it"):
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.03)
    return found


def wait_state(slurm, job, *states, seconds=40):
    """Until all its elements are in one of these states."""

    def ready():
        seen[:] = squeue(slurm, job, "%T", "-r")
        return seen and all(state in states for state in seen)

    seen = []
    try:
        wait_for(ready, seconds)
    except AssertionError:
        pytest.fail(f"job {job} is {seen}, not {states}, after {seconds} s")
    return seen


def log(folder, job, *words, seconds=20):
    """Lines that the job wrote, once all of these are among them."""

    def ready():
        lines[:] = file.read_text().splitlines() if file.exists() else []
        return all(word in lines for word in words)

    lines, file = [], folder / f"{job}.log"
    try:
        wait_for(ready, seconds)
    except AssertionError:
        pytest.fail(f"{words} not in {lines}")
    return lines


def two_tasks(folder):
    """Body of a batch script that, like its two tasks, tells which signals came."""
    inner = folder / "inner.sh"
    inner.write_text(f"#!/bin/bash\nWHO=task$SLURM_PROCID\n{TRAPS}{TURNS}")
    inner.chmod(0o755)
    return f"WHO=batch\n{TRAPS}srun -n2 {inner} &\nwait; wait; wait; wait"


def begin_time_limit(slurm, folder):
    """A job that its limit will end, after a signal."""
    inner = folder / "inner.sh"
    inner.write_text(f"#!/bin/bash\nWHO=task\n{TRAPS}for turn in $(seq 1500); do sleep 0.1; done\n")
    inner.chmod(0o755)
    return submit(slurm, folder, f"srun {inner}", "--time=1", "--signal=USR2@20")


def end_at_time_limit(slurm, folder, job):
    wait_state(slurm, job, "TIMEOUT", seconds=150)
    lines = log(folder, job, "task USR2", "task TERM")
    assert lines.index("task USR2") < lines.index("task TERM")
    facts = show(slurm, job)
    assert (facts["Reason"], facts["TimeLimit"]) == ("TimeLimit", "00:01:00")
    assert "DUE TO TIME LIMIT ***" in (folder / f"slurm-{job}.out").read_text()
    assert facts["ExitCode"] in ("0:15", "0:9", "0:0", "137:0")
