"""One rank of a run on several processes: ``python -m avexp.train.rank <run folder>``. Started by train/launch.py."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from avexp.core.errors import AvexpError
from avexp.core.preflight import typed
from avexp.core.resume import resumed_config
from avexp.core.run_folder import RunFolder

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """A parent that is killed must not leave ranks behind that write into a run which is gone on with elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:  # it died before
            raise SystemExit(1)


def main(folder: str) -> int:
    """Fit this rank's share; the exit code."""
    from avexp.train.fit import fit

    end_with_parent()
    run = RunFolder(Path(folder))
    try:
        fit(typed(resumed_config(run), "train"), run)
    except AvexpError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
