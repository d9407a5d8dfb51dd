"""One GPU serves one trial at a time, of whichever sweep."""

import os
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from avexp.jobs import gpus
from avexp.jobs.ledger import State
from avexp.jobs.sweep import run


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")


def names(leases):
    return None if leases is None else [one.name for one in leases]


def test_leases_end_with_whoever_holds_them(three, tmp_path):
    first = gpus.lease(2, tmp_path)
    assert names(first) == ["4", "5"]
    assert gpus.lease(2, tmp_path) is None
    last = gpus.lease(1, tmp_path)
    assert names(last) == ["6"]
    assert gpus.lease(1, tmp_path) is None
    gpus.release(first)
    assert names(gpus.lease(2, tmp_path)) == ["4", "5"]


def test_a_forked_process_keeps_its_lease(three, tmp_path):
    leases = gpus.lease(3, tmp_path)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    gpus.release(leases)
    assert gpus.lease(1, tmp_path) is None
    os.write(write, b"x")
    os.waitpid(pid, 0)
    assert names(gpus.lease(1, tmp_path)) == ["4"]
    os.close(read)
    os.close(write)


def test_more_than_there_are_is_for_the_trial_to_say(three, tmp_path):
    assert gpus.lease(4, tmp_path) == []
    assert gpus.lease(0, tmp_path) == []


def test_a_machine_that_cannot_lock_shares(three, tmp_path):
    (tmp_path / "file").touch()
    assert names(gpus.lease(1, tmp_path / "file")) == ["4"]


def test_two_sweeps_at_once_never_share_a_gpu(planned, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    monkeypatch.setenv("SLURM_JOB_ID", f"test{os.getpid()}")  # leases of its own
    words = ("hardware.accelerator=cuda", "seed=range(0,4)", "steps=1")
    ledgers = [
        planned(*words, function="toy_stage:on_a_gpu", folder=folder, concurrent=2) for folder in ("one", "other")
    ]
    threads = [threading.Thread(target=run, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    times = {}
    for ledger in ledgers:
        assert [trial.state for trial in ledger.each()] == [State.finished] * 4
        for trial in ledger.each():
            device, began, ended = Path(ledger.folder, str(trial.number), "gpu").read_text().split()
            times.setdefault(device, []).append((float(began), float(ended)))
    assert set(times) == {"3", "7"}
    for spans in times.values():
        spans.sort()
        assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))
