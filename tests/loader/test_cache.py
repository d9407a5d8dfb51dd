import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.core.errors import DataError
from avexp.loader.cache import ShardCache, summary
from avexp.loader.partial import claim_partial


def content(number, size=1000):
    return bytes([number % 251]) * size


def name(data):
    return hashlib.sha256(data).hexdigest()


def writing(data, told=None):
    def fetch(handle):
        if told is not None:
            told.append(name(data))
        os.pwrite(handle, data, 0)
        return name(data)

    return fetch


def take(cache, data, told=None, **options):
    handle = cache.get(name(data), len(data), writing(data, told), **options)
    try:
        return os.pread(handle, len(data) + 1, 0)
    finally:
        os.close(handle)


def files(cache):
    return sorted(path.name for path in (cache.folder / "entries").rglob("*") if path.is_file())


def test_the_second_time_nothing_is_fetched(tmp_path):
    cache, told, data = ShardCache(tmp_path, 10_000), [], content(1)
    assert take(cache, data, told) == take(cache, data, told) == data
    assert told == [name(data)]
    assert (cache.stats.hits, cache.stats.misses, cache.stats.fetched, cache.stats.bytes_fetched) == (1, 1, 1, 1000)
    assert list((tmp_path / "partial").iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(st.integers(0, 7), max_size=40), limit=st.integers(1, 5))
def test_it_is_a_least_recently_used_cache_within_its_limit(tmp_path_factory, asked, limit):
    """Held against the plain model: an ordered list of at most ``limit`` entries of 1000 bytes."""
    cache, model, told = ShardCache(tmp_path_factory.mktemp("c"), limit * 1000 + 500), [], []
    for number in asked:
        data, before = content(number), len(told)
        assert take(cache, data, told) == data
        assert (len(told) > before) == (number not in model)
        model = ([other for other in model if other != number] + [number])[-limit:]
        assert files(cache) == sorted(name(content(other)) for other in model)
        assert int((cache.folder / "usage").read_text()) == 1000 * len(model)


def test_what_comes_soon_is_evicted_last_and_the_last_of_it_first(tmp_path):
    cache = ShardCache(tmp_path, 3000)
    a, b, c, d, e = (content(number) for number in range(5))
    for data in (a, b, c):
        take(cache, data)
    coming = [name(a), name(b), name(d), name(e)]
    assert cache.fill(name(d), 1000, writing(d), keep=coming)
    assert files(cache) == sorted(map(name, (a, b, d))), "c is past, though it was used last"
    assert not cache.fill(name(e), 1000, writing(e), keep=coming), "it would push out what comes before it"
    assert take(cache, e, keep=coming) == e
    assert files(cache) == sorted(map(name, (a, b, e))), "a reader that needs it now gets it"


def test_an_eviction_does_not_hurt_a_reader(tmp_path):
    cache, first, second = ShardCache(tmp_path, 1500), content(1), content(2)
    handle = cache.get(name(first), 1000, writing(first))
    take(cache, second)
    assert files(cache) == [name(second)]
    assert os.pread(handle, 1000, 0) == first
    os.close(handle)


def test_a_lower_limit_evicts_at_once_and_trim_too(tmp_path):
    cache = ShardCache(tmp_path, 10_000)
    for number in range(6):
        take(cache, content(number))
    smaller = ShardCache(tmp_path, 3_500)
    assert files(smaller) == sorted(name(content(number)) for number in (3, 4, 5))
    assert smaller.trim(1_000) == 1_000
    assert files(smaller) == [name(content(5))]


def test_a_shard_beyond_the_limit_is_one_line_and_evicts_nothing(tmp_path):
    cache = ShardCache(tmp_path, 1_500)
    take(cache, content(1))
    with pytest.raises(DataError, match=r"finds no room .* raise hardware.cache_gib"):
        take(cache, content(2, 2_000))
    assert files(cache) == [name(content(1))]


def test_wrong_bytes_are_never_kept(tmp_path):
    cache, data = ShardCache(tmp_path, 10_000), content(1)
    with pytest.raises(DataError, match="have sha256"):
        cache.get(name(data), 1000, writing(content(2)))
    assert files(cache) == []
    assert int((tmp_path / "usage").read_text()) == 0
    assert take(cache, data) == data


