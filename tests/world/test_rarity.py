from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.core.errors import DataError
from avexp.records.labels import Light, Road, Weather
from avexp.world.rarity import DriveSpec, Rarity, strata


def specs(rarity, seed, count):
    return [rarity.spec(seed, i, "train", 4, 2.0, (64, 64), 1) for i in range(count)]


@given(st.integers(0, 2**60))
def test_shares_are_met_within_one_session_of_64(seed):
    found = specs(Rarity(night=0.25, dusk=0.25, rain=0.125, fog=0.125, urban=0.5), seed, 64)
    light, weather, road = (Counter(getattr(s, name) for s in found) for name in ("light", "weather", "road"))
    assert (light[Light.night], light[Light.dusk], light[Light.day]) == (16, 16, 32)
    assert (weather[Weather.rain], weather[Weather.fog]) == (8, 8)
    assert road[Road.urban] == 32


@given(st.integers(0, 2**60), st.integers(0, 1000))
def test_strata_are_shares_and_repeat(seed, number):
    assert strata(seed, number) == strata(seed, number)
    assert all(0 <= value < 1 for value in strata(seed, number))


def test_no_pedestrians_at_night_when_their_share_is_zero():
    found = specs(Rarity(night=1.0, dusk=0.0, urban=1.0, pedestrians_at_night=0.0), 7, 8)
    assert all(s.pedestrians == 0 for s in found)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"night": 1.5}, "rarity.night: 1.5 is no share"),
        ({"rain": 0.7, "fog": 0.7}, "rain \\+ fog exceed 1"),
    ],
)
def test_wrong_shares_are_named(facts, text):
    with pytest.raises(DataError, match=text):
        Rarity(**facts)


def test_wrong_spec():
    with pytest.raises(DataError, match="both must be positive"):
        DriveSpec(frames=0)
    with pytest.raises(DataError, match="too small"):
        DriveSpec(width_px=8)
