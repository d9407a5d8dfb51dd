import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avexp.loader.order import permute


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
