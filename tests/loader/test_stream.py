import itertools

import pytest
import torch

from avexp.core.errors import DataError
from avexp.loader.loader import Loader
from avexp.loader.quarantine import Quarantine
from avexp.loader.stream import StreamLoader

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves tars open


@pytest.fixture
def urls(lane_dataset):
    """Both sessions' shards through a pipe."""
    return [f"pipe:cat {lane_dataset.root / shard.path}" for shard in lane_dataset.manifest.shards]


def stream(lane_dataset, urls, **options):
    chosen = {"frames_per_epoch": 40, "batch_size": 4, "seed": 1, "threads": 2, **options}
    size = chosen.pop("batch_size"), chosen.pop("frames_per_epoch")
    return StreamLoader(urls, size[1], size[0], classes=lane_dataset.manifest.object_classes, **chosen)


def test_the_same_batches_as_the_indexed_loader(lane_dataset, urls):
    rows = lane_dataset.select()
    indexed = {}
    for batch in Loader(lane_dataset, rows, 4, training=False):
        for place, key in enumerate(batch.keys):
            indexed[key] = batch.images[place], batch.lanes[place], batch.key_hashes[place]
    batches = list(stream(lane_dataset, urls))
    assert len(batches) == 10
    for batch in batches:
        for place, key in enumerate(batch.keys):
            images, lanes, key_hash = indexed[key]
            assert torch.equal(batch.images[place], images)
            assert torch.equal(torch.nan_to_num(batch.lanes[place]), torch.nan_to_num(lanes))
            assert batch.key_hashes[place] == key_hash


def test_an_epoch_may_be_longer_than_a_pass_and_epochs_differ(lane_dataset, urls):
    loader = stream(lane_dataset, urls, frames_per_epoch=100)
    first = [key for batch in loader for key in batch.keys]
    assert len(first) == 100
    assert len(set(first)) == 48, "48 frames, twice and a bit"
    loader.sampler.set_epoch(1)
    assert [key for batch in loader for key in batch.keys] != first


def test_ranks_read_their_own_shards_and_make_the_same_steps(lane_dataset, urls):
    parts = [list(stream(lane_dataset, urls, rank=rank, ranks=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [5, 5]
    keys = [{key for batch in part for key in batch.keys} for part in parts]
    assert not keys[0] & keys[1]


def test_it_says_that_it_cannot_go_on_within_an_epoch(lane_dataset, urls):
    loader = stream(lane_dataset, urls)
    list(itertools.islice(loader, 3))
    state = loader.state_dict()
    with pytest.raises(DataError, match=r"a stream cannot go on within an epoch \(after 12 frames\)"):
        stream(lane_dataset, urls).load_state_dict(state)
    list(loader)
    stream(lane_dataset, urls).load_state_dict(loader.state_dict())


def test_a_broken_shard_is_noted_and_the_rest_goes_on(lane_dataset, urls, tmp_path):
    broken = tmp_path / "broken.tar"
    broken.write_bytes((lane_dataset.root / lane_dataset.manifest.shards[0].path).read_bytes()[:20_000] + b"x" * 5000)
    quarantine = Quarantine(most_share=1.0)
    batches = list(stream(lane_dataset, [str(broken), urls[1]], quarantine=quarantine))
    assert len(batches) == 10
    assert quarantine.bad


def test_nothing_to_read_is_one_line(lane_dataset, tmp_path):
    empty = tmp_path / "empty.tar"
    empty.write_bytes(b"\0" * 10240)
    with pytest.raises(DataError, match=r"the stream gives no frame; check data.urls"):
        next(iter(stream(lane_dataset, [str(empty)])))


def test_a_pipe_that_hangs_ends_in_time(lane_dataset):
    with pytest.raises(DataError, match=r"no batch within 0.3 s"):
        next(iter(stream(lane_dataset, ["pipe:sleep 3"], timeout_s=0.3)))
