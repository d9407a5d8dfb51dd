"""The fake SLURM behaves as the real one (the same checks run on both), and its faults are what they say."""

import pytest

pytest.register_assert_rewrite("slurm.behaviour")

from fakes.slurm.fake_slurm import FakeSlurm
from slurm.behaviour import Behaviour


@pytest.fixture
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fake")
    with FakeSlurm(folder, max_array=50, minute_s=2, kill_wait_s=2, requeue_s=0.2) as slurm:
        yield slurm


class TestAsTheReal(Behaviour):
    pass
