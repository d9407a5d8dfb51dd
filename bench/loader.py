"""Loaders side by side at one task: JPEG shards on disk -> uint8 batches of 32 at half the size, labels parsed.

    sh bench/setup.sh /tmp/peers
    python bench/loader.py --peers /tmp/peers [--cameras 5] [--work FOLDER] [--rounds 3] [--seconds 5]

Every contestant runs in a process of its own, in turns; medians over the rounds. One camera: 1280x720 q90 -> 640x360; five:
1920x1080 q90 -> 960x540. The frames are rendered once into --work.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import HERE, middle, versions, write

from avexp.catalog.split import BySession
from avexp.ingest.prepare import DataSource
from avexp.ingest.world import WorldReader
from avexp.records.dataset import Dataset

BATCH, LIMIT_S = 32, 180
OURS = ("ours", "ours, processes", "bare")
PEERS = {
    1: ("plain WebDataset", "WebLoader", "Energon", "files", "LitData", "SPDL", "DALI"),
    5: ("plain WebDataset", "WebLoader"),
}
PACKAGES = (
    "webdataset",
    "megatron-energon",
    "litdata",
    "spdl_core",
    "nvidia-dali-cuda120",
    "simplejpeg",
    "pillow",
    "torch",
)
SESSIONS, FRAMES = {1: 10, 5: 4}, {1: 128, 5: 24}
WIDTHS = {1: 1280, 5: 1920}


def dataset(folder: Path, cameras: int) -> Dataset:
    """Frames of the synthetic world, rendered where they are missing."""
    width = WIDTHS[cameras]
    reader = WorldReader(
        train_sessions=SESSIONS[cameras], val_sessions=0, frames_per_session=FRAMES[cameras],
        width_px=width, height_px=width * 9 // 16, cameras=cameras,
    )  # fmt: skip
    return DataSource("big", reader, BySession("-val-"), workers=2).open(folder)


def contest(name: str, python: str, options: dict[str, Any]) -> dict[str, float] | str:
    """One contestant in a fresh process: its figures, or why there are none."""
    module = "ours.py" if name in OURS else "peers.py"
    threads = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
    environment = {**os.environ, **threads, "PYTHONPATH": str(HERE.parent)}
    command = [python, str(HERE / module), name, json.dumps(options)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, env=environment, check=False, cwd=options["work"]
        )
    except subprocess.TimeoutExpired:
        return f"no figures within {LIMIT_S} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if lines:
        figures: dict[str, float] = json.loads(lines[-1])
        return figures
    return ((done.stderr.strip() or done.stdout.strip()).splitlines() or [f"exit code {done.returncode}"])[-1][:200]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All contestants in turns."""
    work = Path(arguments.work).resolve() / f"cameras-{arguments.cameras}"
    work.mkdir(parents=True, exist_ok=True)
    opened = dataset(work, arguments.cameras)
    width = WIDTHS[arguments.cameras]
    options = {
        "root": str(work),
        "work": str(work),
        "shards": [str(work / shard.path) for shard in opened.manifest.shards],
        "workers": len(os.sched_getaffinity(0)),
        "batch": BATCH,
        "size": [width // 2, width * 9 // 32],
        "seconds": arguments.seconds,
    }
    pythons = dict.fromkeys(OURS, sys.executable)
    pythons |= {name: str(Path(arguments.peers) / "bin" / "python") for name in PEERS[arguments.cameras]}
    wanted = [name for name in pythons if not arguments.only or name in arguments.only]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in wanted}
    missing: dict[str, str] = {}
    for number in range(arguments.rounds):
        # turned round each time, so that nobody always follows the same one
        for name in [*wanted[number:], *wanted[:number]]:
            if name in missing:
                continue
            found = contest(name, pythons[name], options)
            if isinstance(found, str):
                missing[name] = found
                print(f"{name:18s} {found}", flush=True)
                continue
            rounds[name].append(found)
            print(
                f"{name:18s} {found['images_per_s']:6.0f} img/s {found['images_per_cpu_s']:6.0f} img/CPU-s", flush=True
            )
    rows = {name: middle(found) for name, found in rounds.items() if found and name not in missing}
    lengths = opened.rows["image_length"]
    frames = {"images": len(lengths), "mean_kb": round(float(lengths.mean()) / 1e3), "width_px": width}
    return {"frames": frames, "workers": options["workers"], "rows": rows, "missing": missing, "rounds": rounds}


def packages(python: Path) -> dict[str, str]:
    """Versions in the peers' venv."""
    code = f"import json, record; print(json.dumps(record.versions(*{PACKAGES!r})))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False, cwd=HERE)
    return {f"peers: {name}": value for name, value in json.loads(done.stdout or "{}").items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=".venv-bench", help="venv of setup.sh")
    parser.add_argument("--work", default="outputs/bench", help="where the frames lie")
    parser.add_argument("--cameras", type=int, choices=(1, 5), default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    began = time.perf_counter()
    figures = measure(arguments)
    found = versions("torch", "simplejpeg", "numpy", "zlib-ng") | packages(Path(arguments.peers) / "bin" / "python")
    if arguments.only:
        return
    write(
        f"loader_{arguments.cameras}", figures, found, rounds=arguments.rounds, seconds=arguments.seconds,
        wall_s=round(time.perf_counter() - began),
    )  # fmt: skip


if __name__ == "__main__":
    main()
