import pytest

from avexp.core.errors import RunError
from avexp.core.ids import is_run_id, new_run_id
from avexp.core.run_folder import RunFolder, find_run


@pytest.fixture
def outputs(tmp_path):
    for name, run in (
        ("a", "20260101T000000Z-aaaaaa"),
        ("a", "20260102T000000Z-bbbbbb"),
        ("b", "20260103T000000Z-cccccc"),
    ):
        folder = tmp_path / "train" / name / run
        folder.mkdir(parents=True)
        (folder / "lock.json").write_text("{}")
    return tmp_path


def test_runs_are_found_by_what_a_user_types(outputs):
    assert find_run(outputs, "latest").id.endswith("cccccc")
    assert find_run(outputs, "a/latest").id.endswith("bbbbbb")
    assert find_run(outputs, "20260101").id.endswith("aaaaaa")
    assert find_run(outputs, "aaaaaa").name == "a"
    assert find_run(outputs, str(outputs / "train/b/20260103T000000Z-cccccc")).stage == "train"


def test_trials_are_named_by_their_sweep(outputs):
    sweep = outputs / "train" / "a" / "20260104T000000Z-dddddd"
    for trial in ("1", "10"):
        (sweep / trial).mkdir(parents=True)
        (sweep / trial / "lock.json").write_text("{}")
    (sweep / "sweep.db").touch()
    for typed in ("20260104T000000Z-dddddd/1", "dddddd/1"):
        found = find_run(outputs, typed)
        assert (found.id, found.reference) == ("1", "20260104T000000Z-dddddd/1")
    assert find_run(outputs, "latest").id == "10"
    assert find_run(outputs, "a/latest").reference == "a/latest"
    with pytest.raises(RunError, match="no such run"):
        find_run(outputs, "dddddd")


@pytest.mark.parametrize(
    ("text", "reason"), [("2026", "several runs fit"), ("nope", "no such run"), ("c/latest", "there is no run")]
)
def test_a_wrong_name_tells_the_right_ones(outputs, text, reason):
    with pytest.raises(RunError, match=reason):
        find_run(outputs, text)


def test_ids():
    assert is_run_id(new_run_id())
    assert new_run_id() != new_run_id()


def test_status(tmp_path):
    run = RunFolder(tmp_path)
    assert run.state() == "unknown"
    run.set_status("finished", wall_s=1)
    assert run.state() == "finished"
    assert run.best is None
