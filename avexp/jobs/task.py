"""What a job runs: ``python -m avexp.jobs.task <batch.json> [index]``. It owns the signals before anything heavy is imported."""

from avexp.core import stop_flag

stop_flag.install()

import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from avexp.jobs.starts import claimed, note_start, starts, step_of, without_progress  # noqa: E402

REQUEUED = 75
"""Exit code of a job that was stopped and goes on later (EX_TEMPFAIL)."""
SAY_S = 3.0
"""A rank that is left alone waits so long for the one that failed to say why [s]: its end ends all of them."""
WATCH_S = 5.0
"""How often a start looks whether it was overtaken [s]."""


@dataclass(frozen=True)
class Job:
    """One trial or item of a batch.

    Attributes:
        folder: the trial's.
        results: folder that results are put into.
        token: of this attempt.
    """

    folder: Path
    results: Path
    token: str

    @property
    def result(self) -> Path:
        """What came out, written once."""
        return self.results / f"{self.token}.json"

    @property
    def spec(self) -> dict[str, Any]:
        """What to do: written before the job was submitted."""
        from avexp.core.files import read_json

        found: dict[str, Any] = read_json(self.folder / "job.json")
        return found


def main(words: list[str]) -> int:
    """Run one job of a batch; the exit code."""
    batch = json.loads(Path(words[0]).read_text())
    index = int(words[1]) if len(words) > 1 else int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    entry = batch["jobs"][index]
    job = Job(Path(entry["folder"]), Path(batch["results"]), entry["token"])
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    _log_to(job.folder / ("log.txt" if rank == 0 else f"rank{rank}.txt"))
    spec = job.spec
    if spec["token"] != job.token or job.result.is_file() or not claimed(job.results, job.token):
        sys.stderr.write(f"{job.folder}: another attempt goes on with this trial\n")
        return 0
    if (job.folder / "cancelled").exists():
        put_result(job, {"state": "cancelled", "reason": "cancelled before it started"})
        return 0
    if rank == 0:
        threading.Thread(target=_end_if_overtaken, args=(job, note_start(job.folder, job.token)), daemon=True).start()
    outcome = run(job, spec)
    if outcome["state"] == "lost":
        return _left_alone(job)
    if outcome["state"] == "failed" and rank:
        put_result(job, {**outcome, "reason": f"rank {rank}: {outcome['reason']} (see rank{rank}.txt)"})
    elif rank == 0 and outcome["state"] == "stopped" and not (job.folder / "cancelled").exists():
        return _later(job, spec)
    elif rank == 0:
        put_result(job, outcome)
    return 0 if outcome["state"] in ("finished", "pruned", "stopped") else 1


def run(job: Job, spec: dict[str, Any]) -> dict[str, Any]:
    """Do the work; its outcome, also of a failure."""
    from avexp.core.errors import AvexpError, LostRankError

    began = time.time()
    try:
        if wrong := world_fault(spec):
            return {"state": "failed", "reason": wrong, "wall_s": 0.0}
        module, _, name = spec["run"].partition(":")
        outcome: dict[str, Any] = getattr(import_module(module), name)(job.folder, spec)
    except LostRankError as fault:
        sys.stderr.write(f"{fault}\n")
        outcome = {"state": "lost"}
    except AvexpError as fault:
        sys.stderr.write(f"error {fault}\n")
        outcome = {"state": "failed", "reason": str(fault).splitlines()[0]}
    except Exception as fault:
        traceback.print_exc()
        lines = str(fault).strip().splitlines()
        outcome = {"state": "failed", "reason": f"{type(fault).__name__}: {lines[0] if lines else ''}"[:500]}
    return {**outcome, "wall_s": round(time.time() - began, 3)}


def world_fault(spec: dict[str, Any]) -> str:
    """What is wrong with the number of tasks that SLURM started; empty if nothing."""
    wanted = int(spec.get("ranks", 1))
    if "SLURM_JOB_ID" not in os.environ or not spec.get("slurm"):
        return ""
    found = int(os.environ.get("SLURM_NTASKS", "1"))
    if found == wanted:
        return ""
    remedy = "let hardware.nodes and hardware.devices say it, and override neither --ntasks nor --ntasks-per-node"
    return f"SLURM started {found} tasks, the run needs {wanted}; {remedy}"


def put_result(job: Job, outcome: dict[str, Any]) -> None:
    """Write what came out, once and whole."""
    from avexp.core.files import put_if_absent

    put_if_absent(job.result, json.dumps({**outcome, "token": job.token, "time": time.time()}).encode())


def _left_alone(job: Job) -> int:
    """No result: the controller sees a job that ended without one, and starts the trial again."""
    until = time.monotonic() + SAY_S
    while not job.result.is_file() and time.monotonic() < until:
        time.sleep(0.1)
    return 1


def _end_if_overtaken(job: Job, mine: dict[str, Any]) -> None:
    """A node that SLURM could not reach may still run what has been started on another one since: two must not write."""
    while True:
        time.sleep(WATCH_S)
        if starts(job.folder)[-1:] != [mine]:
            sys.stderr.write("this trial was started again elsewhere: this start ends\n")
            sys.stderr.flush()
            os._exit(REQUEUED)


def _later(job: Job, spec: dict[str, Any]) -> int:
    """Go back into the queue: saved is what there is to save. Of several ranks only the first does, and the others end well: a
    bad end of theirs would end the first in the middle of it.
    """
    bound = int(spec.get("restarts_without_progress", 3))
    if without_progress(job.folder) >= bound:
        reason = f"no progress in {bound} starts from step {max(0, step_of(job.folder))}"
        remedy = "give it more time, or save more often (trainer.checkpoint_every_steps)"
        put_result(job, {"state": "failed", "reason": f"{reason}; {remedy}"})
        return 1
    if not spec.get("slurm"):
        return REQUEUED  # whatever allocation this machine is part of is not the trial's
    if scancelled():
        # SLURM would let it go back into the queue, against the will of who cancelled it
        put_result(job, {"state": "cancelled", "reason": "scancel"})
        return 1
    if not _requeue():
        # the controller sees a job that ended with this and submits the trial anew
        put_result(job, {"state": "stopped", "reason": "scontrol requeue failed"})
    return REQUEUED


def scancelled() -> bool:
    """Whether a person ended this job. While its tasks live SLURM calls a job COMPLETING, whatever ended it; but a limit or a
    failure gives a reason, a preemption its time, and a job that was asked to queue again has one restart more already.
    """
    facts = dict(word.split("=", 1) for word in _scontrol("show", "job", slurm_job()).stdout.split() if "=" in word)
    if facts.get("JobState") != "COMPLETING":
        return facts.get("JobState") == "CANCELLED"
    unasked = facts.get("Restarts") == os.environ.get("SLURM_RESTART_COUNT", "0")
    return unasked and facts.get("Reason") == "None" and facts.get("PreemptTime", "None") in ("None", "N/A", "Unknown")


def slurm_job() -> str:
    """Of this process, as SLURM's programs take it."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ["SLURM_JOB_ID"]


def _requeue() -> bool:
    for _ in range(3):
        done = _scontrol("requeue", slurm_job())
        if done.returncode == 0:
            return True
        sys.stderr.write(done.stderr)
        time.sleep(2)
    return False


def _scontrol(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["scontrol", *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as fault:
        return subprocess.CompletedProcess(command, 1, "", f"{fault}\n")


def _log_to(path: Path) -> None:
    """Everything that is printed, also by libraries, goes to the trial's own log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
