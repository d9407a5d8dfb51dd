"""One rank of a run on several processes: ``python -m avexp.train.rank <run folder>``. Started by train/launch.py."""

import sys
from pathlib import Path

from avexp.core.errors import AvexpError
from avexp.core.preflight import typed
from avexp.core.resume import resumed_config
from avexp.core.run_folder import RunFolder


def main(folder: str) -> int:
    """Fit this rank's share; the exit code."""
    from avexp.train.fit import fit

    run = RunFolder(Path(folder))
    try:
        fit(typed(resumed_config(run), "train"), run)
    except AvexpError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
