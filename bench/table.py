"""bench/README.md from bench/results/*.json: python bench/table.py"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from record import HERE, RESULTS

HEAD = """# Benchmarks

Written by `python bench/table.py` from `results/*.json`, which each script writes beside its machine, versions and commit.
Machines are shared and noisy: every script measures its peers in the same run and takes medians; what counts are the ratios. None
of this is a test.

    sh bench/setup.sh .venv-bench        # the peers, in a venv of their own
    make bench                           # everything, about two hours: the searches take 40 minutes

"Goal" is what we set out to reach. A figure that falls short stands here as it is.
"""
LOADER_GOALS = {
    "bare": 0.95,
    "plain WebDataset": 6.0,
    "WebLoader": 1.4,
    "Energon": 1.4,
    "files": 1.4,
    "LitData": 1.25,
    "SPDL": 1.25,
}
ABOUT = {
    "bare": "simplejpeg from memory, threads, nothing else",
    "plain WebDataset": '`decode("pil")`, float in the worker, DataLoader',
    "WebLoader": "the same scaled decode, uint8, batched in the worker",
    "Energon": "the same decode in a cooker",
    "files": "DataLoader over a folder, the same decode",
    "LitData": "its own chunks, the same decode",
    "SPDL": "its threads over the tars' index, the same decode",
    "DALI": "its CPU pipeline: no scaled decode",
}
Rows = Iterator[str]


def loader(content: dict[str, Any]) -> Rows:
    """Ours against all."""
    figures, rows = content["figures"], content["figures"]["rows"]
    ours = rows["ours"]
    yield f"{figures['frames']['images']} images of {figures['frames']['mean_kb']} kB, {content['rounds']} rounds.\n"
    yield "| | img/s | img/CPU-s | first batch [s] | memory [MiB] | ours / it | goal |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in rows.items():
        ratio = ours["images_per_s"] / row["images_per_s"]
        text = f"**avexp** ({'processes' if 'processes' in name else 'threads'})" if name.startswith("ours") else name
        goal = f"{LOADER_GOALS[name]:g}" if name in LOADER_GOALS else ""
        about = f", {ABOUT[name]}" if name in ABOUT else ""
        yield (
            f"| {text}{about} | {row['images_per_s']:.0f} | {row['images_per_cpu_s']:.0f} | {row['first_batch_s']:.2f} "
            f"| {row['memory_mib']:.0f} | {'' if name.startswith('ours') else f'{ratio:.2f}'} | {goal} |"
        )
    for name, why in figures["missing"].items():
        yield f"| {name}, {ABOUT.get(name, '')} | {why} | | | | | |"
    yield f"\nFirst batch of an epoch once the workers are up: {ours['first_batch_up_s']:.2f} s (goal 0.3)."


def resume(content: dict[str, Any]) -> Rows:
    """Any position."""
    found = content["figures"]
    yield "| | measured | goal |\n|---|---|---|"
    title = f"first batch at {len(found['resumes'])} positions of {found['rows']:,} frames, median"
    yield f"| {title} | {found['first_batch_s']:.2f} s | 1 s |"
    yield f"| the slowest | {found['first_batch_max_s']:.2f} s | 1 s |"
    yield f"| memory of the process | {found['memory_max_mib']:.0f} MiB | 1000 MiB |"
    yield f"| every batch the undisturbed epoch's | {'yes' if found['all_same'] else 'NO'} | yes |"
    yield f"| every frame once in an epoch | {'yes' if found['every_row_once'] else 'NO'} | yes |"


def overhead(content: dict[str, Any]) -> Rows:
    """Over a bare loop."""
    goals = {"20": 1.02, "100": 1.01, "500": 1.01}
    yield "| bare step [ms] | batch | framework / bare | of the sums | same weights | goal |\n|---|---|---|---|---|---|"
    for target, row in content["figures"]["steps"].items():
        same = "yes" if row["same_weights"] else "NO"
        ratios = f"{row['ratio']:.3f} | {row['ratio_of_sums']:.3f}"
        yield f"| {row['bare_ms']:.1f} | {row['batch_size']} | {ratios} | {same} | {goals[target]} |"
    wait = content["figures"]["wait"]
    yield (
        f"\nTraining on one core (steps of {wait['step_ms']:.0f} ms), one thread decoding 1280x720: the step waits for data "
        f"{100 * wait['wait_share']:.1f} % of the time (goal 2 %)."
    )


def startup(content: dict[str, Any]) -> Rows:
    """CPU before an answer."""
    goals = {"python train.py --help": 0.6, "python train.py --cfg job": 0.8, "avexp --help": 0.6}
    yield "| command | CPU [s] | goal | heavy packages imported |\n|---|---|---|---|"
    for name, row in content["figures"].items():
        heavy = " ".join(row["heavy_imports"]) or "none"
        yield f"| `{name}` | {row['cpu_s']:.2f} | {goals.get(name, '')} | {heavy} |"


def plans(content: dict[str, Any]) -> Rows:
    """CPU plans."""
    yield "| network | plan | p50 [ms] | PyTorch eager / it |\n|---|---|---|---|"
    for network, rows in content["figures"].items():
        for name, row in rows.items():
            yield f"| {network} | {name} | {row['p50_ms']:.2f} | {row['ratio']:.1f} |"


def world(content: dict[str, Any]) -> Rows:
    """The synthetic world."""
    yield "| road | frames/s on one core, JPEG included | frame / fixed OpenCV load |\n|---|---|---|"
    for road, row in content["figures"].items():
        yield f"| {road} | {row['frames_per_s']:.0f} | {row['frame_ms'] / row['peer_ms']:.2f} |"
    yield "\nThe goal was 150 on every road."


def object_store(content: dict[str, Any]) -> Rows:
    """An epoch from a store."""
    yield "| store | its own rate [MiB/s] | first epoch / own rate | first epoch / copying files | second epoch / local disk |"
    yield "|---|---|---|---|---|"
    for name, row in content["figures"].items():
        cells = [
            f"{row[key][0]:.2f} ({row[key][1]:.2f} to {row[key][2]:.2f})"
            for key in ("first/peer", "first/copy", "second/local")
        ]
        yield f"| {name} | {row['peer'][0]:.0f} | {' | '.join(cells)} |"
    yield "\nThe goal for the first epoch was 1.2. On loopback the store itself takes the cores that the epoch needs."


def sweeps(content: dict[str, Any]) -> Rows:
    """Planning, starting and watching."""
    plan, watcher, local = (content["figures"][name] for name in ("plan", "watcher", "local"))
    yield "| | measured | goal |\n|---|---|---|"
    yield f"| {plan['trials']:,} trials planned: CPU | {plan['cpu_s']:.1f} s | 20 s |"
    yield f"| memory of that process | {plan['memory_mib']} MiB | 200 MiB |"
    yield f"| one look at {watcher['jobs']:,} jobs of a fake SLURM, one squeue: CPU | {watcher['cpu_s']:.2f} s | 1 s |"
    if "poll_cpu_s" in watcher:  # results of before had the look alone
        yield f"| the same by the controller, with its ledger | {watcher['poll_cpu_s']:.2f} s | 1 s |"
        yield f"| that look when all of them changed at once | {watcher['first_poll_cpu_s']:.2f} s | 1 s |"
    yield f"| {local['trials']:,} no-op trials, local launcher | {local['ours_per_s']:.0f} trials/s | |"
    many = local["many"]
    yield f"| memory of the launcher meanwhile | {local['memory_mib']} MiB | |"
    yield f"| {many['trials']:,} of them | {many['per_s']:.0f} trials/s | |"
    yield f"| memory of the launcher meanwhile | {many['memory_mib']} MiB | 200 MiB |"
    yield f"| Hydra's basic launcher, the same app | {local['basic_per_s']:.1f} trials/s: {local['ratio']:.0f}x | 5x |"
    if "ray_per_s" in local:
        yield f"| Ray Tune, a function that returns | {local['ray_per_s']:.1f} trials/s: {local['ray_ratio']:.0f}x | 5x |"


def submit(content: dict[str, Any]) -> Rows:
    """An idle SLURM."""
    found = content["figures"]
    yield "| from submission to the first line | median [s] | goal |\n|---|---|---|"
    yield f"| `sbatch` of an empty script | {found['sbatch']:.2f} | |"
    yield f"| a trial of a sweep | {found['avexp']:.2f} | |"
    yield f"| later by | {found['later_s']:.2f} | 1.5 |"


def search(content: dict[str, Any]) -> Rows:
    """ASHA against random search."""
    found = content["figures"]
    yield f"{found['trials']} trials, lanes only, the same suggestions both times.\n"
    yield "| seed | best lane F1, random | best, ASHA | epochs, random | epochs, ASHA | share | pruned |"
    yield "|---|---|---|---|---|---|---|"
    for row in found["rows"]:
        random, asha = row["random"], row["asha"]
        share, pruned = asha["epochs"] / random["epochs"], asha["states"].get("pruned", 0)
        yield (
            f"| {row['seed']} | {random['best']:.3f} | {asha['best']:.3f} | {random['epochs']} | {asha['epochs']} "
            f"| {share:.2f} | {pruned} |"
        )
    best, spread = found["best"], found["spread"]
    yield (
        f"\nMean of the best {best['random']:.3f} (deviation {spread['random']:.3f}) and {best['asha']:.3f} "
        f"({spread['asha']:.3f}), by {100 * found['epochs_share']:.0f} % of the epochs (goal 40 %)."
    )


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], Rows]]] = {
    "loader_1": ("Loader: 1280x720 q90 shards -> 640x360 uint8 batches of 32 with parsed labels", loader),
    "loader_5": ("Loader: five cameras of 1920x1080 a frame -> 960x540", loader),
    "resume": ("Going on at any position of ten million frames", resume),
    "overhead": ("The framework over a bare PyTorch loop", overhead),
    "startup": ("CPU before a command answers", startup),
    "object_store": ("An epoch from an object store (SeaweedFS)", object_store),
    "sweeps": ("Sweeps: planning, starting, watching", sweeps),
    "submit": ("Sweeps: from submission to the trial's first line, on a real SLURM of this machine", submit),
    "search": ("Searches: successive halving against random search", search),
    "plans": ("CPU plans against PyTorch eager, one frame, one thread", plans),
    "world": ("The synthetic world", world),
}


def main() -> None:
    """Whatever was measured."""
    parts = [HEAD]
    for name, (title, rows) in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if not path.is_file():
            continue
        content = json.loads(path.read_text())
        machine, packages = content["machine"], content["packages"]
        parts.append(f"\n## {title}\n\n" + "\n".join(rows(content)))
        versions = ", ".join(f"{package.removeprefix('peers: ')} {value}" for package, value in packages.items())
        script = name.rstrip("_0123456789")
        cameras = f" --cameras {name[-1]}" if name[-1].isdigit() else ""
        parts.append(
            f"\n`python bench/{script}.py{cameras}`, {content['date_utc']} UTC, commit {content['commit']}, "
            f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, Python {content['python']}; {versions}."
        )
    (HERE / "README.md").write_text("\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
