import hashlib
import os
import pickle
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from object_server import object_server

from avexp.core.errors import DataError
from avexp.loader.cache import ShardCache
from avexp.loader.remote import Bounds, RemoteStore
from avexp.loader.tiers import Tiers, open_tiers
from avexp.records.dataset import DatasetShard

QUICK = Bounds(attempts=2, backoff_s=0.01, connect_s=0.5, stall_s=0.5, least_mib_s=2.0, range_mib=1)
SIZE = 100_000


def content(number):
    return np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8).tobytes()


def shard(number):
    path = f"sessions/s{number}/00000.tar"
    return DatasetShard(path=path, bytes=SIZE, sha256=hashlib.sha256(content(number)).hexdigest(), frames=1)


SHARDS = [shard(number) for number in range(8)]


@pytest.fixture
def server(monkeypatch):
    with object_server() as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        server.objects = {f"some/prefix/{one.path}": content(number) for number, one in enumerate(SHARDS)}
        yield server


def tiers_of(server, tmp_path, room):
    cache = ShardCache(tmp_path / "cache", room * SIZE + 50)
    return Tiers(tmp_path / "root", RemoteStore(server.url, QUICK), cache)


def read(tiers, number):
    handle = tiers.open_shard(SHARDS[number])
    try:
        return os.pread(handle, SIZE + 1, 0)
    finally:
        os.close(handle)


def cached(tiers):
    return [number for number, one in enumerate(SHARDS) if tiers.cache.has(one.sha256)]


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def test_the_root_first_then_the_cache_then_the_store(server, tmp_path):
    tiers = tiers_of(server, tmp_path, 4)
    local = tmp_path / "root" / SHARDS[0].path
    local.parent.mkdir(parents=True)
    local.write_bytes(content(0))
    assert read(tiers, 0) == content(0)
    assert server.asked == []
    assert read(tiers, 1) == read(tiers, 1) == content(1)
    assert len(server.asked) == 1
    assert (tiers.stats().hits, tiers.stats().misses) == (1, 1)
    local.write_bytes(b"torn")
    assert read(tiers, 0) == content(0), "a local file of the wrong size is passed over"


def test_shards_come_ahead_of_use_in_their_order(server, tmp_path):
    tiers = tiers_of(server, tmp_path, 8)
    tiers.fetchers = 1
    tiers.ahead([SHARDS[number] for number in (5, 3, 1)])
    until(lambda: cached(tiers) == [1, 3, 5])
    assert [path for _, path in server.asked] == [f"some/prefix/{SHARDS[number].path}" for number in (5, 3, 1)]
    for number in (5, 3, 1):
        assert read(tiers, number) == content(number)
    assert (tiers.stats().hits, tiers.stats().misses, tiers.stats().fetched) == (3, 0, 3)
    tiers.close()


def test_what_is_fetched_ahead_fits_and_pushes_out_the_past_only(server, tmp_path):
    tiers = tiers_of(server, tmp_path, 3)
    for start in range(6):
        tiers.ahead(SHARDS[start:])
        until(lambda start=start: cached(tiers) == [n for n in range(start, start + 3) if n < 8])
        assert read(tiers, start) == content(start)
    assert tiers.stats().misses == 0
    assert tiers.stats().fetched == 8, "each once"
    tiers.close()


def test_a_hint_never_waits_and_never_raises(server, tmp_path):
    server.faults = lambda method, path, count: "stall"
    tiers = tiers_of(server, tmp_path, 4)
    began = time.monotonic()
    for start in range(4):
        tiers.ahead(SHARDS[start:])
    assert time.monotonic() - began < 0.4
    with pytest.raises(DataError, match="no answer in time"):
        read(tiers, 3)
    tiers.close()


def test_a_store_that_failed_is_not_asked_for_each_frame(server, tmp_path):
    server.faults = lambda method, path, count: 503
    tiers = tiers_of(server, tmp_path, 4)
    with pytest.raises(DataError, match="503"):
        read(tiers, 0)
    asked = len(server.asked)
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(DataError, match="503"):
            read(tiers, 0)
    assert len(server.asked) == asked
    assert time.monotonic() - began < 0.5


