"""What two runs differ in, and whether it shows: config, code, data, packages, hardware; losses, weights, KPIs."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avexp.core.files import read_json
from avexp.core.lock import WITHOUT_INFLUENCE
from avexp.core.run_folder import RunFolder

Change = tuple[str, Any, Any]
"""What, its first value, its second."""
ABSENT = "-"
SHOWN = 12
"""Changes of a kind that are told."""


@dataclass(frozen=True)
class RunDiff:
    """Differences, each as (what, first, second).

    Attributes:
        config: leaves.
        code: commit, and files that were changed.
        data: dataset versions, and what of them differs.
        packages: versions.
        hardware: machine, system, Python.
        kpis: of the best checkpoint.
        batches: batches that both runs have.
        first_batch: number of the first batch whose loss differs; None if none does.
        losses: of that batch.
        weights: whether the final weights are the same; None where one run has none.
    """

    config: list[Change] = field(default_factory=list)
    code: list[Change] = field(default_factory=list)
    data: list[Change] = field(default_factory=list)
    packages: list[Change] = field(default_factory=list)
    hardware: list[Change] = field(default_factory=list)
    kpis: list[Change] = field(default_factory=list)
    batches: int = 0
    first_batch: int | None = None
    losses: tuple[float, float] | None = None
    weights: bool | None = None

    @property
    def bit_exact(self) -> bool:
        """The same loss of every batch, and the same final weights."""
        return self.batches > 0 and self.first_batch is None and self.weights is True

    def causes(self) -> dict[str, list[Change]]:
        """What could have made a difference, by kind; kinds without one are left out."""
        kinds = ("config", "code", "data", "packages", "hardware")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def diff_runs(one: RunFolder, two: RunFolder, root: Path, checkout: Path | None = None) -> RunDiff:
    """Compare two runs.

    Args:
        one: the first.
        two: the second.
        root: storage root, for what dataset versions hold.
        checkout: a git checkout that knows both commits, to name the files between them.

    Raises:
        DataError: a lock file is missing or damaged.
    """
    locks = read_json(one.lock), read_json(two.lock)
    batches, first, losses = first_difference(one.losses, two.losses)
    weights = [_final(lock) for lock in locks]
    return RunDiff(
        config=_config(*(lock["config"] for lock in locks)),
        code=_code(one, two, locks, checkout),
        data=_data(locks, root),
        packages=changes(locks[0]["packages"], locks[1]["packages"]),
        hardware=changes(locks[0]["hardware"], locks[1]["hardware"]),
        kpis=changes(_kpis(one), _kpis(two)),
        batches=batches,
        first_batch=first,
        losses=losses,
        weights=None if None in weights else weights[0] == weights[1],
    )


def first_difference(one: Path, two: Path) -> tuple[int, int | None, tuple[float, float] | None]:
    """Batches that both loss files have, the first that differs (or is missing in one), and its losses."""
    lines = [path.read_text().splitlines() if path.is_file() else [] for path in (one, two)]
    for number, (a, b) in enumerate(zip(*lines, strict=False)):
        if a != b:
            return number + 1, number, (_loss(a), _loss(b))
    both = min(len(part) for part in lines)
    return both, (both if len(lines[0]) != len(lines[1]) else None), None


def _loss(line: str) -> float:
    return float.fromhex(line.split()[1])


def changes(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Change]:
    """Keys whose values differ, in order."""
    keys = sorted(one.keys() | two.keys())
    return [(key, one.get(key, ABSENT), two.get(key, ABSENT)) for key in keys if one.get(key) != two.get(key)]


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Values of a nested config by dotted path."""
    if isinstance(node, dict) and node:
        return {key: value for name, child in node.items() for key, value in leaves(child, f"{path}.{name}").items()}
    return {path.lstrip("."): node}


def _config(one: dict[str, Any], two: dict[str, Any]) -> list[Change]:
    """Where outputs lie and what a run is called makes no difference; nor does naming the data by its digest."""
    kept = [
        {key: value for key, value in leaves(config).items() if key.partition(".")[0] not in WITHOUT_INFLUENCE}
        for config in (one, two)
    ]
    return [change for change in changes(*kept) if change[0] != "data.version"]


