"""Every example of CONTRIBUTING.md, typed as it stands: inside of avexp, and in a package of one's own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = dict(
    re.findall(r"^`([\w/.]+)`:\n\n```\w+\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S),
)


def inside(folder):
    """A copy of the house with the new files in their rooms; more words, more environment."""
    for part in ("avexp", "conf", "train.py", "export.py"):
        source, copy = ROOT / part, folder / part
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__")) if source.is_dir() else shutil.copy(
            source, copy
        )
    for name, text in FILES.items():
        assert not (folder / name).exists(), "the example must not overwrite anything"
        (folder / name).write_text(text)
    return folder, [], {"PYTHONPATH": str(folder)}


def outside(folder):
    """The same files in a package ``team``, found by --config-dir and _target_."""
    for name, text in FILES.items():
        path = folder / (f"team/{Path(name).name}" if name.endswith(".py") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"avexp\.(models|augmentation|ingest)\.(?=scene|stretch|listing)", "team.", text))
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "AVEXP_ALLOW": "team"}
    return ROOT, ["--config-dir", str(folder / "conf")], environment


@pytest.fixture(scope="module", params=[inside, outside], ids=lambda way: way.__name__)
def house(request, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    where, words, environment = request.param(tmp_path_factory.mktemp("house"))

    def call(*command):
        program = [sys.executable, str(where / command[0])] if command[0].endswith(".py") else [
            sys.executable, "-m", "avexp.cli", command[0]
        ]  # fmt: skip
        line = [*program, *command[1:], *(words if command[0] != "export.py" else [])]
        line += [f"storage.root={work}/store", f"storage.outputs={work}"]
        done = subprocess.run(
            line, cwd=work, env=os.environ | environment, capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


def test_there_is_one_of_each():
    assert [Path(name).stem for name in FILES] == [
        "scene",
        "scene",
        "stretch",
        "stretch",
        "listing",
        "listing",
        "rtx4090",
    ]


def test_a_head_and_an_augmentation_train_and_export(house, lane_folder):
    tiny = ["model.height_px=64", "model.width_px=64", "model.backbone.widths=[8,8,8,8]", "loader.batch_size=4"]
    source = [f"data.source={lane_folder}", "data.annotators=[a]", "store=none", "trainer.steps_max=2"]
    house(
        "train.py", "+experiment=lanes_real", "model/heads=[lanes,scene]", "augmentation=[flip,stretch]", *tiny, *source
    )
    few = ["calibration_frames=4", "resamples=20", "benchmark_runs=2", "pictures=1", "backends=[onnxruntime]"]
    out = house("export.py", "run=latest", "store=none", "loss_max=1.0", *few)
    assert "cpu-onnxruntime-int8" in out


def test_a_reader_writes_sessions(house, lane_folder, tmp_path):
    frames = sorted((lane_folder / "highway_day" / "frames").glob("*.jpg"))[:3]
    lines = [f"{number * 100_000_000} {path}" for number, path in enumerate(frames)]
    (tmp_path / "drive.txt").write_text("\n".join([*lines, f"900000000 {tmp_path}/gone.jpg"]))
    out = house("ingest", "reader=listing", f"source={tmp_path}/drive.txt")
    assert "3 frames" in out
    assert "gone.jpg" in out


def test_a_profile_is_chosen_and_typed(house):
    out = house("train.py", "+experiment=quickstart", "hardware=rtx4090", "--dry-run")
    assert "GeForce RTX 4090" in out
    profile = yaml.safe_load(FILES["conf/hardware/rtx4090.yaml"])
    assert profile["sources"]
