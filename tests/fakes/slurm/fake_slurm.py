"""A fake SLURM for tests: sbatch, squeue, sacct, scontrol, scancel and srun whose jobs are processes of this machine.

    with FakeSlurm(folder, slots=2, minute_s=1) as slurm:
        slurm.call("sbatch", "job.sh")           # or any program with slurm.env()
        slurm.inject("preempt", 1)

or, from a shell, with FAKE_SLURM=folder and its ``bin`` first in PATH:
``python fake_slurm.py bin``, ``python fake_slurm.py inject KIND [JOB] [SECONDS]``, ``python fake_slurm.py fill COUNT``.
The folder is made by ``bin`` or FakeSlurm and holds the state (store.py); settings are variables FAKE_SLURM_MINUTE_S and so
on (DEFAULTS in store.py), or FakeSlurm's arguments; a daemon (daemon.py) runs while there are jobs.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import signal
import time

from fakes.slurm.accounting import sacct
from fakes.slurm.control import scancel, scontrol
from fakes.slurm.listing import squeue
from fakes.slurm.options import Refused, user
from fakes.slurm.step import srun
from fakes.slurm.store import Store
from fakes.slurm.submit import sbatch

PROGRAMS = {"sbatch": sbatch, "squeue": squeue, "scontrol": scontrol, "scancel": scancel, "sacct": sacct, "srun": srun}
LAUNCHER = """\
#!{python} -SE
import sys
sys.path.insert(0, {tests!r})
from fakes.slurm.fake_slurm import run
run({name!r}, sys.argv[1:])
"""
NO_CONTACT = "Unable to contact slurm controller (connect failure)"
DOWN = {
    "squeue": f"slurm_load_jobs error: {NO_CONTACT}",
    "scontrol": f"slurm_load_jobs error: {NO_CONTACT}",
    "sbatch": f"sbatch: error: Batch job submission failed: {NO_CONTACT}",
    "scancel": f"scancel: error: {NO_CONTACT}",
}
KINDS = ("preempt", "node_fail", "timeout", "kill", "lose", "slow", "down")


def write_programs(folder):
    """The six programs, to be put first in PATH."""
    folder = os.path.join(folder, "bin")
    os.makedirs(folder, exist_ok=True)
    tests = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # not the virtual environment's link: finding its home costs time
    python = getattr(sys, "_base_executable", sys.executable)
    for name in PROGRAMS:
        file = os.path.join(folder, name)
        with open(f"{file}.new", "w") as script:
            script.write(LAUNCHER.format(python=python, tests=tests, name=name))
        os.chmod(f"{file}.new", 0o755)
        os.rename(f"{file}.new", file)
    return folder


def run(name, words):
    """One program, as a process of its own."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        if "FAKE_SLURM" not in os.environ:
            raise Refused(f"{name}: FAKE_SLURM names no folder")
        try:
            store = Store(os.environ["FAKE_SLURM"])
        except FileNotFoundError as error:
            raise Refused(f"{name}: {error}") from None
        if name != "srun":
            time.sleep(store.seconds("slow_s"))
            if name in DOWN and store.seconds("down_until") > time.time() and "hostnames" not in words:
                raise Refused(DOWN[name])
        status = PROGRAMS[name](store, words)
    except Refused as refused:
        sys.stdout.flush()
        sys.stderr.write(f"{refused.text}\n")
        status = refused.status
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def inject(kind, job=None, seconds=None, folder=None):
    """A fault; returns when it has begun.

    ``preempt``: the job's own signal, after grace_s SIGTERM and SIGKILL, then queued again. ``node_fail``: its processes die
    at once; NODE_FAIL, then queued again where it may be. ``timeout``: its limit is now. ``kill``: its processes die at once.
    ``lose``: it is in nobody's list any more. ``slow``: programs answer after so many seconds. ``down``: for so many
    seconds they do not reach the controller.
    """
    store = Store(folder or os.environ["FAKE_SLURM"])
    try:
        if kind == "slow":
            store.set(slow_s=seconds or 0)
        elif kind == "down":
            store.set(down_until=time.time() + seconds if seconds else 0)
        elif kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        else:
            rows = store.find(str(job))
            if not rows:
                raise ValueError(f"no job {job}")
            for row in rows:
                _inject(store, kind, row)
            store.wake()
    finally:
        store.close()


def _inject(store, kind, row):
    job, now = row["id"], time.time()
    for _ in range(400):
        if row["state"] != "RUNNING" or row["pid"] or row["filled"]:
            break
        time.sleep(0.005)  # its process is just coming
        row = store.job(job)
    with store:
        row = store.job(job)
        if kind == "lose":
            store.update(job, lost=1, state="CANCELLED", end=now, own=1)
        elif row["state"] != "RUNNING":
            raise ValueError(f"job {job} is {row['state']}, not RUNNING")
        elif kind == "preempt":
            store.update(job, preempt_at=now + store.seconds("grace_s"))
        elif kind == "timeout":
            store.update(job, state="COMPLETING", final="TIMEOUT", reason="TimeLimit", end=now)
        elif kind == "node_fail":
            store.update(job, state="COMPLETING", final="NODE_FAIL", reason="NodeDown", end=now, kill_at=now)
    if kind == "preempt":
        if row["warn_sig"] is None:
            for number in (signal.SIGCONT, signal.SIGTERM):
                store.signal_steps(job, number)
        elif row["warn_batch"]:
            store.signal_batch(row["pid"], row["warn_sig"])
        else:
            store.signal_steps(job, row["warn_sig"])
    elif kind in ("kill", "node_fail", "lose"):
        store.kill(job, row["pid"])