def test_no_store_is_no_tiers(tmp_path):
    assert open_tiers(tmp_path, None) is None
    tiers = open_tiers(tmp_path, f"file://{tmp_path}/far", cache_gib=0.0)
    assert tiers.cache.limit_bytes == 10 * 2**30
    assert tiers.cache.folder == tmp_path / "cache"
    assert open_tiers(tmp_path, f"file://{tmp_path}/far", str(tmp_path / "other"), 0.5).cache.limit_bytes == 2**29


def test_they_can_be_sent_to_another_process(server, tmp_path):
    tiers = tiers_of(server, tmp_path, 4)
    tiers.ahead(SHARDS[:1])
    until(lambda: cached(tiers) == [0])
    other = pickle.loads(pickle.dumps(tiers))
    assert read(other, 0) == content(0)
    assert other.stats().hits == 1
    tiers.close()


def test_a_dataset_reads_through_them_and_mends_what_was_damaged(lane_dataset, tmp_path):
    root = lane_dataset.root
    far = tmp_path / "far"
    shutil.copytree(root / "sessions", far / "sessions")
    cache = ShardCache(tmp_path / "cache", 10**9)
    tiers = Tiers(tmp_path / "empty", RemoteStore(f"file://{far}"), cache)
    dataset = replace(lane_dataset, source=tiers)
    rows = range(len(lane_dataset.rows))
    whole = [lane_dataset.read(row, "image") for row in rows]
    dataset.ahead([1, 0, 1])
    assert [dataset.read(row, "image") for row in rows] == whole
    sha256 = lane_dataset.manifest.shards[0].sha256
    entry = cache.folder / "entries" / sha256[:2] / sha256
    damaged = bytearray(entry.read_bytes())
    offset = int(lane_dataset.rows[0]["image_offset"])
    damaged[offset + 20] ^= 1
    entry.write_bytes(damaged)
    again = pickle.loads(pickle.dumps(dataset))
    for other in (dataset, again):
        assert [other.read(row, "image") for row in rows] == whole
    assert cache.stats.dropped == 1
    tiers.close()


def test_a_damaged_local_shard_is_passed_over(lane_dataset, tmp_path):
    far, root = tmp_path / "far", tmp_path / "root"
    shutil.copytree(lane_dataset.root / "sessions", far / "sessions")
    shutil.copytree(lane_dataset.root / "sessions", root / "sessions")
    path = root / lane_dataset.manifest.shards[0].path
    damaged = bytearray(path.read_bytes())
    damaged[int(lane_dataset.rows[0]["image_offset"]) + 20] ^= 1
    path.write_bytes(damaged)
    cache = ShardCache(tmp_path / "cache", 10**9)
    dataset = replace(lane_dataset, root=root)
    with pytest.raises(DataError, match="checksum differs"):
        dataset.read(0, "image")
    mended = replace(dataset, source=Tiers(root, RemoteStore(f"file://{far}"), cache))
    assert mended.read(0, "image") == lane_dataset.read(0, "image")


def test_damage_in_the_store_stays_an_error_and_is_asked_once(lane_dataset, tmp_path):
    """The index says other bytes than all copies hold: no endless fetching."""
    far = tmp_path / "far"
    shutil.copytree(lane_dataset.root / "sessions", far / "sessions")
    rows = np.array(lane_dataset.rows)
    rows["image_crc"][0] ^= 1
    cache = ShardCache(tmp_path / "cache", 10**9)
    source = Tiers(tmp_path / "empty", RemoteStore(f"file://{far}"), cache)
    dataset = replace(lane_dataset, rows=rows, source=source)
    for _ in range(3):
        with pytest.raises(DataError, match="checksum differs"):
            dataset.read(0, "image")
    assert (cache.stats.fetched, cache.stats.dropped) == (1, 0)
