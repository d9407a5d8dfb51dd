"""Ranks that SLURM started find each other through the run's folder, within a bound, and say who is missing."""

import json
import os
import socket
import time
from pathlib import Path

from avexp.core.errors import LostRankError
from avexp.core.files import write_json

TIMEOUT_S = 300.0
"""All ranks must have come within this [s]; AVEXP_RENDEZVOUS_S overrides it."""
POLL_S = 0.05


def meet(folder: Path, rank: int, count: int, local: int, local_count: int) -> None:
    """Wait for all ranks, and set the environment that torchrun would give.

    Args:
        folder: of the run, shared by all nodes.
        rank: of this process.
        count: of all.
        local: rank on this node.
        local_count: ranks on this node.

    Raises:
        LostRankError: ranks are missing when the time is over; names them.
    """
    parts = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
    meeting = "-".join(os.environ.get(name, "0") for name in parts)
    place = folder / "ranks" / meeting
    mine = {"host": os.environ.get("MASTER_ADDR") or socket.gethostname(), "port": _free_port(), "pid": os.getpid()}
    write_json(place / f"{rank}.json", {**mine, "node": os.environ.get("SLURMD_NODENAME", socket.gethostname())})
    bound = float(os.environ.get("AVEXP_RENDEZVOUS_S", TIMEOUT_S))
    until = time.monotonic() + bound
    while missing := [number for number in range(count) if not (place / f"{number}.json").is_file()]:
        if time.monotonic() > until:
            names = ", ".join(map(str, missing[:16]))
            nodes = os.environ.get("SLURM_JOB_NODELIST", "the job's nodes")
            what = f"rank {names} of {count} did not come within {bound:g} s"
            raise LostRankError(str(folder), what, f"see their logs, and whether {nodes} share this folder")
        time.sleep(POLL_S)
    first = json.loads((place / "0.json").read_text())
    os.environ.update({
        "RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(local), "LOCAL_WORLD_SIZE": str(local_count),
        "GROUP_RANK": os.environ.get("SLURM_NODEID", "0"), "MASTER_ADDR": first["host"],
        "MASTER_PORT": str(first["port"]), "TORCHELASTIC_RUN_ID": meeting,
    })  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
