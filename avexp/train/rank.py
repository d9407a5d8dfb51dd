"""One rank of a run on several processes: ``python -m avexp.train.rank <run folder>``. Started by train/launch.py."""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from avexp.core.errors import AvexpError
from avexp.core.preflight import typed
from avexp.core.run_folder import RunFolder


def main(folder: str) -> int:
    """Fit this rank's share; the exit code."""
    from avexp.train.fit import fit

    run = RunFolder(Path(folder))
    config = OmegaConf.load(run.config)
    assert isinstance(config, DictConfig)
    try:
        fit(typed(config, "train"), run)
    except AvexpError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
