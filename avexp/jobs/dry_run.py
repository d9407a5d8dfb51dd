"""``-m ... --dry-run``: every trial with its difference, resources and time; nothing is written, nothing submitted."""

import json
from collections.abc import Mapping
from typing import Any

from avexp.core.progress import console
from avexp.jobs.launch import Launcher
from avexp.jobs.sweep import Preview, SweepPlan, preview


def dry_run(plan: SweepPlan) -> int:
    """Say what would be done; the exit code."""
    found = preview(plan)
    search, launcher = found.search, plan.launcher
    count = int(search["trials"]) if search else len(found.trials)
    what = f"{'search' if search else 'run'} {count} trial{'s' * (count != 1)}"
    console.print(f"[bold]{plan.stage}[/] would {what} with {launcher.name}, and has not:")
    for key, text in (search or {}).get("space", {}).items():
        told = f"{text['values']} when {text['when']}" if isinstance(text, Mapping) else text
        console.print(f"  {key}: {told}", markup=False, soft_wrap=True)
    _tell_trials(found, launcher)
    if found.seconds is not None:
        different = count if search else sum(trial.same_as is None for trial in found.trials)
        at_once = launcher.concurrent or (1 if launcher.name == "local" else different)
        if search:
            at_once = int(search.get("concurrent") or launcher.at_once)
        whole = found.seconds * -(-different // max(1, at_once)) / 60
        took = f"about {found.seconds:.0f} s a trial by earlier runs of {plan.name}; {whole:.0f} min in all"
        console.print(took, markup=False)
    console.print(f"sweep       {plan.folder}", markup=False, soft_wrap=True)
    return 0


def _tell_trials(found: Preview, launcher: Launcher) -> None:
    """A row each; resources that all share are said once."""
    shapes = {shape: resources(json.loads(shape), launcher) for shape in {one.shape for one in found.trials}}
    shapes = shapes or {found.shape: resources(json.loads(found.shape), launcher)}
    shared = len(set(shapes.values())) == 1
    if shared:
        console.print(f"each        {next(iter(shapes.values()))}", markup=False, soft_wrap=True)
    for trial in found.trials:
        asked = "" if shared else f"  {shapes[trial.shape]}"
        same = f"  equal to {trial.same_as}" if trial.same_as is not None else ""
        words = " ".join(trial.words) or "as it is"
        console.print(f"  {trial.number:5d}  {words}{same}{asked}", markup=False, soft_wrap=True)


def resources(shape: Mapping[str, Any], launcher: Launcher) -> str:
    """What a trial asks for, in words.

    Args:
        shape: of the trial.
        launcher: where it would run.
    """
    nodes, devices = int(shape["nodes"]), int(shape["devices"])
    unit = "GPU" if shape["accelerator"] == "cuda" else "rank"
    parts = [f"{nodes} node{'s' * (nodes != 1)} x {devices} {unit}{'s' * (devices != 1)}"]
    if launcher.name == "local":
        return parts[0]
    cluster, chosen = shape.get("cluster") or {}, launcher.resources
    if shape.get("cpu_cores"):
        parts.append(f"{shape['cpu_cores']} cores a node")
    if shape.get("memory_gib") and cluster.get("ask_memory"):
        parts.append(f"{shape['memory_gib']:g} GiB a node")
    for name in ("partition", "constraint", "account", "qos"):
        if value := getattr(chosen, name) or cluster.get(name):
            parts.append(f"{name} {value}")
    limit = chosen.time_min or cluster.get("time_min")
    parts.append(f"at most {limit} min" if limit else "the partition's time limit")
    return ", ".join(parts)