def fill(pending, running=0, name="filled", folder=None, array=1000):
    """So many listed jobs without processes, in arrays; the numbers of these arrays."""
    store = Store(folder or os.environ["FAKE_SLURM"])
    now, left, arrays = time.time(), {"RUNNING": running, "PENDING": pending}, []
    common = {
        "name": name,
        "user": user(),
        "partition": "batch",
        "requeue": 1,
        "submit": now,
        "nodes": 1,
        "ntasks": 1,
        "limit_min": 1440.0,
        "cwd": os.getcwd(),
        "out": "slurm-%A_%a.out",
        "err": "slurm-%A_%a.out",
        "script": "(null)",
        "filled": 1,
    }
    with store:
        while sum(left.values()):
            count = min(array, sum(left.values()))
            number = store.take_numbers(count)
            arrays.append(number)
            rows = []
            for task in range(count):
                state = "RUNNING" if left["RUNNING"] else "PENDING"
                left[state] -= 1
                lives = state == "RUNNING"
                own = {
                    "id": number + task + 1 if task < count - 1 else number,
                    "aid": number,
                    "task": task,
                    "state": state,
                    "own": int(lives),
                    "reason": "None" if lives else "Resources",
                    "start": now if lives else None,
                    "nodelist": f"node{task % 4 + 1}" if lives else "",
                }
                rows.append({**common, **own})
            store.insert(rows)
    store.close()
    return arrays


class FakeSlurm:
    """A cluster of its own in a folder.

    Args:
        folder: empty or new.
        settings: see DEFAULTS in store.py, such as slots=2, minute_s=1, requeue_s=0.1, accounting=True.
    """

    pace = 0.4

    def __init__(self, folder, **settings):
        self.folder = str(folder)
        Store(self.folder, create=True).close()
        self.programs = write_programs(self.folder)
        self.set(**settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def set(self, **settings):
        """Change settings, also of a running cluster."""
        store = Store(self.folder)
        store.set(**settings)
        store.close()

    def variables(self):
        """What to add to an environment."""
        return {"FAKE_SLURM": self.folder, "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}"}

    def env(self):
        """The whole environment to run sbatch, squeue and so on with."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        return {**kept, **self.variables()}

    def call(self, *command, timeout=30, cwd=None, **variables):
        """A SLURM program, run to its end."""
        import subprocess

        program = os.path.join(self.programs, command[0]) if command[0] in PROGRAMS else command[0]
        return subprocess.run(
            [program, *command[1:]],
            env={**self.env(), **variables},
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def inject(self, kind, job=None, seconds=None):
        inject(kind, job, seconds, self.folder)

    def fill(self, pending, running=0, name="filled"):
        return fill(pending, running, name, self.folder)

    def stop(self):
        """No process of it stays, and no file."""
        import shutil

        if not os.path.isdir(self.folder):
            return
        store = Store(self.folder)
        store.set(idle_s=0)
        with store as sql:
            rows = sql.execute(
                "select id, pid from job where state in ('RUNNING', 'COMPLETING') and not filled"
            ).fetchall()
            sql.execute("update job set state = 'CANCELLED', lost = 1")
        for row in rows:
            store.kill(row["id"], row["pid"])
        self._await_daemon(store)
        store.kill_strays()
        store.close()
        said = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)

        if "Traceback" in said:
            raise RuntimeError(f"the daemon broke: {said}")

    def log(self):
        """What the daemon said; nothing, when all is well."""
        file = os.path.join(self.folder, "daemon.log")
        if not os.path.isfile(file):
            return ""
        with open(file) as log:
            return log.read()

    def _await_daemon(self, store):
        end = time.monotonic() + 10
        while store.daemon() and time.monotonic() < end:
            store.wake()
            time.sleep(0.01)


def main(words):
    """The shell's side of it."""
    action, rest = (words[0] if words else ""), words[1:]
    if action == "bin":
        Store(os.environ["FAKE_SLURM"], create=True).close()
        sys.stdout.write(f"{write_programs(os.environ['FAKE_SLURM'])}\n")
    elif action == "inject" and rest:
        numbers = rest[1:]
        if rest[0] in ("slow", "down"):
            inject(rest[0], seconds=float(numbers[-1]) if numbers else 0)
        else:
            inject(rest[0], numbers[0])
    elif action == "fill" and rest:
        sys.stdout.write(" ".join(map(str, fill(int(rest[0])))) + "\n")
    elif action in PROGRAMS:
        run(action, rest)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