def test_an_entry_that_was_damaged_is_dropped(tmp_path):
    cache, data, told = ShardCache(tmp_path, 10_000), content(1), []
    take(cache, data, told)
    path = tmp_path / "entries" / name(data)[:2] / name(data)
    assert cache.check(name(data))
    path.write_bytes(b"x" + data[1:])
    assert not cache.check(name(data))
    assert take(cache, data, told) == data
    path.write_bytes(data[:500])
    assert take(cache, data, told) == data, "a wrong length shows without reading it"
    assert len(told) == 3
    assert cache.stats.dropped == 2
    assert cache.trim(10_000) == 1000


def test_a_fetch_that_fails_leaves_nothing(tmp_path):
    cache = ShardCache(tmp_path, 10_000)

    def fails(handle):
        os.pwrite(handle, b"half", 0)
        raise DataError("s3://b/x", "the object store failed")

    with pytest.raises(DataError, match="the object store failed"):
        cache.get(name(b"x"), 1, fails)
    assert summary(tmp_path)["being_fetched"] == 0
    assert int((tmp_path / "usage").read_text()) == 0


def test_a_full_disk_evicts_and_then_is_one_line(tmp_path):
    cache, told = ShardCache(tmp_path, 10_000), []
    for number in range(3):
        take(cache, content(number))

    def full_until(entries):
        def fetch(handle):
            told.append(len(files(cache)))
            if len(files(cache)) > entries:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return writing(content(7))(handle)

        return fetch

    os.close(cache.get(name(content(7)), 1000, full_until(1)))
    assert told == [3, 2, 1]
    assert files(cache) == sorted([name(content(2)), name(content(7))])
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left on device\); free space, or set storage.cache"
    ):
        cache.get(name(content(8)), 1000, full_until(-1))
    assert files(cache) == []
    assert int((tmp_path / "usage").read_text()) == 0


