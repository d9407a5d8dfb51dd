"""The code as it is when a sweep is submitted, copied beside it: what is queued runs what was submitted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from avexp.core.errors import RunError
from avexp.core.lock import code_state

MOST_BYTES = 256 << 20
"""A checkout that is larger holds data, which a snapshot must not copy."""
DONE = ".complete"


def snapshot(folder: Path) -> Path | None:
    """Copy the checkout that this code runs from: tracked files as they are now, and new ones that git does not ignore.

    Args:
        folder: to copy into; what is there already is kept.

    Returns:
        The folder; None where avexp is an installed package, which nobody edits.

    Raises:
        RunError: the checkout is too large.
    """
    if (folder / DONE).is_file():
        return folder
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if found.returncode:
        return None
    paths = [root / os.fsdecode(name) for name in found.stdout.split(b"\0") if name]
    paths = [path for path in paths if path.is_file()]
    if (total := sum(path.stat().st_size for path in paths)) > MOST_BYTES:
        what = f"{total >> 20} MiB of files that git does not ignore"
        raise RunError(str(root), what, f"ignore data in .gitignore; a snapshot takes at most {MOST_BYTES >> 20} MiB")
    for path in paths:
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    commit, diff = code_state()
    (folder / "commit.txt").write_text(f"{commit or ''}\n")
    (folder / "code.diff").write_text(diff)
    (folder / DONE).touch()
    return folder


def recorded_state() -> tuple[str | None, str] | None:
    """Commit and changes of the snapshot that this code runs from; None if it runs from no snapshot."""
    root = Path(__file__).resolve().parents[2]
    if not (root / DONE).is_file():
        return None
    return (root / "commit.txt").read_text().strip() or None, (root / "code.diff").read_text()


def environment(code: Path | None) -> dict[str, str]:
    """Variables with which a job finds the snapshot's code, and nothing of the checkout's.

    Args:
        code: of ``snapshot``.
    """
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    root = str(Path(__file__).resolve().parents[2])
    if code is not None:
        others = [str(code), str(code / "launchers"), *(path for path in others if Path(path).resolve() != Path(root))]
    return {"PYTHONPATH": os.pathsep.join(others), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def python() -> str:
    """The interpreter that jobs run."""
    return sys.executable
