"""One rank of a run on several processes: ``python -m avexp.train.rank <run folder>``. Started by train/launch.py."""

from avexp.core import stop_flag

stop_flag.install()  # before what takes long to import: the parent may be asked to stop meanwhile

import ctypes  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from avexp.core.errors import AvexpError  # noqa: E402
from avexp.core.preflight import typed  # noqa: E402
from avexp.core.resume import resumed_config  # noqa: E402
from avexp.core.run_folder import RunFolder  # noqa: E402

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
