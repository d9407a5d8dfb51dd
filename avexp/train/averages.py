"""Exponential moving average of the weights: what is validated and saved."""

from pytorch_lightning.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averages(WeightAveraging):
    """Lightning's weight averaging over all tensors at once: its own EMA callback goes one by one, three times as slow.

    Args:
        decay: share of the average that stays at each step.
        start_step: first step that is averaged.
    """

    def __init__(self, decay: float, start_step: int) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
        self.start_step = start_step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step from the first averaged one on."""
        return step_idx is not None and step_idx >= self.start_step
