"""The code as it is when a sweep is submitted, copied beside it: what is queued runs what was submitted."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from avexp.core.errors import RunError
from avexp.core.lock import CHANGES, COMMIT, code_state

MOST_BYTES = 256 << 20
"""A checkout that is larger holds data, which a snapshot must not copy."""
DONE = ".complete"
PARTS = ("avexp", "conf", "launchers", "train.py", "export.py", "pyproject.toml")
"""Of a checkout without git."""


def snapshot(folder: Path, modules: Iterable[str] = ()) -> Path | None:
    """Copy the checkout that this code runs from: tracked files as they are now, and new ones that git does not ignore; without
    git what a checkout has. Beside it the packages of a team that its configs name.

    Args:
        folder: to copy into; what is there already is kept.
        modules: names, with or without dots, that jobs import.

    Returns:
        The folder; None where all is installed, and nobody edits it.

    Raises:
        RunError: there is too much of it.
    """
    if (folder / DONE).is_file():
        return folder
    root = Path(__file__).resolve().parents[2]
    checkout = _tracked(root)
    teams = _team_code({name.partition(".")[0] for name in modules}, root if checkout else None)
    if not checkout and not teams:
        return None
    _copy(root, checkout, folder)
    for home, paths in teams:
        _copy(home, paths, folder)
    if checkout:
        commit, diff = code_state()
        (folder / COMMIT).write_text(f"{commit or ''}\n")
        (folder / CHANGES).write_text(diff)
    (folder / DONE).touch()
    return folder


def _tracked(root: Path) -> list[Path]:
    """Files of the checkout; none where avexp is an installed package."""
    if not (root / "conf").is_dir():
        return []
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, check=True, timeout=20).stdout
        if Path(os.fsdecode(top).strip()).resolve() == root:
            command = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            found = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
            return [
                path for path in (root / os.fsdecode(name) for name in found.split(b"\0") if name) if path.is_file()
            ]
    except (OSError, subprocess.SubprocessError):
        pass  # no git, or an archive of the sources
    return [path for part in PARTS for path in _files(root / part)]


def _team_code(names: Iterable[str], root: Path | None) -> list[tuple[Path, list[Path]]]:
    """Modules that lie neither in the checkout nor where packages are installed: where they lie, and their files."""
    installed = [Path(path).resolve() for path in {*sysconfig.get_paths().values(), *site.getsitepackages()}]
    found = []
    for name in sorted(names):
        try:
            spec = find_spec(name)
        except (ImportError, ValueError):
            continue
        places = list(spec.submodule_search_locations or []) if spec is not None else []
        place = places[0] if places else spec.origin if spec is not None else None
        if place is None or not Path(place).exists():
            continue
        path = Path(place).resolve()
        if not any(path.is_relative_to(one) for one in [*installed, *([root] if root else [])]):
            found.append((path.parent, _files(path)))
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [
        one for one in path.rglob("*") if one.is_file() and "__pycache__" not in one.parts and ".git" not in one.parts
    ]


def _copy(home: Path, paths: Sequence[Path], folder: Path) -> None:
    if (total := sum(path.stat().st_size for path in paths)) > MOST_BYTES:
        what = f"{total >> 20} MiB of code that git does not ignore"
        raise RunError(str(home), what, f"ignore data in .gitignore; a snapshot takes at most {MOST_BYTES >> 20} MiB")
    for path in paths:
        target = folder / path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def environment(code: Path | None) -> dict[str, str]:
    """Variables with which a job finds the snapshot's code, and nothing of the checkout's.

    Args:
        code: of ``snapshot``.
    """
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if code is not None:
        root = Path(__file__).resolve().parents[2]
        checkout = (code / "avexp").is_dir()
        others = [
            str(code),
            str(code / "launchers"),
            *(_mapped(path, root, code) if checkout else path for path in others),
        ]
    others = list(dict.fromkeys(others))
    return {"PYTHONPATH": os.pathsep.join(others), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _mapped(path: str, root: Path, code: Path) -> str:
    """A folder of the checkout -> the same one of the snapshot."""
    place = Path(path).resolve()
    return str(code / place.relative_to(root)) if place.is_relative_to(root) else path


def python() -> str:
    """The interpreter that jobs run."""
    return sys.executable
