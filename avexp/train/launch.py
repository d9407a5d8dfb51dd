"""Several ranks on this machine: plain processes on the run's saved config, never sys.argv again (it would re-run a sweep).

On a cluster SLURM starts the ranks; here the parent starts them, each with the environment that torchrun would give.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avexp.core import stop_flag
from avexp.core.config import TrainConfig
from avexp.core.errors import LostRankError, RunError
from avexp.core.hardware import Hardware
from avexp.core.run_folder import RunFolder
from avexp.train.assemble import Rank
from avexp.train.rendezvous import meet

RANK_ENV = "AVEXP_RANK_OF"
"""Set in every rank: the run folder."""


def ranks_wanted(config: TrainConfig) -> int:
    """Processes of the run."""
    return max(1, devices(config)) * max(1, config.hardware.nodes)


def global_batch(config: TrainConfig) -> int:
    """Frames of one optimizer step, over all ranks."""
    return config.loader.batch_size * ranks_wanted(config) * config.trainer.accumulate


def lr_factor(config: TrainConfig) -> float:
    """By which the learning rate is scaled for this global batch: Goyal et al. 2017 (linear), Krizhevsky 2014 (sqrt)."""
    power = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}[config.trainer.lr_scaling]
    return float((global_batch(config) / config.trainer.reference_batch) ** power)


def devices(config: TrainConfig) -> int:
    """Processes a node: one a GPU; on a CPU as many as ``hardware.devices`` says."""
    return max(1, config.hardware.devices)


def nodes_held(hardware: Hardware) -> float:
    """Machines that the run holds: of one that it shares with other trials, the share of its cores."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = min(1.0, allowed * max(1, hardware.devices) / (os.cpu_count() or 1))
    return hardware.nodes * share


def is_rank() -> bool:
    """Whether this process is one of several."""
    return RANK_ENV in os.environ or slurm_tasks() > 1 or "TORCHELASTIC_RUN_ID" in os.environ


def slurm_tasks() -> int:
    """Tasks that ``srun`` started together with this one; 0 outside of its steps.

    A batch script has a SLURM_PROCID and its allocation's SLURM_NTASKS too: what is typed there is one process.
    """
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) if "SLURM_STEP_ID" in os.environ else 0


def join_ranks(run: RunFolder) -> Rank:
    """This process's place; ranks that SLURM started wait for each other first.

    Raises:
        LostRankError: some did not come.
    """
    rank = this_rank()
    if slurm_tasks() > 1 and "RANK" not in os.environ:
        local = int(
            os.environ.get("SLURM_NTASKS_PER_NODE") or slurm_tasks() // int(os.environ.get("SLURM_NNODES", "1"))
        )
        meet(run.path, rank.number, rank.count, rank.local, local)
    return rank


def environment_of(config: TrainConfig) -> Any:
    """Where Lightning learns of ranks: never from SLURM itself, whose signals it would take over."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    return TorchElasticEnvironment() if ranks_wanted(config) > 1 else LightningEnvironment()


def this_rank() -> Rank:
    """Number and count from the environment."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return Rank(number=int(os.environ["RANK"]), count=int(os.environ["WORLD_SIZE"]), local=local)
    if slurm_tasks() > 1:
        local = int(os.environ.get("SLURM_LOCALID", "0"))
        return Rank(number=int(os.environ["SLURM_PROCID"]), count=slurm_tasks(), local=local)
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
        LostRankError: a rank was killed.
    """
    port = _free_port()
    count = devices(config)
    mine = stop_flag.install()
    processes = [_start(run, number, count, port) for number in range(count)]
    told = False
    try:
        while any(process.poll() is None for process in processes):
            if stop_flag.asked() and not told:
                told = True
                for process in processes:
                    process.terminate()
            _raise_for(run, processes)
            time.sleep(0.2)
        _raise_for(run, processes)
    finally:
        if mine:
            stop_flag.release()
        for process in processes:
            if process.poll() is None and not told:
                process.terminate()
        for process in processes:
            process.wait(timeout=60)


def _raise_for(run: RunFolder, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """A rank that was killed says nothing against the run; one that ended badly does."""
    codes = [process.poll() or 0 for process in processes]
    for number, code in enumerate(codes):
        if code < 0:
            what = f"rank {number} of {len(codes)} was killed by signal {-code}"
            raise LostRankError(str(run.path), what, f"see {_log(run, number)}")
    for number, code in enumerate(codes):
        if code:
            raise RunError(str(run.path), f"rank {number} of {len(codes)} failed", f"see {_log(run, number)}")


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
