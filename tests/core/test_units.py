import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.core.errors import DataError
from avexp.core.units import from_seconds, size_text, to_bytes, to_seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1048576", 2**20), ("10GiB", 10 * 2**30), ("1.5 KiB", 1536), ("500MB", 500 * 10**6), ("2tib", 2**41)],
)
def test_sizes(text, count):
    assert to_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "10 parsecs", "-1GiB", "1e9"])
def test_no_sizes(text):
    with pytest.raises(DataError, match="is no size; give one such as 10GiB"):
        to_bytes(text)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (2**40, "1.0 TiB"), (5 * 2**50, "5120.0 TiB")]
)
def test_sizes_for_people(count, text):
    assert size_text(count) == text


@given(st.integers(0, 10**15))
def test_microseconds_survive(micro):
    assert from_seconds(to_seconds(micro * 1000)) // 1000 == pytest.approx(micro, abs=1)
