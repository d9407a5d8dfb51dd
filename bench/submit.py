"""How soon a submitted trial runs on an idle SLURM: python bench/submit.py [--rounds 7]

By turns: ``sbatch`` of a script that writes the time down, and a sweep of one trial, from the moment it is submitted to the first
line of its job. On a real SLURM of four nodes on this machine (tests/slurm/cluster.py; needs root and Debian's packages).
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from record import HERE, versions, write

ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests"))
WAIT_S = 60.0
PAUSE_S = 2.0
"""Between two jobs, so that SLURM is idle again."""


def empty(cluster: Any, folder: Path) -> float:
    """Seconds from ``sbatch`` to the first line of an empty script."""
    said, script = folder / "said", folder / "empty.sh"
    script.write_text(f"#!/bin/sh\ndate +%s.%N > {said}.part && mv {said}.part {said}\n")
    began = time.time()
    cluster.call("sbatch", f"--output={folder}/log", str(script))
    while not said.is_file() and time.time() < began + WAIT_S:
        time.sleep(0.01)
    return float(said.read_text()) - began


def ours(folder: Path) -> float:
    """Seconds from the submission of a trial to its first line."""
    from avexp.jobs.launch import Launcher
    from avexp.jobs.starts import starts
    from avexp.jobs.sweep import SweepPlan, create, run

    plan = SweepPlan(
        folder=folder / "outputs" / "ci" / "x" / "sweep",
        stage="ci",
        function="toy_stage:nothing",
        words=["seed=1"],
        launcher=Launcher.of({"name": "slurm", "time_min": 10}),
    )
    ledger = create(plan)
    run(ledger)
    submitted = ledger.attempts(0)[0].submitted
    return float(starts(ledger.folder / "0")[0]["time"]) - submitted


def main() -> None:
    """By turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    from slurm.cluster import Cluster
    from slurm.packages import UnavailableError

    times: dict[str, list[float]] = {"sbatch": [], "avexp": []}
    with suppress(UnavailableError), Cluster(4) as cluster:
        os.environ.update(cluster.env(), PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}")
        for _ in range(rounds + 1):
            with tempfile.TemporaryDirectory() as folder:
                times["sbatch"].append(empty(cluster, Path(folder)))
                time.sleep(PAUSE_S)
                times["avexp"].append(ours(Path(folder)))
                time.sleep(PAUSE_S)
    if not times["avexp"]:
        raise SystemExit("no SLURM can be had here")
    figures = {name: round(median(one[1:]), 3) for name, one in times.items()}  # the first is cold
    figures["later_s"] = round(median(b - a for a, b in zip(times["sbatch"][1:], times["avexp"][1:], strict=True)), 3)
    print(figures)
    write("submit", figures, versions("submitit"), rounds=rounds)


if __name__ == "__main__":
    main()
