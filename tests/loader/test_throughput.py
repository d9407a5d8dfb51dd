import json

import pytest
from commands import call

from avexp.core.config import BenchConfig, Loader
from avexp.loader.throughput import measure


def test_the_stages_the_limit_and_the_bottleneck(lane_dataset):
    config = BenchConfig(name="x", dataset="lanes@1", seconds=0.6, width_px=32, loader=Loader(batch_size=4))
    found = measure(lane_dataset, config)
    assert set(found.stages_us) == {"read", "decode", "labels", "batching"}
    assert found.share_of_decoder == pytest.approx(found.image_per_s / found.decode_per_s)
    assert 0 < found.share_of_decoder < 1.3
    assert found.bottleneck.split(":")[0] in {*found.stages_us, "storage"}
    assert found.cache_hit_share is None


def test_as_a_user_types_it(lane_dataset, tmp_path):
    words = [f"storage.root={lane_dataset.root}", "seconds=0.5", "loader.batch_size=4"]
    out = call(tmp_path, "bench", "what=loader", "data=lanes@1", *words)
    assert "bottleneck  " in out
    assert "bare decoder" in out
    assert "next        " in out
    run = next((tmp_path / "outputs/bench/bench").iterdir())
    assert json.loads((run / "kpis.json").read_text())["image_per_s"] > 0
    assert "what=lodaer" in call(tmp_path, "bench", "what=lodaer", "data=lanes@1", *words, code=2)
    assert "no such version" in call(tmp_path, "bench", "data=lanes@7", *words, code=3)
