"""Planning, submitting and watching sweeps: python bench/sweeps.py [--trials 1000] [--peers .venv-bench]

plan      10,000 configs of the quickstart: composed, checked, told apart, written down; CPU seconds
local     no-op trials by our local launcher against Hydra's basic launcher on the same app, and against Ray Tune where the
          peers' venv has it; trials a second
watcher   one look at 20,000 living jobs of a fake SLURM; CPU seconds of ours
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import HERE, versions, write

ROOT = HERE.parent
MANY = 10_000
BASIC = 60
RAY_TRIALS = 100
"""Trials of the slow peers: their rates do not depend on the number."""
APP = """
import sys
from avexp.core.stage import Entry, main
main(Entry("ci", "toy_stage:nothing"))
"""
RAY = """
import json, sys, time
import ray
from ray import tune
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
def nothing(config):
    return {"value": float(config["seed"])}
began = time.time()
tune.Tuner(nothing, param_space={"seed": tune.grid_search(list(range(int(sys.argv[1]))))},
           run_config=tune.RunConfig(storage_path=sys.argv[2], verbose=0)).fit()
print("\\n" + json.dumps({"s": time.time() - began}))
"""


def environment() -> dict[str, str]:
    """This checkout and the tests' toy stage."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "OMP_NUM_THREADS": "1"}


def plan(home: Path) -> dict[str, float]:
    """CPU seconds to plan 10,000 trials, in a process of its own; and its memory."""
    script = (
        "import sys; from pathlib import Path\n"
        "import avexp.jobs.sweep as sweep\n"
        "sweep.freeze_data = lambda *_: None\n"
        "plan = sweep.SweepPlan(folder=Path(sys.argv[1]), stage='train', function='x:y', words=['+experiment=quickstart',"
        "'optimizer=adamw,sgd','optimizer.lr=1e-4,3e-4,1e-3,3e-3,1e-2','loader.batch_size=4,8',"
        "'optimizer.weight_decay=0,1e-3,1e-2,1e-1','seed=range(0,125)'])\n"
        "print(sum(sweep.create(plan).counts().values()))\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", script, str(home / "plan" / "x" / "y")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, cwd=home)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"trials": int(done.stdout.split()[-1]), "cpu_s": round(cpu, 2), "memory_mib": round(after.ru_maxrss / 1024)}


def resident_mib(pid: int) -> int:
    """The most memory that a process has had so far [MiB]; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), 0)


def local(home: Path, trials: int, peers: Path) -> dict[str, Any]:
    """Trials a second."""
    (home / "app.py").write_text(APP)

    def sweep(*words: str) -> tuple[float, int]:
        """Seconds, and the most memory of the launcher [MiB]."""
        began, memory = time.perf_counter(), 0
        command = [sys.executable, str(home / "app.py"), "-m", *words, f"storage.outputs={home}/outputs"]
        with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, cwd=home) as process:
            while process.poll() is None:
                memory = max(memory, resident_mib(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        return time.perf_counter() - began, memory

    start, _ = sweep("seed=1")  # of either launcher: Python, Hydra, planning one
    took, memory = sweep(f"seed=range(0,{trials})", "hydra.launcher.concurrent=2")
    ours = trials / (took - start / 2)
    took, _ = sweep(f"seed=range(0,{BASIC})", "hydra/launcher=basic", "hydra/sweeper=basic")
    basic = BASIC / (took - start / 2)
    many, memory_many = sweep(f"seed=range(0,{MANY})", "hydra.launcher.concurrent=2")
    found = {
        "trials": trials,
        "memory_mib": memory,
        "ours_per_s": round(ours, 1),
        "many": {"trials": MANY, "per_s": round(MANY / many, 1), "memory_mib": memory_many},
        "basic_per_s": round(basic, 1),
        "ratio": round(ours / basic, 1),
    }
    python = peers / "bin" / "python"
    if python.is_file():
        command = [str(python), "-c", RAY, str(min(trials, RAY_TRIALS)), str(home / "ray")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, cwd=home)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if lines:
            ray = min(trials, RAY_TRIALS) / json.loads(lines[-1])["s"]
            found |= {"ray_per_s": round(ray, 1), "ray_ratio": round(ours / ray, 1)}
    return found


def watcher(home: Path) -> dict[str, float]:
    """CPU seconds of one look at 20,000 jobs: of the scheduler's answer alone, and of the controller with its ledger."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fakes.slurm.fake_slurm import FakeSlurm

    from avexp.jobs.controller import Controller
    from avexp.jobs.ledger import Attempt, Ledger, Trial
    from avexp.jobs.settling import Rules
    from avexp.jobs.show import grid, summary
    from avexp.jobs.slurm import Resources, SlurmBackend

    found: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        began, wall = time.process_time(), time.perf_counter()
        value = call()
        found[f"{name}cpu_s"] = round(time.process_time() - began, 3)
        found[f"{name}wall_s"] = round(time.perf_counter() - wall, 3)
        return value

    with FakeSlurm(home / "slurm") as fake:
        os.environ.update(fake.variables())
        arrays = fake.fill(15_000, 5_000)
        listed = fake.call("squeue", "-h", "-r", "-o", "%F_%K").stdout.split()
        attempts = [Attempt(token=f"t{number}", trial=number, batch="b", job=job) for number, job in enumerate(listed)]
        trials = (
            Trial(number=number, digest="d", base="b", changes={}, words=["seed=1"]) for number in range(len(listed))
        )
        ledger = Ledger.create(home / "watched", {}, trials)
        ledger.begin_attempts(attempts)
        backend = SlurmBackend(home, Resources())
        seen = timed("", lambda: backend.look(attempts))
        controller = Controller(ledger, backend, Rules(), None)
        controller.results.mkdir()
        controller.recover()

        def poll() -> None:
            with ledger.together():
                controller.poll()

        timed("first_poll_", poll)  # all changed since the last look
        timed("poll_", poll)
        timed("table_", lambda: (grid(ledger, False), summary(ledger)))
    assert len(seen) == len(attempts) == len(controller.living) >= 20_000, (len(seen), len(attempts), arrays)
    return {"jobs": len(attempts), "squeue_calls": 1, **found}


def main() -> None:
    """All three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--peers", default=".venv-bench")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        figures = {"plan": plan(home), "watcher": watcher(home)}
        print(figures, flush=True)
        figures["local"] = local(home, arguments.trials, Path(arguments.peers).absolute())
        print(figures["local"])
    write("sweeps", figures, versions("hydra-core", "submitit", "optuna"))


if __name__ == "__main__":
    main()
