"""What every benchmark writes: its figures beside the machine, the versions and the commit, as results/<script>.json."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def machine() -> dict[str, Any]:
    """CPU, cores that may be used, memory [GiB]."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load": os.getloadavg()[0],
    }


def commit() -> str:
    """Of this checkout, with a plus where files differ from it (results do not count)."""
    git = ["git", "-C", str(HERE)]
    found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    apart = [":/", ":!*results/*", ":!*bench/README.md"]
    changed = subprocess.run([*git, "status", "--porcelain", "--", *apart], capture_output=True, text=True, check=False)
    return (found.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


def versions(*names: str) -> dict[str, str]:
    """Installed versions; those that are missing are left out."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write(script: str, figures: Any, packages: dict[str, str], **facts: Any) -> Path:
    """Write one script's results.

    Args:
        script: name without extension.
        figures: plain JSON.
        packages: versions of what was measured.
        facts: options of the run.
    """
    RESULTS.mkdir(exist_ok=True)
    content = {
        "script": script,
        "date_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
        "machine": machine(),
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
        **facts,
        "figures": figures,
    }
    path = RESULTS / f"{script}.json"
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(path)
    print(f"wrote {path}; python bench/table.py puts it into bench/README.md")
    return path


def middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Median of each value over the rounds, and the spread of the first one."""
    return {name: round(median(one[name] for one in rounds), 5) for name in rounds[0]}
