import os
import resource
from pathlib import Path

import pytest

from avexp.core.errors import DataError
from avexp.core.files import put_if_absent, read_json, write_json, written_aside


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "a.json"
    with pytest.raises(RuntimeError), written_aside(target) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    write_json(target, {"a": 1})
    assert read_json(target) == {"a": 1}


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with (
            pytest.raises(DataError, match=r"big: cannot be written \(File too large\); free space"),
            written_aside(tmp_path / "big") as stream,
        ):
            stream.write(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line():
    with pytest.raises(DataError, match="cannot be written"), written_aside(Path("/dev/full/x")):
        pass


def test_put_if_absent(tmp_path):
    assert put_if_absent(tmp_path / "x", b"1")
    assert not put_if_absent(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_broken_json_names_line_and_column(tmp_path):
    (tmp_path / "b.json").write_text('{"a": \n }')
    with pytest.raises(DataError, match="line 2 column 2"):
        read_json(tmp_path / "b.json")
