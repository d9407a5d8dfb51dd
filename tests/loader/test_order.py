import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.loader.order import BLEND_SLOTS, Blend, BlockShuffle, Share, Shuffle, apportion, permute


@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 50))
def test_a_bijection_of_any_size(count, seed, epoch):
    assert np.array_equal(np.sort(permute(np.arange(count), count, seed, epoch)), np.arange(count))


@given(st.integers(2, 10**12), st.integers(0, 2**32), st.data())
def test_each_position_by_itself(count, seed, data):
    positions = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20)), np.int64)
    whole = permute(positions, count, seed, 3)
    assert [int(permute(positions[i : i + 1], count, seed, 3)[0]) for i in range(len(positions))] == whole.tolist()
    assert ((whole >= 0) & (whole < count)).all()


def test_epochs_and_seeds_differ_and_neighbours_part():
    orders = {tuple(permute(np.arange(64), 64, seed, epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    steps = np.abs(np.diff(permute(np.arange(10_000), 10_000, 1, 0)))
    assert abs(steps.mean() / 3333 - 1) < 0.05  # a uniform permutation's mean step is n / 3


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 1000), st.integers(0, 9)
)
def test_block_shuffle_is_a_bijection_that_stays_in_its_window(sizes, window, seed, epoch):
    order = BlockShuffle(sizes, window, seed)
    found = order(epoch, np.arange(order.count))
    assert np.array_equal(np.sort(found), np.arange(order.count))
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    used, start = order.blocks(epoch), 0
    for first in range(0, len(sizes), window):
        blocks = used[first : first + window]
        stop = start + int(np.asarray(sizes)[blocks].sum())
        assert set(block_of[found[start:stop]]) == set(blocks), "a window's positions use the window's blocks only"
        start = stop
    alone = order(epoch, np.array([order.count - 1]))
    assert alone[0] == found[-1], "each position by itself"


def blend_of(sizes, weights, seed=5):
    starts = np.cumsum([0, *sizes])
    shares = [
        Share(np.arange(starts[i], starts[i + 1]), Shuffle(size, seed + i), weight)
        for i, (size, weight) in enumerate(zip(sizes, weights, strict=True))
    ]
    return Blend(shares, seed), starts


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0.05, 10)), min_size=2, max_size=4), st.integers(0, 99))
def test_a_blend_keeps_its_shares_and_each_pass_visits_each_frame_once(parts, seed):
    sizes, weights = zip(*parts, strict=True)
    blend, starts = blend_of(sizes, weights, seed)
    epochs = -(-BLEND_SLOTS // blend.count)
    found = np.concatenate([blend(epoch, np.arange(blend.count)) for epoch in range(epochs)])[:BLEND_SLOTS]
    slots = apportion(weights, BLEND_SLOTS)
    for i, size in enumerate(sizes):
        mine = found[(found >= starts[i]) & (found < starts[i + 1])]
        assert len(mine) == slots[i], "exact over a block"
        visits = np.bincount(mine - starts[i], minlength=size)
        assert visits.max() - visits.min() <= 1, "no frame twice before each was there once"


def test_a_blend_goes_on_over_epochs_as_if_there_were_none():
    blend, _ = blend_of([7, 50], [1.0, 3.0])
    whole = blend(0, np.arange(4 * blend.count))
    parts = [blend(epoch, np.arange(blend.count)) for epoch in range(4)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_apportion_by_largest_remainder():
    assert apportion([1, 1, 1], 10).tolist() == [4, 3, 3]  # 7 beyond one each: 2.33 each, one over for the first
    assert apportion([1000, 1], 10).tolist() == [9, 1], "a rare part is never left out"
    with pytest.raises(ValueError, match="positive"):
        apportion([1, 0], 10)
