"""What became of jobs that met their time limits (begun in limited.py)."""

import pytest
from slurm.jobs import end_at_time_limit
from slurm.sweeps import assert_survived

from avexp.jobs.task import starts

pytestmark = pytest.mark.slurm


def test_time_limit(limited):
    end_at_time_limit(limited.cluster, limited.folder, limited.job)


def test_limits_without_number_while_there_is_progress(limited):
    """submitit gives a job up at the fourth."""
    ledger = limited.ledger("warned")
    count = len(starts(ledger.folder / "0"))
    assert count > 4
    assert_survived(ledger, count=count)


@pytest.mark.parametrize("name", ["not warned", "in a step that is too long"])
def test_a_limit_without_a_warning(limited, name):
    ledger = limited.ledger(name)
    assert_survived(ledger, count=2, attempts=2)
    assert ledger.attempts()[0].state in ("TIMEOUT", "stopped")
