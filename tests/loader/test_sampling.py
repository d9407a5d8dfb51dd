import numpy as np
import pytest

from avexp.catalog.blend import blend
from avexp.catalog.split import BySession, ByTime
from avexp.core.errors import ConfigError, DataError
from avexp.ingest.prepare import DataSource
from avexp.ingest.tusimple import TuSimpleReader
from avexp.ingest.world import WorldReader
from avexp.loader.loader import Loader
from avexp.loader.order import Blend, BlockShuffle, Shuffle
from avexp.loader.sampling import make_order, shard_blocks
from avexp.records.dataset import Dataset


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Twelve short drives, each a shard, and two for validation."""
    reader = WorldReader(
        train_sessions=12, val_sessions=2, frames_per_session=3, width_px=128, height_px=72, night=0.2, rate_hz=0.5
    )
    return DataSource("world", reader, BySession("-val-"), workers=1).open(tmp_path_factory.mktemp("world"))


def test_the_plain_order_is_a_global_shuffle(world):
    assert make_order(world, world.select("train"), 4) == Shuffle(36, 4)


def test_blocks_are_the_shards_of_the_split(world):
    rows = world.select("train")
    assert [(start, stop) for _, start, stop in shard_blocks(world, rows)] == [(at, at + 3) for at in range(0, 36, 3)]
    assert [shard for shard, _, _ in shard_blocks(world, rows)] == [world.entry(int(row)).shard for row in rows[::3]]
    order = make_order(world, rows, 4, window_shards=2)
    assert isinstance(order, BlockShuffle)
    loader = Loader(world, rows, 6, training=True, seed=4, order=order)
    shards = [{world.entry(int(row)).shard for row in loader.order(0, step)} for step in range(len(loader))]
    assert all(len(one) == 2 for one in shards), "two shards at a time"
    assert len(set().union(*shards)) == 12


def test_conditions_are_balanced(world):
    rows = world.select("train")
    order = make_order(world, rows, 4, balance="light")
    assert isinstance(order, Blend)
    drawn = world.rows["light"][rows[np.concatenate([order(e, np.arange(36)) for e in range(114)])]]
    present = np.unique(world.rows["light"][rows])
    shares = [(drawn[:4096] == value).mean() for value in present]
    assert shares == pytest.approx([1 / len(present)] * len(present), abs=0.001)
    natural = make_order(world, rows, 4, balance="light", balance_power=1.0)
    drawn = world.rows["light"][rows[np.concatenate([natural(e, np.arange(36)) for e in range(114)])]][:4096]
    assert (drawn == 0).mean() == pytest.approx((world.rows["light"][rows] == 0).mean(), abs=0.01)


def test_classes_are_balanced_and_a_frame_may_be_in_several(world):
    rows = world.select("train")
    bits = world.rows["classes"][rows]
    order = make_order(world, rows, 4, balance="classes")
    assert isinstance(order, Blend)
    for share in order.shares:
        assert len(share.members)
    cars = bits & np.uint64(1) == 1
    assert any(np.array_equal(share.members, np.flatnonzero(cars)) for share in order.shares)


def test_an_unknown_balance_is_named(world):
    with pytest.raises(ConfigError, match=r"loader.balance=lihgt: no such balance; did you mean light"):
        make_order(world, world.select("train"), 4, balance="lihgt")


@pytest.fixture(scope="module")
def mixed(world, lane_folder):
    """The world and the lanes in one store, three to one."""
    DataSource("lanes", TuSimpleReader(str(lane_folder)), ByTime(0.25), workers=1).open(world.root)
    return blend(world.root, "mix", {"world@1": 3.0, "lanes@1": 1.0})


def test_a_blend_is_a_version_with_weights(world, mixed):
    lanes = Dataset.open(world.root, "lanes@1")
    assert mixed.manifest.splits == {"train": 72, "val": 6 + 12}
    assert mixed.manifest.sensors == ["front"]
    assert [source.digest for source in mixed.manifest.sources] == [world.manifest.digest, lanes.manifest.digest]
    keys = {mixed.key(row) for row in range(len(mixed.rows))}
    assert keys == {one.key(row) for one in (world, lanes) for row in range(len(one.rows))}
    row = next(int(row) for row in mixed.select("train") if mixed.key(int(row)).startswith("rural"))
    same = next(other for other in range(len(lanes.rows)) if lanes.key(other) == mixed.key(row))
    assert mixed.read(row, "labels") == lanes.read(same, "labels")
    order = make_order(mixed, mixed.select("train"), 1)
    rows = mixed.select("train")[np.concatenate([order(epoch, np.arange(72)) for epoch in range(57)])][:4096]
    assert (mixed.rows["session"][rows] < 14).mean() == pytest.approx(0.75, abs=0.001)
    assert blend(world.root, "mix", {"world@1": 3.0, "lanes@1": 1.0}).manifest.version == 1, "made once"


def test_a_blend_feeds_batches_with_the_rows_it_names(mixed):
    mixed_rows = mixed.select("val")[-12:]
    batch = next(iter(Loader(mixed, mixed_rows, 12, training=False)))
    assert batch.keys == [mixed.key(int(row)) for row in mixed_rows]


def test_parts_that_share_a_session_are_refused(world):
    with pytest.raises(DataError, match="is in several parts"):
        blend(world.root, "twice", {"world@1": 1.0, "world": 1.0})
