"""The gate on a network that has learned something: an honest int8 plan passes, one whose calibration is wrong is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAIN = [
    *("+experiment=lanes_real", "data.annotators=[a]", "store=none", "augmentation=[flip,color]", "optimizer.lr=1e-2"),
    *("model.height_px=96", "model.width_px=128", "model.backbone.stem_width=8", "model.backbone.widths=[16,32,32,32]"),
    *("loader.batch_size=6", "trainer.epochs=80", "trainer.validate_every_epochs=80", "trainer.pictures=1"),
]
EXPORT = [
    *("run=latest", "store=none", "backends=[onnxruntime]", "calibration_frames=16", "resamples=50", "pictures=1"),
    *("benchmark_runs=3", "loss_max=0.15"),
]
CLIPPED = """
from onnx import numpy_helper
from avexp.export import plans
from avexp.export.onnx_form import load, save
honest = plans.quantise
def clipped(source, target, *others):
    found = honest(source, target, *others)
    model = load(target)
    weights = {item.name: item for item in model.graph.initializer}
    scales = {node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in weights}
    for name in scales:
        weights[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[name]) / 20, name))
    save(model, target)
    return found
plans.quantise = clipped
from avexp.cli import main
main()
"""
"""export, where calibration found ranges that are a twentieth of the true ones."""


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


def test_a_plan_of_wrong_calibration_is_refused(home):
    out = call(home, ["-c", CLIPPED, "export", *EXPORT])
    assert "gate        cpu-onnxruntime-int8: REFUSED" in out, out
    assert "more than the 15 % allowed" in out
    assert not plan_of(home)["gate"]["passed"]
