"""Which rank this process is, by what started it."""

import pytest

from avexp.train.assemble import Rank
from avexp.train.launch import is_rank, slurm_tasks, this_rank

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("variables", "tasks", "rank"),
    [({}, 0, Rank()), (BATCH, 0, Rank()), (STEP, 4, Rank(number=3, count=4, local=1))],
)
def test_only_tasks_of_a_step_are_ranks(monkeypatch, variables, tasks, rank):
    """What is typed in a batch script is one process, however many tasks its allocation has room for."""
    for name in ("RANK", "WORLD_SIZE", "AVEXP_RANK_OF", "TORCHELASTIC_RUN_ID", *STEP):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert slurm_tasks() == tasks
    assert is_rank() == (tasks > 1)
    assert this_rank() == rank
