"""A trial of a search reports each validation, and ends where the search prunes it: saved, so that it can be gone on with."""

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer

from avexp.core.run_folder import RunFolder
from avexp.jobs.study import Reporter, reporter_of
from avexp.train.collective import together
from avexp.train.signals import StopTraining
from avexp.train.tracking import Journal


class PruneTraining(StopTraining):
    """The run was saved, and the search wants no more of it."""


class TrialReports(Callback):
    """Reports from rank 0; all ranks end together.

    Args:
        run: folder of the trial.
        journal: knows the epoch's loss; comes before this in the trainer's callbacks.
    """

    def __init__(self, run: RunFolder, journal: Journal) -> None:
        self.run, self.journal = run, journal
        self._reporter: Reporter | None = None
        self._open = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the epoch's validation was saved."""
        if getattr(pl_module, "validated_epoch", -1) != trainer.current_epoch:
            return
        prune = False
        if trainer.is_global_zero:
            if not self._open:
                self._reporter, self._open = reporter_of(self.run.path), True
            if self._reporter is not None:
                validated: dict[str, float] = pl_module.validated  # type: ignore[assignment]
                values = {**validated, **{f"val/{name}": value for name, value in validated.items()}}
                prune = self._reporter.report(trainer.current_epoch + 1, values, self.journal.epoch_loss)
        if self._all(prune, pl_module.device) and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            raise PruneTraining

    def _all(self, prune: bool, device: torch.device) -> bool:
        if not together():
            return prune
        flag = torch.tensor(int(prune), device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())
