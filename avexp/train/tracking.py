"""What a run tells of itself while it trains: step and epoch values to the tracker, a bar and lines to the terminal."""

import time
from dataclasses import asdict
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.progress import Progress, TaskID
from torch import Tensor

from avexp.core.progress import LOG_EVERY_S, columns, console
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset
from avexp.store.cost import CostMeter
from avexp.store.tracker import Tracker
from avexp.train.collective import gathered, mean_over_ranks, rank_place

HEADLINES = {"objects/ap50": "AP50", "lanes/f1": "lane F1", "drivable/iou": "IoU", "path/error_2s_m": "path@2s [m]"}


class Journal(Callback):
    """Sends losses every n steps, and means and KPIs each epoch. Sums live in the checkpoint, so that a resumed epoch's
    mean is that of the whole epoch.

    Args:
        tracker: where to.
        every: steps between two step entries.
        meter: what the run costs.
    """

    def __init__(self, tracker: Tracker, every: int, meter: CostMeter) -> None:
        self.tracker, self.every, self.meter = tracker, every, meter
        self.sums: dict[str, Tensor | float] = {}
        self.epoch_loss = float("nan")
        self.count = 0
        self.waited_s = 0.0
        self.busy_s = 0.0
        self._mark: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Each rank's sums, as plain values; every rank comes here together."""
        mine = {name: float(value) for name, value in self.sums.items()}
        return {"ranks": gathered(mine), "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there: with this rank's own sums, or with the mean where the number of ranks is another."""
        ranks = state_dict.get("ranks") or [state_dict["sums"]]  # older checkpoints have the first rank's only
        count, rank = rank_place()
        mean = {name: sum(one[name] for one in ranks) / len(ranks) for name in ranks[0]}
        self.sums, self.count = dict(ranks[rank]) if len(ranks) == count else mean, int(state_dict["count"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Time begins."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Time since the last step was spent waiting for data."""
        now = time.perf_counter()
        if self._mark is not None:
            self.waited_s += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up, and log every n steps."""
        now = time.perf_counter()
        if self._mark is not None:
            self.busy_s += now - self._mark
        values = {"loss": outputs["loss"].detach(), **{f"loss/{name}": v for name, v in outputs["parts"].items()}}
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value  # on its device: reading it would stop a GPU
        self.count += 1
        if trainer.global_step % self.every == 0 and not trainer.fit_loop._should_accumulate():
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            step_values = {f"train/{name}": value for name, value in _over_ranks(values).items()}
            self.tracker.log({**step_values, "train/lr": float(rate)}, trainer.global_step)
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Epoch means and KPIs."""
        values = {f"epoch/{name}": total / max(1, self.count) for name, total in _over_ranks(self.sums).items()}
        self.epoch_loss = float(values.get("epoch/loss", float("nan")))
        if getattr(pl_module, "validated_epoch", -1) == trainer.current_epoch:
            validated: dict[str, float] = pl_module.validated  # type: ignore[assignment]
            values |= {f"val/{name}": value for name, value in validated.items()}
        self._charge(trainer)
        if trainer.is_global_zero:
            values |= self.meter.now().values()
            values["data/wait_share"] = self.wait_share
        self.tracker.log({**values, "epoch/number": float(trainer.current_epoch)}, trainer.global_step)
        self.sums, self.count = {}, 0

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A run that is killed was charged up to where it goes on."""
        self._charge(trainer)

    def _charge(self, trainer: Trainer) -> None:
        """Write the cost down, with what all ranks used. Every rank must call this."""
        self.meter.others_cpu_s = sum(gathered(self.meter.cpu_s())) - self.meter.cpu_s()
        if trainer.is_global_zero:
            self.meter.save()

    @property
    def wait_share(self) -> float:
        """Share of the training time that the step waited for data."""
        return self.waited_s / max(1e-9, self.waited_s + self.busy_s)


def report_tiers(dataset: Dataset, tracker: Tracker, step: int) -> None:
    """One line and metrics of what the cache did in this process; nothing without an object store."""
    if isinstance(dataset.source, Tiers):
        dataset.source.close()
        stats = dataset.source.stats()
        tracker.log({f"data/cache_{name}": float(value) for name, value in asdict(stats).items()}, step)
        console.print(f"cache {dataset.source.cache.folder}: {stats}", markup=False)


def _over_ranks(values: dict[str, Tensor | float]) -> dict[str, float]:
    """Each rank knows its share of a global batch's loss: their mean is the loss. Every rank must call this."""
    if not values:
        return {}
    stacked = torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in values.values()])
    return dict(zip(values, mean_over_ranks(stacked).tolist(), strict=True))


class TrainBar(Callback):
    """One bar for the whole run on a terminal, a line now and then elsewhere; a line a validation on both.

    Args:
        steps: optimizer steps of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._said = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        if trainer.is_global_zero and console.is_terminal:
            self._progress = Progress(*columns(), console=console)
            self._task = self._progress.add_task("train", total=self.steps, completed=trainer.global_step, note="")
            self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it."""
        if not trainer.is_global_zero:
            return
        if self._progress is not None:
            self._progress.update(self._task, completed=trainer.global_step, note=f"loss {float(outputs['loss']):.3f}")
        elif time.monotonic() - self._said > LOG_EVERY_S:
            self._said = time.monotonic()
            console.print(f"train: step {trainer.global_step} of {self.steps}, loss {float(outputs['loss']):.3f}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the validation's headline KPIs."""
        if trainer.is_global_zero and getattr(pl_module, "validated_epoch", -1) == trainer.current_epoch:
            kpis: dict[str, float] = pl_module.validated  # type: ignore[assignment]
            parts = [f"{text} {kpis[name]:.3f}" for name, text in HEADLINES.items() if name in kpis]
            console.print(f"epoch {trainer.current_epoch + 1}: " + ", ".join([*parts, f"score {kpis['score']:.3f}"]))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
