import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.core.errors import DataError
from avexp.records.dataset import parse_slice
from avexp.records.frame import EgoState, Frame
from avexp.records.index import ROW, ROW_V1, Entry
from avexp.records.labels import Annotator, Box2D, Cuboid, LabelFile, Labels, Lane, Object, Path
from avexp.records.session import Session

FULL = Labels(
    annotator=Annotator(name="a", kind="human"),
    tasks=["objects", "lanes", "path"],
    objects=[
        Object(
            category="car",
            track_id="7",
            box2d={"front": Box2D(x1=1, y1=2, x2=3, y2=4, occlusion=0.5), "rear": Box2D(x1=0, y1=0, x2=9, y2=9)},
            box3d=Cuboid(center_m=(10, 0, 1), size_m=(4, 2, 1.5), yaw_rad=0.1),
            distance_m=8.0,
        )
    ],
    lanes=[Lane(id="0", position=-1, image={"front": [(1, 2), (3, 4)]}, ground_m=[(5, 1.8, 0), (9, 1.7, 0)])],
    path=Path(times_s=[1.0], positions_m=[(10, 0)]),
)


def test_labels_of_several_annotators_go_round():
    file = LabelFile(labels=[FULL, FULL.model_copy(update={"annotator": Annotator(name="b")})])
    assert LabelFile.from_json(file.to_json(), "x") == file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '{"labels":[{"annotator":{"name":"a"},"tasks":["lanes"],"lanes":[{"id":"0","image":{"f":[[NaN,1]]}}]}]}',
            "finite",
        ),
        ('{"labels":[{"annotator":{"name":"a"},"tasks":["lines"]}]}', r"labels\.0\.tasks\.0"),
        ('{"labels":[{"annotator":{"name":"a"},"tasks":[],"extra":1}]}', "Extra inputs"),
        ('{"labels":', "JSON"),
        ('{"format":2,"labels":[]}', "format"),
    ],
)
def test_wrong_labels_name_file_and_field(text, reason):
    with pytest.raises(DataError, match=rf"shard:key: .*{reason}"):
        LabelFile.from_json(text, "shard:key")


def test_impossible_values_are_refused():
    with pytest.raises(ValueError, match="no area"):
        Box2D(x1=3, y1=0, x2=3, y2=4)
    with pytest.raises(ValueError, match="2 times but 1 positions"):
        Path(times_s=[1, 2], positions_m=[(0, 0)])


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_ego_goes_round(speed):
    ego = EgoState(speed_mps=speed)
    assert EgoState.from_json(ego.to_json(), "x") == ego


def test_a_frame_in_parts():
    frame = Frame(timestamp_ns=5, sensors={"front.jpg": b"j"}, ego=EgoState(speed_mps=1), labels=[FULL])
    assert sorted(frame.parts()) == ["ego.json", "front.jpg", "labels.json"]
    assert sorted(Frame(timestamp_ns=5, sensors={"front.jpg": b"j"}).parts()) == ["front.jpg"]


def test_session_ids_are_safe_names():
    with pytest.raises(ValueError, match="pattern"):
        Session(id="../x")


def test_slices():
    assert parse_slice("night+rain+dusk") == {"light": ["night", "dusk"], "weather": ["rain"]}
    assert parse_slice("all") == {}
    with pytest.raises(DataError, match="did you mean night"):
        parse_slice("nigth")


def test_rows_have_a_fixed_size():
    assert (ROW_V1.itemsize, ROW.itemsize) == (80, 88)
    assert Entry._fields == ROW.names
