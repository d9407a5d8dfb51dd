"""Makes the artefacts of a version that must load for ever: python tests/data/make.py v3

Run it with the code of that version, once, when a format number rises; then never again: what it made is kept.
A dataset of one short drive each for training and validation, a run with its checkpoint and saved config, a bundle, and what
the bundle said of one frame. Nothing in it names a path of the machine it was made on.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SMALL = [
    "data=tiny",
    "data.name=old",
    "data.reader.train_sessions=1",
    "data.reader.val_sessions=1",
    "data.reader.frames_per_session=6",
    "data.reader.width_px=160",
    "data.reader.height_px=96",
    "hardware.precision=fp32",
    "model.height_px=64",
    "model.width_px=96",
    "model.backbone.stem_width=4",
    "model.backbone.widths=[4,8,8,8]",
    "model.neck.width=8",
    "loader.batch_size=2",
    "trainer.epochs=1",
    "trainer.pictures=0",
    "store=none",
    "name=old",
]
EXPORT = ["run=old/latest", "backends=[onnxruntime]", "calibration_frames=4", "resamples=20", "benchmark_runs=2"]
EXPORT += ["loss_max=1.0", "pictures=0", "targets=[]", "store=none", "name=old"]
KEPT = ("config.yaml", "lock.json", "status.json", "best.json", "kpis.json", "losses.txt", "metrics.jsonl")


def main(version: str) -> None:
    """Train, export, keep what must load."""
    target = HERE / version
    if target.exists():
        raise SystemExit(f"{target} exists: artefacts are never made again")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for words in ([str(ROOT / "train.py"), *SMALL], [str(ROOT / "export.py"), *EXPORT]):
            subprocess.run([sys.executable, *words], cwd=home, env=environment, check=True)
        run = next((home / "outputs/train/old").iterdir())
        bundle = next((home / "outputs/export").rglob("bundle"))
        for name in ("sessions", "datasets"):
            shutil.copytree(home / "outputs/store" / name, target / "store" / name)
        kept = target / "train" / "old" / run.name
        kept.mkdir(parents=True)
        for name in KEPT:
            if (run / name).is_file():
                text = (run / name).read_text().replace(f"{home}/", "")
                (kept / name).write_text(_without_packages(text) if name == "lock.json" else text)
        (kept / ".hydra").mkdir()
        for name in ("config.yaml", "overrides.yaml"):
            shutil.copy(run / ".hydra" / name, kept / ".hydra" / name)
        best = json.loads((run / "best.json").read_text())["file"]
        (kept / "checkpoints").mkdir()
        shutil.copy(run / "checkpoints" / best, kept / "checkpoints" / best)
        shutil.copytree(bundle, target / "bundle")
    _say(target)


def _without_packages(text: str) -> str:
    """The list of packages is long, and says nothing about formats."""
    lock = json.loads(text)
    lock["packages"] = {"torch": lock["packages"]["torch"]}
    return json.dumps(lock, indent=1) + "\n"


def _say(target: Path) -> None:
    """What the bundle's float plan says of one frame."""
    sys.path.insert(0, str(ROOT))
    from avexp.runtime.loading import load

    frame = (np.indices((96, 160, 3)).sum(0) % 256).astype(np.uint8)[None]
    outputs = load(str(target / "bundle"), plan="cpu-onnxruntime-fp32").infer(frame)
    np.savez_compressed(target / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(sys.argv[1])
