import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avexp.core.counter_random import generator, hash64, seed32, uniform


@given(st.integers(0, 2**40), st.integers(0, 100), st.text(max_size=20))
def test_a_pure_function_of_its_key(seed, epoch, name):
    assert np.array_equal(uniform(3, seed, epoch, name), uniform(3, seed, epoch, name))
    assert 0 <= seed32(seed, name) < 2**31


def test_rows_do_not_know_each_other():
    keys = np.array([3, 1, 2], np.uint64)
    whole = uniform(4, 7, "flip", keys)
    assert np.array_equal(whole[::-1], uniform(4, 7, "flip", keys[::-1].copy()))
    assert np.array_equal(whole[:1], uniform(4, 7, "flip", keys[:1]))


def test_numbers_are_uniform():
    values = uniform(100_000, 1, "u")
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(values.var() - 1 / 12) < 0.001
    assert values.min() >= 0
    assert values.max() < 1


def test_keys_differ():
    assert int(hash64(1, 2)) != int(hash64(2, 1))
    assert generator(1, "a").integers(1 << 30) != generator(1, "b").integers(1 << 30)
