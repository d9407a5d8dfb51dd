"""What a stage refuses before it starts."""

import pytest

from avexp.core.progress import console
from avexp.core.stage import Entry, main


def test_copies_under_srun_are_refused(monkeypatch):
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}.items():
        monkeypatch.setenv(name, value)
    with console.capture() as captured, pytest.raises(SystemExit) as end:
        main(Entry("ci", "toy_stage:nothing"), ["seed=1"])
    assert end.value.code == 2
    assert "srun: starts 4 copies of this command; leave srun out and add hydra/launcher=slurm" in captured.get()