def _code(one: RunFolder, two: RunFolder, locks: tuple[Any, Any], checkout: Path | None) -> list[Change]:
    codes = [lock["code"] for lock in locks]
    found = changes(*codes)
    if found and checkout is not None and None not in (codes[0]["commit"], codes[1]["commit"]):
        found += [(f"file {name}", ABSENT, "changed between the commits") for name in _between(checkout, codes)]
    files = [_files(run.diff) for run in (one, two)]
    if codes[0]["diff_sha256"] != codes[1]["diff_sha256"]:
        for name in sorted(files[0].keys() | files[1].keys()):
            if files[0].get(name) != files[1].get(name):
                first, second = ("uncommitted changes" if name in part else "as committed" for part in files)
                found.append((f"file {name}", first, second))
    return found


def _between(checkout: Path, codes: list[dict[str, Any]]) -> list[str]:
    command = ["git", "-C", str(checkout), "diff", "--name-only", codes[0]["commit"], codes[1]["commit"]]
    command += ["--", "avexp", "conf", "launchers", "train.py", "export.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _files(diff: Path) -> dict[str, str]:
    """Parts of a recorded diff by file."""
    parts: dict[str, str] = {}
    name = ""
    for line in diff.read_text().splitlines() if diff.is_file() else []:
        if line.startswith("diff --git "):
            name = line.rpartition(" b/")[2]
        parts[name] = parts.get(name, "") + line
    return parts


def _data(locks: tuple[Any, Any], root: Path) -> list[Change]:
    """Dataset versions by digest; where both manifests are here, what of them differs."""
    inputs = [{entry["name"]: entry for entry in lock["inputs"] if entry["kind"] == "dataset"} for lock in locks]
    digests = [{name: f"@{e['version']} {e['digest'][:16]}" for name, e in part.items()} for part in inputs]
    found = changes(*digests)
    for name, _, _ in list(found):
        if name in inputs[0] and name in inputs[1]:
            manifests = [_manifest(root, part[name]) for part in inputs]
            if all(manifests):
                found += [(f"{name} {what}", a, b) for what, a, b in changes(*manifests)]
    return found


def _manifest(root: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """What is told of a version's content; empty where it is not here."""
    path = root / "datasets" / entry["name"] / str(entry["version"]) / "manifest.json"
    if not path.is_file():
        return {}
    content = read_json(path)
    told = {key: content.get(key) for key in ("splits", "class_counts", "condition_counts", "annotators", "rendition")}
    shards = {shard["path"]: shard["sha256"][:16] for shard in content["shards"]}
    return {
        **told,
        **{f"shard {name}": digest for name, digest in shards.items()},
        "rows": content["index_sha256"][:16],
    }


def _final(lock: dict[str, Any]) -> dict[str, str] | None:
    finals = [entry["final"] for entry in lock["outputs"] if entry.get("final")]
    return finals[-1] if finals else None


def _kpis(run: RunFolder) -> dict[str, float]:
    """KPIs of the best checkpoint."""
    content = json.loads(run.kpis.read_text()) if run.kpis.is_file() else {}
    found = content.get("checkpoint", content)
    return {key: value for key, value in found.items() if isinstance(value, int | float)}


def verdict(diff: RunDiff) -> list[str]:
    """Lines for a person: whether they are the same, what could have made the difference, what came of it."""
    causes = diff.causes()
    told = ", ".join(causes) or "nothing that was recorded"
    if diff.bit_exact:
        lines = [f"bit-exact: {diff.batches} batches with the same loss, and the same final weights"]
        lines += [f"though these differ: {told}"] if causes else []
    elif diff.batches == 0:
        lines = [f"no losses to compare; these differ: {told}"]
    elif diff.first_batch is None:
        which = "the final weights differ" if diff.weights is False else "one of them has no final weights yet"
        lines = [f"the same loss of all {diff.batches} batches, but {which}; these differ: {told}"]
    else:
        losses = f" ({diff.losses[0]:.6g} and {diff.losses[1]:.6g})" if diff.losses else " (one of them ends there)"
        lines = [f"the first loss that differs is that of batch {diff.first_batch}{losses}; these differ: {told}"]
    for kind, found in [*causes.items(), *([("kpis", diff.kpis)] if diff.kpis else [])]:
        lines += [f"  {kind:<9} {what}: {_short(a)} -> {_short(b)}{_relative(a, b)}" for what, a, b in found[:SHOWN]]
        lines += [f"  {kind:<9} and {len(found) - SHOWN} more; --json has all"] if len(found) > SHOWN else []
    return lines


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _relative(one: Any, two: Any) -> str:
    known = all(isinstance(value, float) for value in (one, two)) and one
    return f" ({100 * (two - one) / abs(one):+.2f} %)" if known else ""
