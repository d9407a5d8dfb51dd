"""The gate on a network that has learned something: an honest int8 plan passes, one calibrated on black frames is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = [
    *("+experiment=lanes_real", "data.annotators=[a]", "store=none", "augmentation=[flip,color]", "optimizer.lr=1e-2"),
    *("model.height_px=64", "model.width_px=64", "model.backbone.stem_width=8", "model.backbone.widths=[16,32,32,32]"),
    *("loader.batch_size=6", "trainer.epochs=100", "trainer.validate_every_epochs=100", "trainer.pictures=1"),
]
EXPORT = [
    *("run=latest", "store=none", "backends=[onnxruntime]", "calibration_frames=16", "resamples=50", "pictures=1"),
    *("benchmark_runs=3", "loss_max=0.05"),
]
BLACK = """
import numpy as np
from avexp.export import pipeline
honest = pipeline.calibration_frames
pipeline.calibration_frames = lambda *given: np.zeros_like(honest(*given))
from avexp.cli import main
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, lane_folder):
    folder = tmp_path_factory.mktemp("gate")
    call(folder, [str(ROOT / "train.py"), *TRAIN, f"data.source={lane_folder}"])
    return folder


def call(folder, words):
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plan_of(folder):
    manifest = json.loads(max((folder / "outputs/export").glob("*/*/bundle/manifest.json")).read_text())
    return next(plan for plan in manifest["plans"] if plan["id"] == "cpu-onnxruntime-int8")


def test_an_honest_plan_passes(home):
    out = call(home, [str(ROOT / "export.py"), *EXPORT])
    plan = plan_of(home)
    assert plan["gate"]["passed"], out


def test_a_plan_calibrated_on_black_frames_is_refused(home):
    out = call(home, ["-c", BLACK, "export", *EXPORT])
    assert "gate        cpu-onnxruntime-int8: REFUSED" in out, out
    assert "more than the 5 % allowed" in out
    assert not plan_of(home)["gate"]["passed"]
