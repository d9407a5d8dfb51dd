import pickle
from collections import Counter

import pytest
import simplejpeg

from avexp.core.errors import DataError
from avexp.ingest.world import WorldReader
from avexp.records.frame import Frame

SMALL = {"train_sessions": 2, "val_sessions": 1, "frames_per_session": 2, "width_px": 160, "height_px": 96}


def test_lists_train_and_val():
    assert [ref.id for ref in WorldReader(**SMALL).list()] == ["world-train-0000", "world-train-0001", "world-val-0000"]


def test_reads_what_it_describes_even_when_pickled():
    reader = pickle.loads(pickle.dumps(WorldReader(**SMALL, cameras=2)))
    ref = reader.list()[1]
    session = reader.describe(ref)
    frames = list(reader.read(ref))
    assert [frame.timestamp_ns for frame in frames] == [0, 500_000_000]
    for frame in frames:
        assert isinstance(frame, Frame)
        assert (
            set(frame.sensors)
            == {f"{sensor.name}.jpg" for sensor in session.sensors}
            == {"front.jpg", "front_left.jpg"}
        )
        assert simplejpeg.decode_jpeg_header(frame.sensors["front.jpg"])[:2] == (96, 160)
        assert frame.labels[0].conditions == session.conditions
    again = list(WorldReader(**SMALL, cameras=2).read(ref))
    assert [frame.parts() for frame in again] == [frame.parts() for frame in frames]


def test_every_condition_occurs_in_the_default_sets():
    for textures, least in (("train", 2), ("val", 1)):
        options = [ref.options for ref in WorldReader().list() if ref.options["textures"] == textures]
        for name, values in (
            ("light", ("day", "dusk", "night")),
            ("weather", ("clear", "rain", "fog")),
            ("road", ("urban", "highway")),
        ):
            counts = Counter(option[name] for option in options)
            assert min(counts[value] for value in values) >= least, (textures, counts)


def test_options_decide_the_session_id():
    ids = {WorldReader(**SMALL, seed=seed).list()[0].session_id() for seed in (1, 1, 2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"jpeg_quality": 0}, "reader.jpeg_quality: 0"),
        ({"cameras": 6}, "give 1 to 5"),
        ({"val_sessions": -1}, "negative number"),
        ({"night": 2.0}, "rarity.night: 2.0 is no share"),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(DataError, match=text):
        WorldReader(**options)
