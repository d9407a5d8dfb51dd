import json
import shutil

import pytest

from avexp.core.errors import DataError
from avexp.loader.cache import ShardCache
from avexp.loader.remote import RemoteStore
from avexp.loader.replicate import fetch_version, open_version, push_version
from avexp.loader.tiers import Tiers


@pytest.fixture
def far(tmp_path):
    return RemoteStore(f"file://{tmp_path}/far")


def objects(tmp_path):
    return {str(path.relative_to(tmp_path / "far")): path for path in (tmp_path / "far").rglob("*") if path.is_file()}


def test_a_version_goes_there_and_is_trained_on_from_there(lane_dataset, far, tmp_path):
    told = []
    facts = push_version(lane_dataset.root, "lanes", far, lambda done, total: told.append((done, total)))
    there = objects(tmp_path)
    manifest = lane_dataset.manifest
    assert set(there) == {
        "datasets/lanes/1/manifest.json",
        "datasets/lanes/1/index.bin",
        *(shard.path for shard in manifest.shards),
        *(f"{shard.path}.idx" for shard in manifest.shards),
        *(f"sessions/{session}/session.json" for session in manifest.sessions),
    }
    assert facts["written"] == len(there)
    assert told[-1][0] == told[-1][1] == facts["written_bytes"] == sum(p.stat().st_size for p in there.values())
    tiers = Tiers(tmp_path / "new", far, ShardCache(tmp_path / "cache", 10**9))
    for reference in ("lanes@1", "lanes", "lanes@latest"):
        dataset = open_version(tmp_path / "new", reference, tiers)
        assert dataset.manifest == manifest
        assert dataset.read(3, "image") == lane_dataset.read(3, "image")
        assert dataset.session(3) == lane_dataset.session(3)
    assert not list((tmp_path / "new").rglob("*.tar")), "shards stay in the store and the cache"
    assert not list((tmp_path / "new/datasets/lanes").glob(".*"))


def test_a_push_that_was_stopped_goes_on_and_the_manifest_is_last(lane_dataset, far, tmp_path):
    def stop(done, total):
        if done > total // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push_version(lane_dataset.root, "lanes@1", far, stop)
    before = objects(tmp_path)
    assert "datasets/lanes/1/manifest.json" not in before
    with pytest.raises(DataError, match="not found|no such version"):
        open_version(tmp_path / "new", "lanes", Tiers(tmp_path / "new", far, ShardCache(tmp_path / "cache", 10**9)))
    facts = push_version(lane_dataset.root, "lanes@1", far)
    assert facts["there"] == len(before)
    assert facts["written"] == len(objects(tmp_path)) - len(before)
    assert push_version(lane_dataset.root, "lanes@1", far)["written"] == 0


def test_nothing_is_overwritten(lane_dataset, far, tmp_path):
    push_version(lane_dataset.root, "lanes@1", far)
    path = tmp_path / "far" / lane_dataset.manifest.shards[0].path
    damaged = b"x" + path.read_bytes()[1:]
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="an object of that name holds other bytes; push to another URL"):
        push_version(lane_dataset.root, "lanes@1", far)
    assert path.read_bytes() == damaged


def test_a_damaged_shard_is_not_pushed(lane_dataset, far, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(lane_dataset.root, root)
    path = root / lane_dataset.manifest.shards[0].path
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(DataError, match="is not what the dataset's manifest says"):
        push_version(root, "lanes@1", far)


def pushed(lane_dataset, far, tmp_path, change):
    """A pushed version whose manifest was changed in the store."""
    push_version(lane_dataset.root, "lanes@1", far)
    path = tmp_path / "far/datasets/lanes/1/manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.update(version=2), "is the manifest of lanes@2"),
        (lambda m: m.update(rows=7), "is not what its own digest says"),
        (lambda m: m.update(format=9), "format: Input should be 1"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(lane_dataset, far, tmp_path, change, text):
    pushed(lane_dataset, far, tmp_path, change)
    with pytest.raises(DataError, match=text):
        fetch_version(tmp_path / "new", "lanes@1", far)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "sessions/../../etc/passwd", "x.tar"])
def test_a_manifest_reaches_nothing_outside(lane_dataset, far, tmp_path, path):
    from avexp.core.files import digest_json
    from avexp.loader.replicate import OUTSIDE_DIGEST

    def change(manifest):
        manifest["shards"][0]["path"] = path
        manifest["digest"] = digest_json({k: v for k, v in manifest.items() if k not in OUTSIDE_DIGEST})

    pushed(lane_dataset, far, tmp_path, change)
    with pytest.raises(DataError, match="is not below sessions/"):
        fetch_version(tmp_path / "new", "lanes@1", far)


def test_an_index_that_was_changed_is_refused(lane_dataset, far, tmp_path):
    push_version(lane_dataset.root, "lanes@1", far)
    path = tmp_path / "far/datasets/lanes/1/index.bin"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="index.bin: is not what the manifest says"):
        fetch_version(tmp_path / "new", "lanes@1", far)


def test_a_session_that_differs_here_is_not_overwritten(lane_dataset, far, tmp_path):
    push_version(lane_dataset.root, "lanes@1", far)
    mine = tmp_path / "new/sessions" / lane_dataset.manifest.sessions[0] / "session.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("{}")
    with pytest.raises(DataError, match="differs from file://.* use another storage.root"):
        fetch_version(tmp_path / "new", "lanes@1", far)
    assert mine.read_text() == "{}"


def test_what_is_nowhere_is_one_line(far, tmp_path):
    with pytest.raises(DataError, match="no such object"):
        fetch_version(tmp_path, "lanes@1", far)
    with pytest.raises(DataError, match="not found under"):
        open_version(tmp_path, "lanes", Tiers(tmp_path, far, ShardCache(tmp_path / "cache", 10**9)))
