import json
import math
import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avexp.store.json_lines import JsonLines, read_lines, read_metrics


def values(path, offset=0):
    return [line.value for line in read_lines(path, offset)]


def test_lines_come_back_with_their_offsets(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl")
    lines.append({"a": 1})
    lines.append({"b": "ü"})
    lines.close()
    found = list(read_lines(tmp_path / "m.jsonl"))
    assert [line.value for line in found] == [{"a": 1}, {"b": "ü"}]
    assert found[0].end == len('{"a": 1}\n')
    assert found[1].end == (tmp_path / "m.jsonl").stat().st_size
    assert values(tmp_path / "m.jsonl", found[0].end) == [{"b": "ü"}]
    assert values(tmp_path / "absent.jsonl") == []


def test_torn_last_line_waits_and_the_next_writer_ends_it(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": ')
    assert values(path) == [{"a": 1}]
    lines = JsonLines(path)
    lines.append({"c": 3})
    lines.close()
    assert values(path) == [{"a": 1}, None, {"c": 3}]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 60))
def test_a_file_cut_anywhere_loses_at_most_the_cut_line(tmp_path, cut):
    path = tmp_path / "m.jsonl"
    whole = b"".join(json.dumps({"step": step}).encode() + b"\n" for step in range(5))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    lines = JsonLines(path)
    lines.append({"step": 99})
    lines.close()
    found = [value for value in values(path) if value is not None]
    # a cut just before its newline leaves a whole object, which the next writer ends
    assert found[:kept] == [{"step": step} for step in range(kept)]
    assert found[-1] == {"step": 99}
    assert len(found) - kept in (1, 2)


def test_a_full_disk_delays_lines_and_loses_none(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = JsonLines(tmp_path / "m.jsonl")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, before[1]))
        for step in range(10):
            lines.append({"step": step})
        assert lines.unwritten > 0
        assert lines.fault == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines.append({"step": 10})
    lines.close()
    assert lines.unwritten == 0
    assert values(tmp_path / "m.jsonl") == [{"step": step} for step in range(11)]


def test_what_stays_unwritten_is_counted_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("avexp.store.json_lines.LATE_BYTES_MAX", 100)
    (tmp_path / "m.jsonl").symlink_to("/dev/full")
    lines = JsonLines(tmp_path / "m.jsonl")
    for step in range(50):
        lines.append({"step": step})
    lines.close()
    assert lines.unwritten == 50
    assert lines.fault == "No space left on device"


def test_series_take_the_last_value_of_a_repeated_step(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl")
    for step, value in [(1, 5.0), (2, 4.0), (3, 9.0), (2, 4.0), (3, 3.0)]:
        lines.append({"step": step, "time_ms": 0, "values": {"loss": value}})
    lines.append({"step": 3, "time_ms": 0, "values": {"val": math.inf}})
    lines.close()
    assert read_metrics(tmp_path / "m.jsonl") == {"loss": [(1, 5.0), (2, 4.0), (3, 3.0)], "val": [(3, math.inf)]}


def test_values_that_json_does_not_know_become_text(tmp_path):
    lines = JsonLines(tmp_path / "m.jsonl")
    lines.append({"path": tmp_path})
    lines.close()
    assert values(tmp_path / "m.jsonl") == [{"path": str(tmp_path)}]


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        JsonLines(tmp_path / "file" / "m.jsonl")
