"""Every fault that storage has: named, left out, replaced, bounded; found ahead of a run by verify."""

import os
import shutil
import threading
import time

import pytest

from avexp.core.errors import DataError
from avexp.loader.loader import Loader
from avexp.loader.quarantine import Quarantine
from avexp.loader.verify import verify
from avexp.records.dataset import Dataset
from avexp.records.shard import index_path


def cut(path, at, length):
    """The last half is missing."""
    os.truncate(path, path.stat().st_size // 2)


def garbage(path, at, length):
    """Four KiB of other bytes."""
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(os.urandom(4096))


def bit(path, at, length):
    """One flipped bit in an image."""
    with path.open("r+b") as stream:
        stream.seek(at + length // 2)
        byte = stream.read(1)[0]
        stream.seek(at + length // 2)
        stream.write(bytes([byte ^ 1]))


def missing(path, at, length):
    """The shard is gone."""
    path.unlink()


FAULTS = {
    cut: ("bytes, the dataset says", "bytes, the dataset says"),
    garbage: ("checksum differs", "its digest is not the dataset's"),
    bit: ("checksum differs", "its digest is not the dataset's"),
    missing: ("cannot be opened", "no such file"),
}


@pytest.fixture
def copy(lane_dataset, tmp_path):
    shutil.copytree(lane_dataset.root, tmp_path / "store")
    return Dataset.open(tmp_path / "store", "lanes@1")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("processes", [0, 1])
def test_the_rest_goes_on_in_its_order(lane_dataset, copy, fault, processes):
    rows = copy.select("train")
    victim = copy.entry(int(rows[3]))
    fault(copy.root / copy.manifest.shards[victim.shard].path, victim.image_offset, victim.image_length)
    undisturbed = [batch.keys for batch in Loader(lane_dataset, rows, 4, training=True, seed=3)]
    quarantine = Quarantine(most_share=1.0)
    loader = Loader(copy, rows, 4, training=True, seed=3, quarantine=quarantine, processes=processes)
    try:
        found = [batch.keys for batch in loader]
    finally:
        loader.close()
    assert len(found) == len(undisturbed)
    pairs = [pair for a, b in zip(undisturbed, found, strict=True) for pair in zip(a, b, strict=True)]
    changed = {old for old, new in pairs if old != new}
    assert changed, "some frame was bad"
    assert changed <= set(quarantine.bad), "only bad frames are replaced"
    assert all(new and new not in quarantine.bad for _, new in pairs)
    shard = copy.manifest.shards[victim.shard].path
    assert {(bad.shard, FAULTS[fault][0] in bad.reason) for bad in quarantine.bad.values()} == {(shard, True)}
    assert len({bad.offset for bad in quarantine.bad.values()}) == len(quarantine.bad)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_verify_finds_it_ahead_of_a_run(copy, fault):
    assert verify(copy, copy.root) == []
    rows = copy.select("train")
    victim = copy.entry(int(rows[3]))
    path = copy.root / copy.manifest.shards[victim.shard].path
    fault(path, victim.image_offset, victim.image_length)
    found = verify(Dataset.open(copy.root, "lanes@1"), copy.root)
    whole = [one for one in found if not one.key]
    assert [(one.shard, FAULTS[fault][1] in one.reason) for one in whole] == [
        (path.relative_to(copy.root).as_posix(), True)
    ]
    assert copy.key_of(victim) in {one.key for one in found}


def test_verify_finds_a_stale_index_and_a_changed_row(copy):
    shards = [copy.root / shard.path for shard in copy.manifest.shards]
    shutil.copy(index_path(shards[0]), index_path(shards[1]))
    index = copy.root / "datasets/lanes/1/index.bin"
    content = bytearray(index.read_bytes())
    content[0] ^= 1
    index.write_bytes(bytes(content))
    reasons = [one.reason for one in verify(Dataset.open(copy.root, "lanes@1"), copy.root) if not one.key]
    assert any("not the index that the manifest names" in reason for reason in reasons)
    assert any("stale" in reason or "its index says" in reason for reason in reasons)


def test_storage_that_hangs_is_an_error_in_time(copy):
    """Opening never returns, as on a network file system that is gone."""
    forever = threading.Event()

    class Gone:
        """A source of shards."""

        def open_shard(self, shard):
            forever.wait(20)
            return os.open(os.devnull, os.O_RDONLY)

        def mend(self, shard):
            """Nothing to mend."""

        def ahead(self, shards):
            """Nothing to fetch."""

    hanging = Dataset(copy.root, copy.manifest, copy.rows, Gone())
    rows = copy.select("train")
    loader = Loader(hanging, rows, 4, training=True, timeout_s=0.5)
    loader._started = (Loader(copy, rows, 4, training=True).start()[0], *loader_parts(hanging, copy, rows))
    began = time.monotonic()
    try:
        with pytest.raises(DataError, match=r"no batch within 0.5 s.*loader.timeout_s"):
            next(iter(loader))
        assert time.monotonic() - began < 5
    finally:
        forever.set()


def loader_parts(hanging, copy, rows):
    """Workers on the hanging dataset, whose image size was learned before it hung."""
    from avexp.loader.sample import SampleReader
    from avexp.loader.slots import Slots
    from avexp.loader.workers import ThreadWorkers

    reader = SampleReader(copy, None, rows)
    reader.dataset = hanging
    return ThreadWorkers(reader, 2), Slots((4, reader.size[1], reader.size[0], 3))


def test_a_worker_process_that_dies_is_one_line(lane_dataset):
    rows = lane_dataset.select("train")
    loader = Loader(lane_dataset, rows, 4, training=True, processes=1)
    batches = iter(loader)
    next(batches)
    pool = loader.start()[1]._pool
    for pid in list(pool._processes):
        os.kill(pid, 9)
    with pytest.raises(DataError, match=r"a decoding process died; see the kernel log"):
        for _ in range(20):
            next(batches)
    loader.close()
