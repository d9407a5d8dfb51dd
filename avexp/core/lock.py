"""lock.json: all that a run depends on, so that it can be run again and compared."""

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from avexp.core.files import digest_json, read_json, write_json, write_text
from avexp.core.run_folder import RunFolder

LOCK_FORMAT = 1
COMMIT, CHANGES = "commit.txt", "code.diff"
"""Files of a snapshot of the code, which is no checkout: what it was copied from."""
WITHOUT_INFLUENCE = ("storage", "store", "tags", "name")
"""Root keys that do not change what a run computes."""
MACHINE_KEYS = {
    "loader": ("threads", "processes", "ahead", "read_ahead", "keep_mib", "timeout_s"),
    "trainer": ("pictures", "profile", "latency_frames"),
}


def without_influence(key: str) -> bool:
    """Whether a dotted key does not change what a run computes."""
    root, _, rest = key.partition(".")
    return root in WITHOUT_INFLUENCE or rest in MACHINE_KEYS.get(root, ())


def config_digest(config: DictConfig) -> str:
    """Digest of what a config computes: equal digests are the same experiment, wherever it runs."""
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    kept = {str(key): value for key, value in plain.items() if key not in WITHOUT_INFLUENCE}
    for key, names in MACHINE_KEYS.items():
        if isinstance(kept.get(key), dict):
            kept[key] = {name: value for name, value in kept[key].items() if name not in names}
    return digest_json(kept)


def write_lock(run: RunFolder, stage: str, config: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Write a new run's lock and resolved config; returns the lock."""
    commit, diff = code_state()
    plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    lock = {
        "format": LOCK_FORMAT,
        "run_id": run.id,
        "stage": stage,
        "experiment": run.name,
        "config_digest": config_digest(config),
        "config": plain,
        "overrides": overrides,
        "code": {"commit": commit, "diff_sha256": digest_text(diff)},
        "packages": packages(),
        "hardware": hardware_seen(),
        "seed": config.get("seed"),
        "inputs": [],
        "outputs": [],
    }
    run.path.mkdir(parents=True, exist_ok=True)
    if diff:
        write_text(run.diff, diff)
    write_text(run.config, OmegaConf.to_yaml(OmegaConf.create(plain)))
    write_json(run.lock, lock)
    return lock


def digest_text(text: str) -> str | None:
    """sha256 of a diff; None where there is none."""
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def add_to_lock(run: RunFolder, **entries: dict[str, Any]) -> None:
    """Append to the lock's lists: ``inputs={...}`` or ``outputs={...}``; what is there already is not repeated."""
    lock = read_json(run.lock)
    for name, entry in entries.items():
        if entry not in lock[name]:
            lock[name].append(entry)
    write_json(run.lock, lock)


def code_state() -> tuple[str | None, str]:
    """Commit of the code and its uncommitted changes: of the checkout, or of what a sweep's snapshot was copied from.

    (None, "") where git does not know this code, such as an installed package, also below somebody else's checkout.
    """
    folder = Path(__file__).resolve().parents[2]
    if (folder / COMMIT).is_file() and (folder / CHANGES).is_file():
        return (folder / COMMIT).read_text().strip() or None, (folder / CHANGES).read_text()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    try:
        git("ls-files", "--error-unmatch", "--", "avexp/core/lock.py")
        commit = git("rev-parse", "HEAD").strip()
        diff = git("diff", "--binary", "HEAD", "--", "avexp", "conf", "launchers", "train.py", "export.py")
        extra = git("ls-files", "--others", "--exclude-standard", "--", "avexp", "conf", "launchers").splitlines()
        return commit, diff + "".join(_as_new(folder, name) for name in extra)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None, ""


def _as_new(folder: Path, name: str) -> str:
    """An untracked file in the same form as the rest of the diff."""
    command = ["git", "-C", str(folder), "diff", "--binary", "--no-index", "--", "/dev/null", name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout


@lru_cache
def packages() -> dict[str, str]:
    """Installed packages with versions, as this process found them."""
    told = (dist.metadata for dist in distributions())  # each access reads its file
    found = {one["Name"]: one["Version"] for one in told if one["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def hardware_seen() -> dict[str, Any]:
    """CPU, memory and Python of this machine (GPUs are added by the stage that uses them)."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
