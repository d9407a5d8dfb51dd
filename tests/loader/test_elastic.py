"""The guarantees of the order under any ranks, any workers, any stop: the same frames in the same global batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.loader.loader import Loader
from avexp.loader.order import Straight


class NoPixels(Loader):
    """Only the order: nothing is read."""

    def steps(self):
        """(frames given before, rows of this rank) of what is left of the epoch."""
        for first in range(self._frames, len(self) * self.global_batch - self.global_batch + 1, self.global_batch):
            self._frames += self.global_batch
            yield self.rows_at(self.sampler.epoch, self.positions(first)).tolist()


def loaders(dataset, ranks, global_batch, frames=0, epoch=0, training=True, rows=None):
    rows = dataset.select("train") if rows is None else rows
    made = [
        NoPixels(dataset, rows, global_batch // ranks, training=training, seed=7, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    for one in made:
        one.load_state_dict({"frames": frames})
        one.sampler.set_epoch(epoch)
    return made


def global_order(dataset, ranks, global_batch, **where):
    """All ranks' steps put together, batch by batch; every rank makes the same number of them."""
    parts = [list(one.steps()) for one in loaders(dataset, ranks, global_batch, **where)]
    assert len({len(part) for part in parts}) == 1
    return [row for step in zip(*parts, strict=True) for part in step for row in part]


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([1, 2, 3, 4, 6, 8]), st.sampled_from([24]), st.integers(0, 5))
def test_the_global_order_knows_no_ranks(lane_dataset, ranks, global_batch, epoch):
    assert global_order(lane_dataset, ranks, global_batch, epoch=epoch) == global_order(
        lane_dataset, 1, global_batch, epoch=epoch
    )


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_ranks_may_change_in_the_middle_of_an_epoch(lane_dataset, data):
    """Whatever ranks and batch sizes an epoch is cut into, its frames come in the one order, none twice, none left out."""
    whole = global_order(lane_dataset, 1, 1)
    given: list[int] = []
    while len(given) < len(whole):
        ranks = data.draw(st.integers(1, 8))
        size = data.draw(st.integers(1, 3))
        made = loaders(lane_dataset, ranks, ranks * size, frames=len(given)) if ranks * size <= len(whole) else []
        steps = list(zip(*(one.steps() for one in made), strict=True))
        if not steps:  # what is left does not fill this global batch
            made = loaders(lane_dataset, 1, 1, frames=len(given))
            steps = list(zip(*(one.steps() for one in made), strict=True))
        for step in steps[: data.draw(st.integers(1, len(steps)))]:
            given += [row for part in step for row in part]
    assert given == whole


@pytest.mark.parametrize("processes", [0, 1, 2, 4])
@pytest.mark.parametrize("ranks", [1, 3])
def test_workers_change_nothing(lane_dataset, processes, ranks):
    if processes and ranks > 1:
        pytest.skip("processes are slow to start; one rank is enough to see them")
    rows = lane_dataset.select("train")
    plain = Loader(lane_dataset, rows, 12, training=True, seed=3, threads=1)
    parts = [
        Loader(
            lane_dataset, rows, 12 // ranks, training=True, seed=3, rank=r, ranks=ranks, threads=2, processes=processes
        )
        for r in range(ranks)
    ]
    try:
        for one, *others in zip(plain, *parts, strict=True):
            assert one.keys == [key for other in others for key in other.keys]
            assert np.array_equal(one.images.numpy(), np.concatenate([other.images.numpy() for other in others]))
            assert np.array_equal(
                np.nan_to_num(one.lanes.numpy()), np.concatenate([np.nan_to_num(o.lanes.numpy()) for o in others])
            )
    finally:
        for part in [plain, *parts]:
            part.close()


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
@settings(deadline=None)
def test_evaluation_counts_each_frame_once_on_any_ranks(lane_dataset, frames, batch_size, ranks):
    rows = np.resize(lane_dataset.select("train"), frames)
    parts = []
    for rank in range(ranks):
        one = Loader(lane_dataset, rows, batch_size, training=False, rank=rank, ranks=ranks)
        assert isinstance(one.sequence, Straight)
        one.rows = np.arange(frames)  # so that a frame that is counted twice shows
        parts.append([one.order(0, step).tolist() for step in range(len(one))])
    assert len({len(part) for part in parts}) == 1
    assert sorted(row for part in parts for step in part for row in step if row >= 0) == list(range(frames))


def test_old_checkpoints_counted_batches(lane_dataset):
    loader = Loader(lane_dataset, lane_dataset.select("train"), 4, training=True)
    loader.load_state_dict({"position": 5})
    assert loader.state_dict() == {"frames": 20}
