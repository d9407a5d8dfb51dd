import os
import threading
import time

import pytest

from avexp.records.handles import Handles


@pytest.fixture
def shards(tmp_path):
    for number in range(6):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    opened = []

    def opener(number):
        opened.append(number)
        return os.open(tmp_path / str(number), os.O_RDONLY)

    return tmp_path, opener, opened


def read(handles, number):
    with handles.lease(number) as handle:
        return os.pread(handle, 3, 0)


def test_a_shard_is_opened_once_and_the_oldest_is_closed(shards):
    _, opener, opened = shards
    handles = Handles(opener, most_open=2)
    for number in (0, 1, 0, 2, 0, 1):
        assert read(handles, number) == bytes([number]) * 3
    assert opened == [0, 1, 2, 1], "1 was the least recently used when 2 came"
    assert len(handles) == 2


def test_what_is_in_use_stays_open(shards):
    _, opener, _ = shards
    handles = Handles(opener, most_open=1)
    with handles.lease(0) as handle:
        for number in (1, 2, 3):
            read(handles, number)
        handles.forget(0)
        assert os.pread(handle, 1, 0) == b"\0"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(handle)


def test_a_removed_file_is_closed_so_that_its_space_is_freed(shards, monkeypatch):
    folder, opener, _ = shards
    monkeypatch.setattr("avexp.records.handles.SWEEP_S", 0.0)
    handles = Handles(opener)
    read(handles, 0)
    (folder / "0").unlink()
    read(handles, 1)
    assert len(handles) == 1


def test_threads_open_a_shard_once_and_a_failure_is_not_kept(shards):
    _, opener, opened = shards
    fails = [True]

    def slowly(number):
        time.sleep(0.05)
        if fails.pop():
            raise OSError("gone")
        return opener(number)

    handles = Handles(slowly)
    with pytest.raises(OSError, match="gone"):
        read(handles, 0)
    fails.append(False)
    found = []
    threads = [threading.Thread(target=lambda: found.append(read(handles, 0))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"\0\0\0"] * 4
    assert opened == [0]
