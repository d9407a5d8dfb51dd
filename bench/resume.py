"""Going on at any position of an index of ten million rows: python bench/resume.py [--work FOLDER]

The rows point to the frames of bench/loader.py, so that batches are real. Each resume runs in a fresh process: from nothing
imported but the loader to the first batch, with its greatest resident memory. That batch is held against the frames that an
undisturbed epoch has there: the whole order computed at once, and, near the start, an epoch that was really read.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from loader import BATCH, dataset
from record import HERE, versions, write

from avexp.core.counter_random import hash64
from avexp.loader.loader import Loader
from avexp.records.dataset import Dataset, DatasetManifest
from avexp.records.index import ROW

ROWS, VAL_ROWS = 10_000_000, 100_000
EPOCH, SEED, READ_BATCHES = 3, 7, 12


def make_index(work: Path) -> None:
    """The version big@2: the frames of big@1 again and again, each with a time of its own; rows sorted by split."""
    folder = work / "datasets" / "big" / "2"
    if (folder / "manifest.json").is_file():
        return
    small = Dataset.open(work, "big@1")
    folder.mkdir(parents=True, exist_ok=True)
    rows = np.memmap(folder / "index.bin", ROW, "w+", shape=(ROWS,))
    for start in range(0, ROWS, 1 << 20):
        numbers = np.arange(start, min(start + (1 << 20), ROWS))
        part = np.array(small.rows[numbers % len(small.rows)])
        part["timestamp_ns"], part["split"] = numbers, numbers >= ROWS - VAL_ROWS
        rows[start : start + len(part)] = part
    rows.flush()
    splits = {"train": ROWS - VAL_ROWS, "val": VAL_ROWS}
    manifest = small.manifest.model_copy(update={"version": 2, "rows": ROWS, "splits": splits})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    assert DatasetManifest.from_file(folder / "manifest.json").rows == ROWS


def loader(opened: Dataset) -> Loader:
    """Of the training split."""
    rows = opened.select("train")
    return Loader(
        opened, rows, BATCH, training=True, seed=SEED, least_width_px=640, threads=len(os.sched_getaffinity(0))
    )


def resume(work: Path, position: int) -> dict[str, Any]:
    """In a fresh process: the first batch from there."""
    began = time.perf_counter()
    ours = loader(Dataset.open(work, "big@2"))
    ours.load_state_dict({"frames": position})
    ours.sampler.set_epoch(EPOCH)
    batch = next(iter(ours))
    found = {
        "first_batch_s": time.perf_counter() - began,
        "keys": batch.keys,
        "images": images_hash(batch.images.numpy()),
    }
    return found | {"memory_mib": peak_mib()}


def peak_mib() -> float:
    """Greatest resident memory of this program; getrusage would count what the parent had before it started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def images_hash(images: np.ndarray) -> str:
    """Of the pixels."""
    import hashlib

    return hashlib.sha256(images.tobytes()).hexdigest()


def order(work: Path, positions: list[int]) -> dict[str, Any]:
    """In a process of its own: what an undisturbed epoch has at these positions, from its whole order."""
    opened = Dataset.open(work, "big@2")
    ours = loader(opened)
    whole = ours.rows[np.concatenate([
        ours.sequence(EPOCH, np.arange(start, min(start + (1 << 20), len(ours.rows))))
        for start in range(0, len(ours.rows), 1 << 20)
    ])]  # fmt: skip
    seen = np.zeros(len(whole), bool)
    seen[whole] = True
    keys = {position: [opened.key(int(row)) for row in whole[position : position + BATCH]] for position in positions}
    ours.sampler.set_epoch(EPOCH)
    read = [batch for batch, _ in zip(ours, range(READ_BATCHES), strict=False)]
    pixels = {number * BATCH: images_hash(batch.images.numpy()) for number, batch in enumerate(read)}
    return {"every_row_once": bool(seen.all()), "keys": keys, "images": pixels}


def child(what: str, *words: str) -> dict[str, Any]:
    """Run this file again."""
    command = [sys.executable, str(HERE / "resume.py"), "--child", what, *words]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Resume in many places."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="outputs/bench", help="where the frames lie")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, folder, *numbers = arguments.child
        positions = [int(number) for number in numbers]
        found = order(Path(folder), positions) if what == "order" else resume(Path(folder), positions[0])
        print(json.dumps(found))
        return
    work = Path(arguments.work).resolve() / "cameras-1"
    dataset(work, 1)
    make_index(work)
    epoch = (ROWS - VAL_ROWS) // BATCH
    drawn = [int(value) % epoch for value in hash64(SEED, "resume", np.arange(6, dtype=np.uint64))]
    batches = [0, READ_BATCHES - 2, epoch // 2, epoch - 1, *drawn]
    positions = [batch * BATCH for batch in batches]
    truth = child("order", str(work), *map(str, positions))
    rows = []
    for position in positions:
        found = child("resume", str(work), str(position))
        same = found["keys"] == truth["keys"][str(position)]
        if str(position) in truth["images"]:
            same &= found["images"] == truth["images"][str(position)]
        rows.append(
            {"position": position, "same": same, **{k: round(found[k], 4) for k in ("first_batch_s", "memory_mib")}}
        )
        print(rows[-1], flush=True)
    figures = {
        "rows": ROWS,
        "every_row_once": truth["every_row_once"],
        "all_same": all(row["same"] for row in rows),
        "first_batch_s": median(row["first_batch_s"] for row in rows),
        "first_batch_max_s": max(row["first_batch_s"] for row in rows),
        "memory_max_mib": max(row["memory_mib"] for row in rows),
        "resumes": rows,
    }
    write("resume", figures, versions("torch", "numpy"))


if __name__ == "__main__":
    main()
