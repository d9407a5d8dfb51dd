"""A rank that is gone is told from a fault of one's own."""

import subprocess

import pytest
from torch import distributed as dist

from avexp.core.errors import LostRankError, RunError
from avexp.core.run_folder import RunFolder
from avexp.train.collective import lost_rank_told
from avexp.train.launch import _raise_for

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer. This"


@pytest.mark.parametrize(
    "fault", [RuntimeError(GLOO), dist.DistNetworkError("Failed to recv"), dist.DistBackendError("x")]
)
def test_a_broken_collective_is_a_lost_rank(fault):
    with pytest.raises(LostRankError, match="^run: another rank is gone"), lost_rank_told("run"):
        raise fault


@pytest.mark.parametrize("fault", [RuntimeError("shapes differ"), ValueError("bad"), RunError("a", "b")])
def test_other_faults_stay_what_they_are(fault):
    with pytest.raises(type(fault)) as raised, lost_rank_told("run"):
        raise fault
    assert raised.value is fault


def test_local_ranks(tmp_path):
    ended = [subprocess.Popen(["sh", "-c", word]) for word in ("exit 1", "kill -9 $$", "exit 0")]
    for process in ended:
        process.wait()
    with pytest.raises(LostRankError, match="rank 1 of 3 was killed by signal 9"):
        _raise_for(RunFolder(tmp_path), ended)
    with pytest.raises(RunError, match="rank 0 of 2 failed"):
        _raise_for(RunFolder(tmp_path), [ended[0], ended[2]])
    _raise_for(RunFolder(tmp_path), ended[2:])
