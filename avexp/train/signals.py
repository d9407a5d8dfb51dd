"""A run that was asked to stop (core.stop_flag) saves at the next sound step, on all ranks together."""

from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

from avexp.core import stop_flag
from avexp.core.progress import console
from avexp.train.checkpointing import StepCheckpoint
from avexp.train.collective import together


class StopOnSignal(Callback):
    """Stops a run so that it can be resumed.

    Args:
        checkpoint: what saves.
    """

    def __init__(self, checkpoint: StepCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.stopped = False
        self._group: Any = None
        self._mine = stop_flag.install()  # a signal while the run starts up is heeded after its first step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once more, after Lightning has registered its own."""
        stop_flag.install()
        # flags go round among CPUs: a GPU is not stopped to be asked, and NCCL takes no CPU tensors
        self._group = dist.new_group(backend="gloo") if together() else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """All ranks agree, save at the next sound step, stop."""
        if self._any_rank():
            self.checkpoint.asked = True
            self.checkpoint.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if self.checkpoint.last == trainer.global_step:
                self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where the step before was an epoch's last."""
        if self._any_rank() and self.checkpoint.last == trainer.global_step:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        self.stopped = True
        trainer.should_stop = True
        raise StopTraining

    def _any_rank(self) -> bool:
        if not together():
            return stop_flag.asked()
        flag = torch.tensor(int(stop_flag.asked()))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag.item())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the handlers back, unless the job that this run is part of has them."""
        if self._mine:
            stop_flag.release()


class StopTraining(BaseException):
    """The run was saved and stops now."""


def say_stopped(path: str) -> None:
    """What to type next."""
    console.print(f"stopped and saved; go on with: python train.py resume={path}", markup=False, soft_wrap=True)
