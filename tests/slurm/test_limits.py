"""What became of jobs that met their time limits, and of those that SLURM forgot (begun in limited.py)."""

import pytest
from slurm.jobs import end_at_time_limit, wait_for
from slurm.sweeps import assert_survived, pointed_at

from avexp.jobs.starts import starts
from avexp.jobs.sweep import run

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


@pytest.mark.parametrize(("name", "said"), [("accounting", "FAILED"), ("nobody", "lost")])
def test_a_controller_that_comes_after_slurm_forgot(limited, name, said):
    """The trial was killed; only accounting remembers it, or nobody does."""
    cluster, ledger = limited.forgetful[name]
    wait_for(lambda: not cluster.call("squeue", "-h", "-t", "all").stdout, 90, "SLURM to forget")
    with pointed_at(cluster):
        run(ledger)
    assert_survived(ledger, count=2, attempts=2)
    assert ledger.attempts()[0].state == said
