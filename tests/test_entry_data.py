"""Where frames come from, as a user types it: renditions, streams, blends, processes, verify."""

import json
from pathlib import Path

import pytest
from commands import TINY, call

from avexp.records.dataset import Dataset

BARE = ["model/heads=[lanes]", *(word for word in TINY if not word.startswith(("data.", "+experiment")))]
"""The same without the experiment, whose data is another."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def small(home, lane_folder):
    """A run on a rendition of half the width."""
    out = call(home, "train.py", *TINY, f"data.source={lane_folder}", "data.rendition_px=32", "name=small")
    return Path(next(line.split()[1] for line in out.splitlines() if line.startswith("run "))), out


def test_a_rendition_is_trained_on_exported_and_predicted_with(home, small, lane_folder):
    run, out = small
    dataset = Dataset.open(home / "outputs/store", "lanes_real")
    assert dataset.manifest.rendition.width_px == 32
    assert json.loads((run / "lock.json").read_text())["inputs"][0]["digest"] == dataset.manifest.digest
    assert "day" in out.split("by condition")[1], "day and night apart, by their session's conditions"
    assert "night" in out.split("by condition")[1]
    words = [
        "backends=[onnxruntime]",
        "precisions=[fp32]",
        "benchmark_runs=2",
        "resamples=20",
        "pictures=1",
        "store=none",
    ]
    out = call(home, "export.py", "run=small/latest", *words)
    assert "for 32x24 frames" in out
    assert "cpu-onnxruntime-fp32: passed" in out
    bundle = Path(next(line.split()[1] for line in out.splitlines() if line.startswith("bundle ")))
    taken = json.loads((bundle / "manifest.json").read_text())["input"]
    assert (taken["shape"], taken["camera_size"]) == (["batch", 24, 32, 3], [64, 48])
    assert "baseline JPEG of quality 90" in taken["preprocessing"]
    call(home, "predict", f"bundle={bundle}", f"input={lane_folder / 'highway_day' / 'frames'}", "warmup=1")


def test_a_stream_trains_and_says_what_it_does_not_promise(home, small):
    dataset = Dataset.open(home / "outputs/store", "lanes_real")
    session = dataset.manifest.sessions[0]
    urls = f"data.urls=[{home}/outputs/store/sessions/{session}/000000.tar]"
    words = [*BARE, "data=stream", "data.name=lanes_real@1", urls]
    out = call(home, "train.py", *words, "data.frames_per_epoch=24", "name=streamed", "trainer.epochs=1")
    assert "no exact resume" in out
    assert "4 steps of 6" in out


def test_a_blend_trains(home, small, tmp_path):
    out = call(
        home, "train.py", *BARE, "data=blend", "data.name=mix", "data.parts={lanes_real@1:1.0}", "name=mixed",
        "trainer.epochs=1", "loader.balance=light", "loader.processes=1",
    )  # fmt: skip
    assert "train mix@1: 32 frames" in out


def test_verify_says_ok_or_names_every_fault(home, small):
    assert "0 faults" in call(home, "dataset", "verify", "lanes_real")
    dataset = Dataset.open(home / "outputs/store", "lanes_real")
    entry = dataset.entry(0)
    shard = home / "outputs/store" / dataset.manifest.shards[entry.shard].path
    content = bytearray(shard.read_bytes())
    content[entry.image_offset + 30] ^= 0xFF
    shard.write_bytes(bytes(content))
    out = call(home, "dataset", "verify", "lanes_real", code=3)
    assert "its digest is not the dataset's" in out
    assert f"{dataset.key_of(entry)}@{entry.image_offset}: checksum differs" in out
    assert len(json.loads(call(home, "dataset", "verify", "lanes_real", "--json", code=3))) == 2
