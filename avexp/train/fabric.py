"""What the network between ranks gives: latency of a small all-reduce, bus bandwidth of a large one (as nccl-tests count it)."""

import time
from dataclasses import dataclass
from statistics import median

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

from avexp.core.progress import console
from avexp.store.tracker import Tracker
from avexp.train.collective import together

SMALL, ROUNDS_SMALL, ROUNDS_LARGE = 2, 50, 5


@dataclass(frozen=True)
class Fabric:
    """Measured between all ranks.

    Attributes:
        ranks: that took part.
        latency_us: median of an all-reduce of 8 bytes [us].
        bandwidth_gb_s: 2 (n - 1) / n x bytes / time of the large one [GB/s].
    """

    ranks: int
    latency_us: float
    bandwidth_gb_s: float

    def __str__(self) -> str:
        return f"{self.ranks} ranks: all-reduce {self.latency_us:.0f} us, {self.bandwidth_gb_s:.2f} GB/s"


def measure(device: torch.device, mib: int = 64) -> Fabric:
    """All-reduce between the ranks of the running process group; every rank must call this.

    Args:
        device: that the tensors lie on.
        mib: of the large one [MiB].
    """
    count = dist.get_world_size()
    small, large = torch.ones(SMALL, device=device), torch.ones(mib << 18, device=device)
    latency = median(_seconds(small) for _ in range(ROUNDS_SMALL))
    taken = median(_seconds(large) for _ in range(ROUNDS_LARGE))
    return Fabric(count, latency * 1e6, 2 * (count - 1) / count * (mib << 20) / taken / 1e9)


def _seconds(tensor: torch.Tensor) -> float:
    dist.barrier()
    began = time.perf_counter()
    dist.all_reduce(tensor)
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began


class FabricCheck(Callback):
    """Measures before the first step of a run on several ranks, and says it.

    Args:
        tracker: takes the two numbers.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All ranks come here together."""
        if not together():
            return
        found = measure(pl_module.device)
        if trainer.is_global_zero:
            console.print(f"fabric: {found}", markup=False)
            values = {"fabric/latency_us": found.latency_us, "fabric/bandwidth_gb_s": found.bandwidth_gb_s}
            self.tracker.log(values, trainer.global_step)


def measure_here(rank: int, count: int, address: str, backend: str = "gloo") -> Fabric:
    """Join ranks at an address, measure, part.

    Args:
        rank: of this process.
        count: of all.
        address: such as ``tcp://127.0.0.1:1234``.
        backend: gloo or nccl.
    """
    from datetime import timedelta

    dist.init_process_group(backend, address, timedelta(seconds=120), count, rank)
    try:
        if backend != "nccl":
            return measure(torch.device("cpu"))
        place = rank % torch.cuda.device_count()  # a node's ranks follow each other; NCCL wants a GPU for each
        torch.cuda.set_device(place)
        return measure(torch.device("cuda", place))
    finally:
        dist.destroy_process_group()
