"""SIGTERM and Ctrl-C: a handler that only sets a flag; the run saves at the next sound step and stops. Twice kills."""

import os
import signal
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

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
        self.asked = False
        self.stopped = False
        self._group: Any = None
        self._before: dict[int, Any] = {}
        self._install()  # from here on: a signal while the run starts up is heeded after its first step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Once more, after Lightning has registered its own."""
        self._install()
        # flags go round among CPUs: a GPU is not stopped to be asked, and NCCL takes no CPU tensors
        self._group = dist.new_group(backend="gloo") if together() else None

    def _install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._note)
            self._before.setdefault(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        os.write(2, b"\nstopping after this step (once more kills)\n")

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
            return self.asked
        flag = torch.tensor(int(self.asked))
        dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flag.item())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class StopTraining(BaseException):
    """The run was saved and stops now."""


def say_stopped(path: str) -> None:
    """What to type next."""
    console.print(f"stopped and saved; go on with: python train.py resume={path}", markup=False, soft_wrap=True)
