import subprocess
import sys

import pytest

from avexp.core.errors import RunError
from avexp.core.file_lock import file_lock

HOLDER = """
import sys, time
from pathlib import Path
from avexp.core.file_lock import file_lock
with file_lock(Path(sys.argv[1]), 1):
    print("held", flush=True)
    time.sleep(60)
"""


def test_waits_only_so_long_and_a_killed_holder_frees_it(tmp_path):
    lock = tmp_path / "a" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=r"has held this lock for 0\.1 s; try again later"),
            file_lock(lock, 0.1),
        ):
            pass
        holder.kill()
    with file_lock(lock, 1):
        pass


def test_two_holders_in_one_process_exclude_each_other(tmp_path):
    lock = tmp_path / ".lock"
    with file_lock(lock, 1), pytest.raises(RunError), file_lock(lock, 0.05):
        pass
