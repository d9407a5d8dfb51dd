"""What the starts of a trial leave behind: the claim of an attempt, a line for each start, the steps that were saved.

Imported by jobs in their first lines and by whoever watches them: nothing heavy, and no signal is touched.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

STARTS = "starts.jsonl"
"""In a trial's folder, a line for each start: token, restart, node, step."""


def claimed(results: Path, token: str) -> bool:
    """Whether this attempt may run: the controller takes the claim first where it gives an attempt up."""
    from avexp.core.files import put_if_absent

    path = results / f"{token}.claim"
    return put_if_absent(path, b"started") or path.read_bytes() == b"started"


def revoked(results: Path, token: str) -> bool:
    """Give an attempt up that never started; False if it did in the meantime."""
    from avexp.core.files import put_if_absent

    path = results / f"{token}.claim"
    return put_if_absent(path, b"revoked") or path.read_bytes() == b"revoked"


def note_start(folder: Path, token: str) -> dict[str, Any]:
    """Where the trial begins this time: restarts are bounded by progress."""
    line = {
        "token": token, "time": time.time(), "node": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "job": os.environ.get("SLURM_JOB_ID", str(os.getpid())), "pid": os.getpid(),
        "born": born(os.getpid()), "restart": int(os.environ.get("SLURM_RESTART_COUNT", "0")), "step": step_of(folder),
    }  # fmt: skip
    with (folder / STARTS).open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    return line


def born(pid: int) -> str:
    """Start time in clock ticks since boot: with its number it names a process for ever; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def starts(folder: Path) -> list[dict[str, Any]]:
    """All starts of a trial so far; a torn last line is left out."""
    path = folder / STARTS
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def step_of(folder: Path) -> int:
    """Step of the newest checkpoint; -1 before the first."""
    steps = [int(path.stem.partition("-")[2]) for path in folder.glob("checkpoints/step-*.ckpt")]
    return max(steps, default=-1)


def without_progress(folder: Path) -> int:
    """How many times in a row the trial started from where it stands now."""
    now, count = step_of(folder), 0
    for start in reversed(starts(folder)):
        if start["step"] != now:
            break
        count += 1
    return count
