"""What was made by older versions loads for ever: tests/data/<version>, made by tests/data/make.py with their code."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import call

from avexp.core.resume import resumed_config
from avexp.core.run_folder import RunFolder
from avexp.loader.loader import Loader
from avexp.loader.verify import verify
from avexp.records.dataset import Dataset
from avexp.runtime.loading import load

DATA = Path(__file__).resolve().parent / "data"
VERSIONS = sorted(path.name for path in DATA.glob("v*"))


@pytest.fixture(scope="module", params=VERSIONS)
def old(request, tmp_path_factory):
    """A copy, laid out as the outputs of a user."""
    home = tmp_path_factory.mktemp(request.param)
    shutil.copytree(DATA / request.param / "store", home / "outputs/store")
    shutil.copytree(DATA / request.param / "train", home / "outputs/train")
    shutil.copytree(DATA / request.param / "bundle", home / "bundle")
    return home


def test_there_is_one_of_each_format():
    formats = [json.loads((DATA / v / "store/datasets/old/1/manifest.json").read_text())["format"] for v in VERSIONS]
    assert formats == [1, 2]


def test_the_dataset_gives_batches(old):
    dataset = Dataset.open(old / "outputs/store", "old")
    assert dataset.manifest.splits == {"train": 6, "val": 6}
    assert verify(dataset, dataset.root) == []
    for split in ("train", "val"):
        batches = list(Loader(dataset, dataset.select(split), 2, training=split == "train"))
        assert len(batches) == 3
        assert all(batch.labelled.all() for batch in batches), "ego, labels and images of each row are found"
        assert all(np.isfinite(batch.speed.numpy()).all() for batch in batches)


def test_the_checkpoint_is_evaluated_to_what_it_was(old):
    run = RunFolder(next((old / "outputs/train/old").iterdir()))
    out = call(old, "evaluate", f"of={run.best}", "pictures=0", "store=none")
    kpis = json.loads(Path(next(line.split()[1] for line in out.splitlines() if line.startswith("kpis "))).read_text())
    then = json.loads(run.kpis.read_text())["checkpoint"]
    now = kpis.get("checkpoint") or next(value for key, value in kpis.items() if key != "constant")
    assert now["drivable/iou"] == pytest.approx(then["drivable/iou"], abs=0.01)
    assert now["path/error_2s_m"] == pytest.approx(then["path/error_2s_m"], rel=0.01)


def test_the_run_is_gone_on_with_and_replayed(old):
    run = RunFolder(next((old / "outputs/train/old").iterdir()))
    assert resumed_config(run)["name"] == "old"
    assert str(run.id) in call(old, "train.py", f"resume={run.path}", "--dry-run")
    call(old, "train.py", f"+replay={run.path}", "seed=7", "--dry-run")
    out = call(old, "train.py", f"resume={run.path}")
    assert "100" in out or "trained" in out


def test_the_bundle_says_what_it_said(old):
    frame = (np.indices((96, 160, 3)).sum(0) % 256).astype(np.uint8)[None]
    found = load(str(old / "bundle"), plan="cpu-onnxruntime-fp32").infer(frame)
    name = VERSIONS[0] if "v1" in old.name else VERSIONS[1]
    said = np.load(DATA / name / "outputs.npz")
    assert sorted(found) == sorted(said.files)
    for key in said.files:
        np.testing.assert_allclose(found[key].astype(float), said[key].astype(float), rtol=1e-3, atol=1e-2)
