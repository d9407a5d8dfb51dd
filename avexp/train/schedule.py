"""Learning-rate schedules over the whole run, stepped once an optimizer step."""

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupCosine(LRScheduler):
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017) down to a rest.

    Args:
        optimizer: whose rates to set.
        steps: of the whole run.
        warmup_share: of the steps for the warm-up.
        final_share: of the peak rate at the end.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup_share: float = 0.05, final_share: float = 0.01) -> None:
        self.steps, self.warmup, self.final_share = max(1, steps), max(1, round(steps * warmup_share)), final_share
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """Share of the peak rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * progress))

    def get_lr(self) -> list[float | Tensor]:
        """Rates of all parameter groups."""
        return [float(rate) * self.factor(self.last_epoch) for rate in self.base_lrs]


class Constant(WarmupCosine):
    """The peak rate throughout, after a warm-up."""

    def __init__(self, optimizer: Optimizer, steps: int, warmup_share: float = 0.0) -> None:
        super().__init__(optimizer, steps, warmup_share, final_share=1.0)
