"""The LightningModule: augment on the device, forward, loss; validate by decoded predictions and KPIs."""

from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from avexp.augmentation.pipeline import Augmentation
from avexp.core.counter_random import seed32
from avexp.metrics.kpi import KpiAccumulator
from avexp.models.network import Network, combine
from avexp.models.postprocess import Postprocess
from avexp.records.batch import Batch
from avexp.records.prediction import Prediction
from avexp.train.collective import gathered, mean_over_ranks, rank_place
from avexp.train.predictor import image_size_of, predict
from avexp.train.truth import TruthSource, score_of


class Perception(LightningModule):
    """Trains one network.

    Args:
        network: to train.
        augmentation: of training batches.
        postprocess: decoded outputs -> Predictions.
        optimizer: parameters -> optimizer.
        schedule: (optimizer, steps) -> scheduler, stepped each step.
        truth: labels of validation frames by key.
        seed: of the run.
        steps: optimizer steps of the whole run.
        about: plain JSON that goes into each checkpoint: config, classes, dataset.
        channels_last: memory format.
        compiled: use torch.compile.
    """

    def __init__(
        self,
        network: Network,
        augmentation: Augmentation,
        postprocess: Postprocess,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., LRScheduler],
        truth: TruthSource,
        seed: int,
        steps: int,
        about: dict[str, Any],
        channels_last: bool = True,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]
        self.augmentation, self.postprocess = augmentation, postprocess
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.truth, self.seed, self.steps, self.about = truth, seed, steps, about
        self.channels_last = channels_last
        self.kpis = KpiAccumulator(network.classes)
        self.validated: dict[str, float] = {}
        self.validated_epoch = -1
        self._call: Callable[[Tensor], Any] = torch.compile(network) if compiled else network

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches move themselves."""
        return batch.to(device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Whatever draws (dropout) is a pure function of seed, epoch, batch and rank: a resumed run draws the same."""
        torch.manual_seed(seed32(self.seed, "step", self.current_epoch, batch_idx, self.global_rank))

    def forward(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        """Float [B, 3, H, W] -> raw outputs by head."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return cast(dict[str, dict[str, Tensor]], self._call(images))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Loss to minimise, and each head's own."""
        with torch.autocast(self.device.type, enabled=False):
            batch = self.augmentation(batch, self.current_epoch, self.network.size_px)
        raw = self(batch.images)
        with torch.autocast(self.device.type, enabled=False):
            loss, parts = combine(self.network.terms(raw, batch), self.network.loss_weights, mean_over_ranks)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at frames {', '.join(batch.keys[:4])} ...")
        return {"loss": loss, "parts": parts}

    def predictions(self, batch: Batch) -> list[Prediction]:
        """Predictions in camera pixels, of frames as the loader gives them at full size."""
        return predict(self.network, self, self.postprocess, batch)

    def on_validation_epoch_start(self) -> None:
        """Count afresh."""
        self.kpis = KpiAccumulator(self.network.classes)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch's evidence; fillers have no key."""
        predictions = self.predictions(batch)
        size = image_size_of(batch)
        for key, prediction in zip(batch.keys, predictions, strict=True):
            if key:
                labels, sensor = self.truth(key)
                self.kpis.update(key, prediction, labels, sensor, size)

    def on_validation_epoch_end(self) -> None:
        """KPIs over all ranks, each frame once; ``score`` is what is best in."""
        _, mine = rank_place()
        for rank, other in enumerate(gathered(self.kpis)):
            if rank != mine:
                self.kpis.merge(other)
        kpis = self.kpis.compute()
        self.validated = {**kpis, "score": score_of(kpis, list(self.network.heads))}
        self.validated_epoch = self.current_epoch
        for name, value in self.validated.items():
            self.log(name, value, logger=False, prog_bar=False, rank_zero_only=True)

    def configure_optimizers(self) -> Any:
        """One optimizer, its schedule stepped each step. Norms and biases are not decayed."""
        decayed = [value for value in self.network.parameters() if value.requires_grad and value.ndim > 1]
        plain = [value for value in self.network.parameters() if value.requires_grad and value.ndim <= 1]
        groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        optimizer = self.make_optimizer(params=groups)
        schedule = self.make_schedule(optimizer=optimizer, steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Plain JSON beside the tensors: loads with weights_only=True."""
        checkpoint["avexp"] = self.about
