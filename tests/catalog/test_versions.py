import json
import os

import pytest

from avexp.catalog.split import BySession, ByTime
from avexp.catalog.versions import create_version
from avexp.core.errors import DataError
from avexp.records.dataset import Dataset, names, versions
from avexp.records.labels import Light
from avexp.records.session import Session


@pytest.fixture
def store(lane_dataset, tmp_path):
    """A storage root of its own over the shared sessions."""
    (tmp_path / "sessions").symlink_to(lane_dataset.root / "sessions")
    return tmp_path, lane_dataset.manifest.sessions


def test_the_same_content_is_the_same_version(store):
    root, sessions = store
    one = create_version(root, "roads", sessions, ByTime(0.25))
    again = create_version(root, "roads", sessions, ByTime(0.25))
    other = create_version(root, "roads", sessions, ByTime(0.5))
    assert (one.manifest.reference, again.manifest.reference, other.manifest.reference) == (
        "roads@1",
        "roads@1",
        "roads@2",
    )
    assert one.manifest.digest != other.manifest.digest


def test_versions_are_found_by_number_latest_and_digest(store):
    root, sessions = store
    made = [create_version(root, "roads", sessions, ByTime(share)) for share in (0.25, 0.5)]
    assert Dataset.open(root, "roads").manifest.version == 2
    assert Dataset.open(root, "roads@latest").manifest.version == 2
    assert Dataset.open(root, "roads@1").manifest == made[0].manifest
    assert Dataset.open(root, made[0].manifest.digest[:12]).manifest == made[0].manifest
    assert (names(root), versions(root, "roads")) == (["roads"], [1, 2])


@pytest.mark.parametrize(
    ("reference", "text"),
    [("rods", "did you mean roads"), ("roads@9", "versions: 1"), ("0123456789ab", "not found under")],
)
def test_a_wrong_reference_tells_the_right_ones(store, reference, text):
    root, sessions = store
    create_version(root, "roads", sessions, ByTime(0.25))
    with pytest.raises(DataError, match=text):
        Dataset.open(root, reference)


def test_frames_splits_and_conditions_are_counted(lane_dataset):
    manifest = lane_dataset.manifest
    assert manifest.splits == {"train": 36, "val": 12}
    assert manifest.condition_counts["train/night"] == 18
    assert manifest.task_counts == {"train/lanes": 36, "val/lanes": 12}
    assert len(lane_dataset.select("val", "night")) == 6
    assert len(lane_dataset.select(None, "night+rain")) == 0
    assert lane_dataset.key(0).endswith("/0000000000000000000.front")


def test_a_key_leads_to_image_and_labels(lane_dataset):
    row = int(lane_dataset.select("val")[0])
    assert lane_dataset.read(row, "image")[:2] == b"\xff\xd8"
    assert json.loads(lane_dataset.read(row, "labels"))["labels"][0]["annotator"]["name"] == "a"
    assert lane_dataset.read(row, "ego") is None
    assert lane_dataset.session(row).conditions.light in (Light.day, Light.night)


def test_split_by_time_leaves_a_gap():
    session = Session(id="s")
    times = [number * 10**8 for number in range(11)]  # 0 s to 1 s
    parts = ByTime(val_share=0.3, gap_s=0.2)(session, times)
    assert parts == ["train"] * 6 + [None] * 2 + ["val"] * 3


def test_split_by_session():
    by_mark = BySession(val_mark="-val-")
    assert by_mark(Session(id="world-val-1"), [0, 1]) == ["val", "val"]
    assert by_mark(Session(id="world-train-1"), [0]) == ["train"]
    drawn = [BySession(val_share=0.3)(Session(id=f"s{number}"), [0])[0] for number in range(400)]
    assert 90 < drawn.count("val") < 150


def test_a_damaged_index_is_named(store):
    root, sessions = store
    create_version(root, "roads", sessions, ByTime(0.25))
    os.truncate(root / "datasets/roads/1/index.bin", 100)
    with pytest.raises(DataError, match="does not hold 48 rows"):
        Dataset.open(root, "roads@1")


@pytest.mark.parametrize("name", ["", "a/b", "a@1"])
def test_bad_names_are_refused(store, name):
    root, sessions = store
    with pytest.raises(DataError, match="no good name"):
        create_version(root, name, sessions, ByTime(0.25))


def test_a_missing_annotator_leaves_frames_without_labels(store):
    root, sessions = store
    made = create_version(root, "none", sessions, ByTime(0.25), annotators=["nobody"])
    assert made.manifest.task_counts == {}
    assert made.manifest.splits == {"train": 36, "val": 12}