def test_a_file_size_limit_is_one_line(tmp_path):
    cache, data = ShardCache(tmp_path, 10**6), content(1, 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(DataError, match="File too large"):
            take(cache, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert summary(tmp_path)["being_fetched"] == 0


def test_a_disk_too_full_for_its_own_count_is_counted_anew(tmp_path, monkeypatch):
    cache = ShardCache(tmp_path, 3_000)
    take(cache, content(1))

    def full(path, text):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr("avexp.loader.cache.replace_small", full)
        take(cache, content(2))
    assert not (tmp_path / "usage").exists()
    take(cache, content(3))
    take(cache, content(4))
    assert len(files(cache)) == 3


def test_a_folder_that_cannot_be_is_one_line():
    with pytest.raises(DataError, match="no cache can be there .* set storage.cache"):
        ShardCache(Path("/proc/nothing/cache"), 1)


def test_two_threads_fetch_once_and_the_other_waits(tmp_path):
    cache, data, told, found = ShardCache(tmp_path, 10_000), content(1), [], []

    def slowly(handle):
        time.sleep(0.2)
        return writing(data, told)(handle)

    def one():
        handle = cache.get(name(data), 1000, slowly)
        found.append(os.pread(handle, 1000, 0))
        os.close(handle)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [data] * 4
    assert len(told) == 1
    assert cache.stats.misses == 4
    assert 0.2 <= cache.stats.wait_s < 10


def test_waiting_for_another_is_bounded(tmp_path):
    cache = ShardCache(tmp_path, 10_000, wait_s=0.2)
    holder = claim_partial(tmp_path / "partial" / name(content(1)))
    with pytest.raises(DataError, match="another process has been fetching it for 0 s"):
        take(cache, content(1))
    os.close(holder)
    assert take(cache, content(1)) == content(1)


def test_a_fetcher_that_stalls_is_given_up_and_does_no_harm(tmp_path):
    cache = ShardCache(tmp_path, 10_000, stall_s=0.2)
    data, go_on, found = content(1), threading.Event(), []

    def stalls(handle):
        go_on.wait(20)
        return writing(data)(handle)

    def stalled():
        handle = cache.get(name(data), 1000, stalls)
        found.append(os.pread(handle, 1000, 0))
        os.close(handle)

    thread = threading.Thread(target=stalled)
    thread.start()
    while not list((tmp_path / "partial").iterdir()):
        time.sleep(0.01)
    assert take(cache, data) == data
    go_on.set()
    thread.join(20)
    assert found == [data]
    assert files(cache) == [name(data)]
    assert cache.trim(10_000) == 1_000


FETCHER = """
import hashlib, os, sys, time
from pathlib import Path
from avexp.loader.cache import ShardCache
cache = ShardCache(Path(sys.argv[1]), int(sys.argv[2]))
delay = float(sys.argv[3])
def fetch_of(data):
    def fetch(handle):
        for start in range(0, len(data), 100):
            os.pwrite(handle, data[start : start + 100], start)
            time.sleep(delay)
        return hashlib.sha256(data).hexdigest()
    return fetch
print("ready", flush=True)
for number in sys.argv[4:]:
    data = bytes([int(number) % 251]) * 1000
    handle = cache.get(hashlib.sha256(data).hexdigest(), 1000, fetch_of(data))
    assert os.pread(handle, 1001, 0) == data
    os.close(handle)
cache.flush()
print("done", flush=True)
"""


def fetcher(folder, limit, delay, numbers):
    command = [sys.executable, "-c", FETCHER, str(folder), str(limit), str(delay), *map(str, numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_fetcher_is_noticed_at_once(tmp_path):
    process = fetcher(tmp_path, 10_000, 0.5, [1])
    process.stdout.readline()
    while not list((tmp_path / "partial").iterdir()):
        time.sleep(0.01)
    began = time.monotonic()
    taken = threading.Timer(0.3, process.send_signal, [signal.SIGKILL])
    taken.start()
    cache = ShardCache(tmp_path, 10_000)
    assert take(cache, content(1)) == content(1)
    assert time.monotonic() - began < 3, "it does not wait for the 5 s that the other would have taken"
    taken.join()
    process.communicate()
    assert (files(cache), list((tmp_path / "partial").iterdir())) == ([name(content(1))], [])


def test_two_jobs_at_once_share_the_work(tmp_path):
    jobs = [fetcher(tmp_path, 20_000, 0.002, range(10)) for _ in range(2)]
    assert [job.communicate(timeout=60)[0] for job in jobs] == ["ready\ndone\n"] * 2
    facts = summary(tmp_path)
    assert (facts["entries"], facts["bytes"], facts["fetched"]) == (10, 10_000, 10)
    assert facts["hits"] + facts["misses"] == 20


def test_kill_9_at_any_moment_leaves_a_sound_cache(tmp_path):
    """Two processes that fetch and evict without end are killed at many moments; each time the cache works on."""
    for moment in range(12):
        jobs = [fetcher(tmp_path, 4_000, 0.0001, list(range(200)) * 50) for _ in range(2)]
        for job in jobs:
            job.stdout.readline()
        time.sleep(0.013 * moment)
        for job in jobs:
            job.kill()
            job.communicate()
        cache = ShardCache(tmp_path, 4_000)
        assert list((tmp_path / "partial").iterdir()) == []
        for entry in files(cache):
            assert cache.check(entry)
        used = sum(path.stat().st_size for path in (tmp_path / "entries").rglob("*") if path.is_file())
        assert int((tmp_path / "usage").read_text()) == used <= 4_000
        assert take(cache, content(moment)) == content(moment)


def test_what_all_did_is_added_up(tmp_path):
    for _ in range(3):
        cache = ShardCache(tmp_path, 10_000)
        take(cache, content(1))
        take(cache, content(1))
        cache.flush()
    facts = summary(tmp_path)
    assert (facts["hits"], facts["misses"], facts["fetched"], facts["limit_bytes"]) == (5, 1, 1, 10_000)
    assert str(cache.stats).startswith("2 hits, 0 misses (100.0 %)")
    with pytest.raises(DataError, match="no cache is there"):
        summary(tmp_path / "elsewhere")
