"""The checks that the real and the fake SLURM have in common say what they compared."""

import pytest

pytest.register_assert_rewrite("slurm.behaviour", "slurm.jobs")
