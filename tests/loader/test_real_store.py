"""Against a real S3-compatible server (bench/s3_server.py)."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from avexp.core.errors import DataError
from avexp.loader.cache import ShardCache
from avexp.loader.remote import RemoteStore
from avexp.loader.replicate import open_version, push_version
from avexp.loader.tiers import Tiers

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "debug=fast",
    "model/heads=[lanes]",
    "model.height_px=64",
    "model.width_px=64",
    "model.backbone.widths=[8,8,8,8]",
    "model.neck.width=8",
    "model.heads.lanes.width=8",
    "loader.batch_size=6",
    "loader.evaluation_batch_size=6",
    "trainer.pictures=0",
    "hardware.precision=fp32",
    "store=none",
]


@pytest.fixture(scope="module")
def server():
    from bench.s3_server import UnavailableError, s3_server

    try:
        with s3_server() as environment, pytest.MonkeyPatch.context() as patched:
            for key, value in environment.items():
                patched.setenv(key, value)
            yield environment
    except UnavailableError as fault:
        pytest.skip(f"no S3-compatible server here: {fault}")


def test_a_version_is_pushed_and_read_back(server, lane_dataset, tmp_path):
    remote = RemoteStore("s3://bucket/store")
    first = push_version(lane_dataset.root, "lanes@1", remote)
    second = push_version(lane_dataset.root, "lanes@1", remote)
    assert (first["there"], second["written"], second["there"]) == (0, 0, first["written"])
    tiers = Tiers(tmp_path / "root", remote, ShardCache(tmp_path / "cache", 10**9))
    dataset = open_version(tmp_path / "root", "lanes", tiers)
    dataset.ahead(range(len(dataset.manifest.shards)))
    for row in range(len(dataset.rows)):
        assert dataset.read(row, "image") == lane_dataset.read(row, "image")
    tiers.close()
    assert not remote.put_if_absent("datasets/lanes/1/manifest.json", b"other")


def test_faults_of_a_real_server_are_one_line(server, lane_dataset, tmp_path, monkeypatch):
    remote = RemoteStore("s3://bucket/store")
    push_version(lane_dataset.root, "lanes@1", remote)
    shard = lane_dataset.manifest.shards[0]
    other = replace(lane_dataset, source=Tiers(tmp_path, remote, ShardCache(tmp_path / "cache", 10**9)))
    longer = shard.model_copy(update={"bytes": shard.bytes + 512})
    with pytest.raises(DataError, match=f"has {shard.bytes} bytes, {shard.bytes + 512} were expected"):
        other.source.open_shard(longer)
    with pytest.raises(DataError, match="no such object"):
        RemoteStore("s3://nobucket/store").read("x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(DataError, match=r"refuses \(403 Forbidden, SignatureDoesNotMatch\); check credentials"):
        RemoteStore("s3://bucket/store").read("datasets/lanes/1/manifest.json")


def avexp(words, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_trains_from_the_store(server, lane_dataset, tmp_path):
    said = avexp(
        ["-m", "avexp.cli", "dataset", "push", "lanes@1", "s3://bucket/run", "--root", str(lane_dataset.root)], tmp_path
    )
    assert "lanes@1 is at s3://bucket/run: 8 objects written" in said
    words = ["data=existing", "data.name=lanes", "storage.remote=s3://bucket/run", "hardware.cache_gib=0.1", *SMALL]
    said = avexp([str(ROOT / "train.py"), *words], tmp_path)
    assert "cache outputs/store/cache: 0 hits, 2 misses (0.0 %); fetched 2 shards" in said
    facts = json.loads(avexp(["-m", "avexp.cli", "cache", "show", "--json"], tmp_path))
    assert (facts["entries"], facts["fetched"], facts["evictions"]) == (2, 2, 0)
    said = avexp([str(ROOT / "train.py"), *words], tmp_path)
    assert "2 hits, 0 misses (100.0 %); fetched 0 shards" in said
    said = avexp(["-m", "avexp.cli", "cache", "trim", "--to", "0"], tmp_path)
    assert said.endswith("0 B now\n")
