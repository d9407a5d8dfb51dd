import shutil

import numpy as np
import pytest
import torch

from avexp.core.errors import DataError
from avexp.loader.loader import Loader
from avexp.loader.quarantine import Quarantine
from avexp.loader.sample import camera_arrays
from avexp.records.dataset import Dataset
from avexp.world.camera import rig


def train_loader(dataset, **options):
    chosen = {"batch_size": 4, "training": True, "seed": 3, "threads": 2, **options}
    return Loader(dataset, dataset.select("train"), chosen.pop("batch_size"), **chosen)


def keys(loader):
    return [key for batch in loader for key in batch.keys]


def test_an_epoch_is_a_permutation_and_epochs_differ(lane_dataset):
    loader = train_loader(lane_dataset)
    first = keys(loader)
    assert len(first) == len(set(first)) == len(loader) * 4
    loader.sampler.set_epoch(1)
    assert keys(loader) != first


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_global_batch_knows_neither_ranks_nor_threads(lane_dataset, ranks, threads):
    whole = [set(batch.keys) for batch in train_loader(lane_dataset, batch_size=8)]
    parts = [
        list(train_loader(lane_dataset, batch_size=8 // ranks, rank=r, ranks=ranks, threads=threads))
        for r in range(ranks)
    ]
    assert [set().union(*(part.keys for part in step)) for step in zip(*parts, strict=True)] == whole


def test_resume_goes_on_where_it_stood(lane_dataset):
    loader = train_loader(lane_dataset)
    undisturbed = [batch.keys for batch in train_loader(lane_dataset)]
    stream = iter(loader)
    for _ in range(3):
        next(stream)
    other = train_loader(lane_dataset)
    other.load_state_dict(loader.state_dict())
    assert len(other) == len(undisturbed)
    assert [batch.keys for batch in other] == undisturbed[3:]


def test_a_full_epoch_resumes_at_the_next_epochs_start(lane_dataset):
    loader = train_loader(lane_dataset)
    keys(loader)
    assert loader.state_dict() == {"frames": 0}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_evaluation_counts_each_frame_once(lane_dataset, ranks):
    rows = lane_dataset.select("val")
    parts = [list(Loader(lane_dataset, rows, 4, training=False, rank=r, ranks=ranks)) for r in range(ranks)]
    assert len({len(part) for part in parts}) == 1, "all ranks make the same number of steps"
    seen = [key for part in parts for batch in part for key in batch.keys if key]
    assert sorted(seen) == sorted(lane_dataset.key(int(row)) for row in rows)


def test_labels_are_padded_with_nan(lane_dataset):
    batch = next(iter(train_loader(lane_dataset)))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (4, 48, 64, 3)
    assert batch.lanes.shape[:2] == (4, 2)
    assert batch.boxes.shape == (4, 0, 4)
    assert batch.labelled.tolist() == [[False, True, False, False]] * 4
    assert torch.isnan(batch.speed).all()
    assert batch.camera_size.tolist() == [[64, 48]] * 4


def test_scaled_decode_moves_no_label(lane_dataset):
    batch = next(iter(train_loader(lane_dataset, least_width_px=32)))
    assert batch.images.shape == (4, 24, 32, 3)
    assert torch.equal(batch.image_from_camera[0], torch.diag(torch.tensor([0.5, 0.5, 1.0])))


@pytest.fixture
def damaged(lane_dataset, tmp_path):
    """A copy of the dataset whose third training frame has a flipped byte."""
    shutil.copytree(lane_dataset.root, tmp_path / "store")
    dataset = Dataset.open(tmp_path / "store", "lanes@1")
    row = dataset.rows[int(dataset.select("train")[2])]
    path = tmp_path / "store" / dataset.manifest.shards[int(row["shard"])].path
    content = bytearray(path.read_bytes())
    content[int(row["image_offset"]) + 100] ^= 0xFF
    path.write_bytes(bytes(content))
    return dataset


def test_a_bad_frame_is_named_and_another_stands_in(damaged, lane_dataset):
    quarantine = Quarantine()
    loader = train_loader(damaged, quarantine=quarantine)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert [bad.reason for bad in quarantine.bad.values()] == ["checksum differs: the bytes were changed"]
    bad = next(iter(quarantine.bad.values()))
    assert bad.key == damaged.key(int(damaged.select("train")[2]))
    assert bad.offset == damaged.entry(int(damaged.select("train")[2])).image_offset
    undisturbed = [batch.keys for batch in train_loader(lane_dataset)]
    changed = [
        (old, new) for a, b in zip(undisturbed, batches, strict=True) for old, new in zip(a, b.keys, strict=True)
    ]
    assert [old for old, new in changed if old != new] == [bad.key], "the order of the rest is unchanged"
    assert all(new for _, new in changed), "another frame stands in"
    assert [batch.keys for batch in train_loader(damaged, quarantine=Quarantine())] == [b.keys for b in batches]


def test_too_many_bad_frames_stop_the_run(damaged):
    with pytest.raises(DataError, match="1 bad frames of 36, the last: .*checksum"):
        list(train_loader(damaged, quarantine=Quarantine(most_share=0.0)))


def test_too_few_frames_say_so(lane_dataset):
    with pytest.raises(DataError, match="36 training frames make no batch of 64"):
        train_loader(lane_dataset, batch_size=64)


def test_batches_hold_what_the_order_says(lane_dataset):
    loader = train_loader(lane_dataset)
    wanted = [lane_dataset.key(int(row)) for row in loader.order(0, 1)]
    assert list(loader)[1].keys == wanted
    assert np.unique(np.concatenate([loader.order(0, number) for number in range(len(loader))])).size == 36


def test_frames_that_stay_in_memory_are_the_same_frames_and_bounded(lane_dataset):
    plain, kept = train_loader(lane_dataset), train_loader(lane_dataset, keep_mib=1)
    for _ in range(2):
        for one, other in zip(plain, kept, strict=True):
            assert one.keys == other.keys
            assert torch.equal(one.images, other.images)
            assert torch.equal(torch.nan_to_num(one.lanes), torch.nan_to_num(other.lanes))
    memory = kept.start()[1].kept
    assert 0 < len(memory) <= (1 << 20) // next(iter(memory.values())).image.nbytes + 3


def test_only_cameras_that_look_ahead_have_a_pose():
    cameras = rig(5, 640, 360, 0.02, 0.0, 10.0)
    known = {camera.name: bool(np.isfinite(camera_arrays(camera)[1]).all()) for camera in cameras}
    assert known == {"front": True, "front_left": False, "front_right": False, "rear": False, "front_tele": True}
    assert camera_arrays(cameras[0])[1][1] == pytest.approx(0.02, abs=0.01), "pitch"
