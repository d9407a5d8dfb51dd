import hashlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from itertools import count

import numpy as np
import pytest
from object_server import object_server

from avexp.core.errors import ConfigError, DataError
from avexp.loader.remote import Bounds, RemoteStore

QUICK = Bounds(attempts=3, backoff_s=0.01, connect_s=0.5, stall_s=0.5, least_mib_s=2.0, range_mib=1, streams=3)
SHARD = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8).tobytes()
SHA = hashlib.sha256(SHARD).hexdigest()


@pytest.fixture
def server(monkeypatch):
    with object_server() as server:
        for key, value in server.environment.items():
            monkeypatch.setenv(key, value)
        server.objects["some/prefix/a/shard.tar"] = SHARD
        yield server


def fetch(store, path="a/shard.tar", size=5_000_000, sha256=SHA):
    with tempfile.TemporaryFile() as file:
        store.fetch(path, file.fileno(), size, sha256)
        file.seek(0)
        return file.read()


def test_a_shard_comes_in_few_ranges(server):
    assert fetch(RemoteStore(server.url, QUICK)) == SHARD
    assert server.asked == [("GET", "some/prefix/a/shard.tar")] * 5, "5 MB in ranges of 1 MiB"
    assert RemoteStore(server.url, QUICK).digest("a/shard.tar", len(SHARD)) == SHA


def test_small_objects_are_written_once_found_and_listed(server):
    store = RemoteStore(server.url + "/", QUICK)
    assert store.find("x/1/m.json") is None
    assert store.put_if_absent("x/1/m.json", b"one")
    assert not store.put_if_absent("x/1/m.json", b"two")
    assert store.read("x/1/m.json") == b"one"
    assert store.find("x/1/m.json") == (3, hashlib.md5(b"one").hexdigest())
    store.put_if_absent("x/2/m.json", b"two")
    assert store.folders("x") == ["1", "2"]
    assert pickle.loads(pickle.dumps(store)).read("x/2/m.json") == b"two"


def test_a_folder_is_a_store_too(tmp_path):
    store = RemoteStore(f"file://{tmp_path}/new")
    assert store.put_if_absent("x/1/m", b"one")
    assert not store.put_if_absent("x/1/m", b"two")
    assert (tmp_path / "new/x/1/m").read_bytes() == store.read("x/1/m") == b"one"
    assert store.folders("x") == ["1"]
    assert store.digest("x/1/m", 3) == hashlib.sha256(b"one").hexdigest()


@pytest.mark.parametrize("fault", [503, 500, "cut", "short", "stall", "stall body", "wrong"])
def test_what_fails_for_a_moment_is_asked_again(server, fault):
    server.faults = lambda method, path, count: fault if count == 2 else None
    assert fetch(RemoteStore(server.url, QUICK)) == SHARD


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (
            503,
            r"s3://bucket/some/prefix/a/shard.tar: the object store failed 3 times \(503 Service Unavailable, Injected\); see that it is up",
        ),
        (500, "the object store failed 3 times"),
        (403, r"the object store refuses \(403 Forbidden, Injected\); check credentials"),
        (401, "the object store refuses .* check credentials"),
        (404, r"no such object \(or no such bucket\); check the URL, or push it"),
        ("cut", r"failed 3 times \(the connection was cut\)"),
        ("short", r"failed 3 times \(Generic S3 error: Requested 0..1048576, got 0..1048575\)"),
        ("longer", "has 5000001 bytes, 5000000 were expected; it was changed or cut off in the store"),
        ("wrong", r"its bytes have sha256 [0-9a-f]{16}\.\.\., not .*; it was changed or damaged in the store"),
        ("stall", r"failed 3 times \(no answer in time\)"),
        ("stall body", r"failed 3 times \(no answer in time\)"),
    ],
)
def test_what_stays_broken_is_one_line_in_bounded_time(server, fault, text):
    server.faults = lambda method, path, count: fault
    began = time.monotonic()
    with pytest.raises(DataError, match=text) as found:
        fetch(RemoteStore(server.url, QUICK))
    assert "\n" not in str(found.value)
    assert len(str(found.value)) < 500
    assert time.monotonic() - began < 8


def test_a_slow_store_is_given_up(server):
    def slow(method, path, count):
        time.sleep(0.4)

    server.faults = slow
    bounds = Bounds(attempts=3, backoff_s=0.01, stall_s=0.5, least_mib_s=50, range_mib=1, streams=1)
    with pytest.raises(DataError, match="slower than 50 MiB/s; see what slows it"):
        fetch(RemoteStore(server.url, bounds))


def test_nobody_there_is_one_line(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with pytest.raises(DataError, match=r"s3://bucket/x: .* failed 3 times \(Connection refused by http://127"):
        RemoteStore("s3://bucket", QUICK).read("x")


def test_the_answer_to_a_put_may_be_lost(server):
    """The object was written, the answer was not: the second try finds it there."""
    steps = count(1)
    server.faults = lambda method, path, number: 500 if method == "PUT" and next(steps) == 1 else None
    assert RemoteStore(server.url, QUICK).put_if_absent("x", b"1")
    assert RemoteStore(server.url, QUICK).read("x") == b"1"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s4://bucket", "s4://bucket is no object store; give s3://"),
        ("/data/store", "/data/store is no object store"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("file://x", "names no folder; give file:///folder"),
    ],
)
def test_a_wrong_url_is_one_line(url, text):
    with pytest.raises(ConfigError, match=text):
        RemoteStore(url)


FORKED = """
import os, sys
from avexp.core.errors import DataError
from avexp.loader.remote import RemoteStore
store = RemoteStore("file://" + sys.argv[1])
store.put_if_absent("x", b"1")
child = os.fork()
if child == 0:
    try:
        store.read("x")
    except DataError as fault:
        assert "spawn" in str(fault)
        os._exit(7)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_is_refused_where_it_would_hang(tmp_path):
    assert subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], timeout=20).returncode == 7


def test_a_file_that_cannot_be_written_is_an_os_error(server, tmp_path):
    handle = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(OSError, match="No space left"):
        RemoteStore(server.url, QUICK).fetch("a/shard.tar", handle, len(SHARD), SHA)
    os.close(handle)
