"""A run again, from its lock: on the recorded code and data, held against it batch by batch."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.core.files import read_json
from avexp.core.lock import code_state, digest_text
from avexp.core.run_folder import RunFolder, runs
from avexp.loader.verify import verify
from avexp.records.dataset import Dataset
from avexp.store.run_diff import RunDiff, diff_runs

PATIENCE_S = 600.0
"""Beyond thrice what the run itself took, a reproduction may take so long [s]."""
Say = Callable[[str], None]


def reproduce(
    run: RunFolder,
    outputs: Path,
    root: Path,
    *,
    here: bool = False,
    overrides: Sequence[str] = (),
    check_data: bool = True,
    timeout_s: float | None = None,
    say: Say,
) -> tuple[RunFolder, RunDiff]:
    """Run it again in a folder of its own and compare.

    Args:
        run: finished, with its loss file.
        outputs: folder of run folders.
        root: storage root.
        here: with the code that is here now, instead of the recorded.
        overrides: ``key=value`` to change, for finding out what a change does.
        check_data: read and check the whole dataset version first.
        timeout_s: it is ended after so long [s]; thrice the run's own time and ten minutes if None.
        say: told what goes on, a line at a time.

    Returns:
        The new run, and its difference from the old one.

    Raises:
        RunError: the run cannot be reproduced: never finished, made without a loss file, or on code, data or a stream
            that cannot be had again.
    """
    lock = _lock_of(run)
    digests = _check_data(lock, root, check_data, say)
    own = time.monotonic()
    limit = timeout_s or 3.0 * float(read_json(run.status).get("wall_s", 0.0)) + PATIENCE_S
    with code_of(run, lock, here, say) as folder:
        mark = f"reproduces:{run.id}:{os.getpid()}:{own:.0f}"
        words = [f"+replay={run.path}", *(f"++data.version={digest}" for digest in digests), f"tags=['{mark}']"]
        _run_child(folder, [*words, *overrides], limit, say)
    again = next((one for one in runs(outputs, "train") if mark in _tags(one)), None)
    if again is None:
        raise RunError(
            str(run.path), f"its reproduction left no run under {outputs}", "give --outputs as the run had it"
        )
    return again, diff_runs(run, again, root, _checkout())


def _lock_of(run: RunFolder) -> dict[str, Any]:
    lock: dict[str, Any] = read_json(run.lock)
    if lock["stage"] != "train":
        raise RunError(str(run.path), f"is a run of stage {lock['stage']}", "give a training run")
    if run.state() != "finished":
        raise RunError(str(run.path), f"is {run.state()}", "finish it with train.py resume=<run>")
    if not run.losses.is_file():
        raise RunError(str(run.path), "has no losses.txt", "it was made by an older avexp; train it anew")
    if "urls" in (lock["config"].get("data") or {}):
        raise RunError(str(run.path), "trained on a stream, whose frames do not come twice", "ingest it to a dataset")
    return lock


def _check_data(lock: dict[str, Any], root: Path, whole: bool, say: Say) -> list[str]:
    """Digests of the recorded versions, which must be here and unharmed."""
    digests = []
    for entry in (one for one in lock["inputs"] if one["kind"] == "dataset"):
        reference = f"{entry['name']}@{entry['version']}"
        dataset = Dataset.open(root, entry["digest"])
        if whole:
            say(f"checking {reference}: {len(dataset.rows)} frames")
            faults = verify(dataset, root)
            if faults:
                worst = next((fault for fault in faults if fault.key), faults[0])
                what = f"data is not what it was: {len(faults)} faults, such as {worst}"
                raise RunError(reference, what, f"{worst.remedy}; avexp dataset verify {reference} lists all")
        digests.append(entry["digest"])
    return digests


@contextmanager
def code_of(run: RunFolder, lock: dict[str, Any], here: bool, say: Say) -> Iterator[Path]:
    """A folder with the recorded code: this one where it is the same, else a git worktree that is removed afterwards.

    Raises:
        RunError: the commit is not known here, or the recorded changes do not apply.
    """
    checkout = _checkout()
    commit, diff = code_state()
    recorded = lock["code"]
    same = (commit, digest_text(diff)) == (recorded["commit"], recorded["diff_sha256"])
    if here or same or recorded["commit"] is None:
        say("code: as it is here" + ("" if same else ", which is not the recorded"))
        yield checkout
        return
    folder = Path(tempfile.mkdtemp(prefix="avexp-reproduce-"))
    try:
        _git(checkout, run, "worktree", "add", "--detach", "--force", str(folder / "code"), recorded["commit"])
        if recorded["diff_sha256"] is not None:
            _git(folder / "code", run, "apply", "--whitespace=nowarn", str(run.diff.resolve()))
        changed = " with its uncommitted changes" if recorded["diff_sha256"] else ""
        say(f"code: a clean worktree of {recorded['commit'][:12]}{changed}")
        yield folder / "code"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "-C", str(checkout), "worktree", "prune"], capture_output=True, check=False, timeout=60)


def _git(folder: Path, run: RunFolder, *words: str) -> None:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        remedy = "fetch the commit it was made of, or compare with the present code: --here"
        raise RunError(str(run.path), f"its code cannot be had (git {words[0]}: {reason})", remedy)


def _checkout() -> Path:
    return Path(__file__).resolve().parents[2]


def _run_child(folder: Path, words: list[str], limit_s: float, say: Say) -> None:
    """Train in a process of its own; what it prints is passed on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(folder / "train.py"), *words]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    last = ""
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = line.strip() or last
            say(line.rstrip())
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
    if code == -signal.SIGKILL:
        raise RunError("reproduce", f"did not end within {limit_s:.0f} s", "give --timeout")
    if code != 0:
        raise RunError("reproduce", f"training failed ({last})", "see what it printed above")


def _tags(run: RunFolder) -> list[str]:
    config = read_json(run.lock)["config"] if run.lock.is_file() else {}
    return list(config.get("tags") or [])
