"""Checkpoints at optimizer steps, from which a killed run goes on to bit-identical weights.

What Lightning's own ModelCheckpoint does not do (measured on 2.6): it saves in the middle of an accumulation window after
a resume, loses a validation that is due, confuses loop counters on an epoch's last batch, and its files are not atomic.
"""

import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from avexp.core.errors import RunError
from avexp.core.files import read_json, sync_folder, write_json
from avexp.core.progress import console
from avexp.core.run_folder import RunFolder

KEEP = 2
"""Newest step checkpoints that stay beside the best one."""


class AtomicIO(TorchCheckpointIO):
    """Writes beside the target, syncs, renames: a checkpoint is whole or not there."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write one checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.tmp{os.getpid()}")
        try:
            with aside.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(target)
            sync_folder(target.parent)
        except OSError as fault:
            raise RunError(
                str(target), f"cannot be written ({fault.strerror})", "free space, then resume=<run>"
            ) from fault
        finally:
            aside.unlink(missing_ok=True)


class StepCheckpoint(Callback):
    """Saves every n optimizer steps and at every epoch's end, and remembers the best validation.

    Args:
        run: where to.
        every: optimizer steps.
        monitor: validation value to be best in (higher is better).
    """

    def __init__(self, run: RunFolder, every: int, monitor: str) -> None:
        self.run, self.every, self.monitor = run, every, monitor
        self.last = 0
        self.best: float | None = None
        self.asked = False

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"last": self.last, "best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.last, self.best = state_dict["last"], state_dict["best"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is sound: a whole step is done, no validation is due, the epoch goes on."""
        loop = trainer.fit_loop
        due = self.asked or trainer.global_step - self.last >= self.every
        if not due or trainer.global_step == self.last or loop._should_accumulate():
            return
        if loop.epoch_loop.batch_progress.is_last_batch or loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            return
        self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the epoch's validation, and note whether it was the best."""
        if trainer.sanity_checking or trainer.global_step == self.last:
            return
        score = trainer.callback_metrics.get(self.monitor)
        fresh = bool(getattr(pl_module, "validated_epoch", -1) == trainer.current_epoch)
        better = fresh and score is not None and (self.best is None or float(score) > self.best)
        if better and score is not None:
            self.best = float(score)
        self.save(trainer)
        if better and trainer.is_global_zero:
            path = self.run.step_checkpoint(self.last)
            write_json(self.run.best_pointer, {"file": path.name, "step": self.last, self.monitor: self.best})
        self.tidy(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that ended before its first validation: its last checkpoint stands for the best."""
        if self.best is None and self.last and trainer.is_global_zero:
            path = self.run.step_checkpoint(self.last)
            write_json(self.run.best_pointer, {"file": path.name, "step": self.last})

    def save(self, trainer: Trainer) -> None:
        """Save after this step, on all ranks together."""
        self.last = trainer.global_step
        trainer.save_checkpoint(self.run.step_checkpoint(self.last), weights_only=False)
        self.tidy(trainer)

    def tidy(self, trainer: Trainer) -> None:
        """Remove step checkpoints that are neither new nor best."""
        if not trainer.is_global_zero:
            return
        best = self.run.best
        for old in self.run.step_checkpoints()[KEEP:]:
            if best is None or old.name != best.name:
                old.unlink(missing_ok=True)


def newest_valid(run: RunFolder) -> Path | None:
    """The newest checkpoint that loads; torn ones are named and passed over; leftovers of a kill are removed."""
    for leftover in run.checkpoints.glob("*.ckpt.tmp*"):
        leftover.unlink(missing_ok=True)
    for path in run.step_checkpoints():
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as fault:
            reason = str(fault).splitlines()[0][:100]
            console.print(f"{path.name} cannot be read ({reason}); going on from the one before", markup=False)
            continue
        return path
    return None


def best_score(run: RunFolder) -> dict[str, Any]:
    """What is known of the best checkpoint; empty if none was validated."""
    found: dict[str, Any] = read_json(run.best_pointer) if run.best_pointer.is_file() else {}
    return found
