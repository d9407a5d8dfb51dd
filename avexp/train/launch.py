"""Several ranks on this machine: plain processes on the run's saved config, never sys.argv again (it would re-run a sweep).

On a cluster SLURM starts the ranks; here the parent starts them, each with the environment that torchrun would give.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from avexp.core.config import TrainConfig
from avexp.core.errors import RunError
from avexp.core.run_folder import RunFolder
from avexp.train.assemble import Rank

RANK_ENV = "AVEXP_RANK_OF"
"""Set in every rank: the run folder."""


def ranks_wanted(config: TrainConfig) -> int:
    """Processes of the run."""
    return max(1, devices(config)) * max(1, config.hardware.nodes)


def devices(config: TrainConfig) -> int:
    """Processes a node: one a GPU; on a CPU as many as ``hardware.devices`` says."""
    return max(1, config.hardware.devices)


def is_rank() -> bool:
    """Whether this process is one of several."""
    return RANK_ENV in os.environ or "SLURM_PROCID" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ


def this_rank() -> Rank:
    """Number and count from the environment."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return Rank(number=int(os.environ["RANK"]), count=int(os.environ["WORLD_SIZE"]), local=local)
    if "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        local = int(os.environ.get("SLURM_LOCALID", "0"))
        return Rank(number=int(os.environ["SLURM_PROCID"]), count=int(os.environ["SLURM_NTASKS"]), local=local)
    return Rank()


def strategy(config: TrainConfig) -> Any:
    """Lightning strategy: DDP over gloo on CPUs, NCCL on GPUs."""
    if config.trainer.strategy != "auto" or ranks_wanted(config) == 1:
        return config.trainer.strategy
    from datetime import timedelta

    from pytorch_lightning.strategies import DDPStrategy

    backend = "nccl" if config.hardware.accelerator.name == "cuda" else "gloo"
    # a neck makes levels that no chosen head looks at
    return DDPStrategy(find_unused_parameters=True, process_group_backend=backend, timeout=timedelta(minutes=10))


def threads_per_rank(config: TrainConfig) -> int:
    """CPU threads of torch: the cores of this process shared by the node's ranks."""
    cores = len(os.sched_getaffinity(0))
    return max(1, cores // devices(config))


def run_ranks(config: TrainConfig, run: RunFolder) -> None:
    """Start the ranks and wait; if one dies the others are ended.

    Raises:
        RunError: a rank failed; names it and its log.
    """
    port = _free_port()
    count = devices(config)
    processes = [_start(run, number, count, port) for number in range(count)]
    try:
        while any(process.poll() is None for process in processes):
            failed = [number for number, process in enumerate(processes) if process.poll() not in (None, 0)]
            if failed:
                raise RunError(str(run.path), f"rank {failed[0]} of {count} failed", f"see {_log(run, failed[0])}")
            time.sleep(0.2)
        failed = [number for number, process in enumerate(processes) if process.returncode != 0]
        if failed:
            raise RunError(str(run.path), f"rank {failed[0]} of {count} failed", f"see {_log(run, failed[0])}")
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            process.wait(timeout=60)


def _start(run: RunFolder, number: int, count: int, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        RANK_ENV: str(run.path),
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": run.id,
    }
    command = [sys.executable, "-m", "avexp.train.rank", str(run.path)]
    if number == 0:  # it keeps the terminal, the others write to their logs
        return subprocess.Popen(command, env=environment)
    with _log(run, number).open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _log(run: RunFolder, number: int) -> Path:
    return run.path / (f"rank{number}.txt" if number else "log.txt")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
