"""What all ranks do together; in a run of one process each is the plain thing."""

from typing import Any

import torch.distributed as dist
from torch import Tensor


def together() -> bool:
    """Whether there are other ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank_place() -> tuple[int, int]:
    """Number of ranks, and this one's."""
    return (dist.get_world_size(), dist.get_rank()) if together() else (1, 0)


def gathered(value: Any) -> list[Any]:
    """Every rank's value, in their order, on every rank; plain Python objects."""
    if not together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def mean_over_ranks(counts: Tensor) -> Tensor:
    """Mean of a tensor over ranks: with DDP's mean of gradients, the sum over the global batch divided by its count."""
    if together():
        counts = counts.clone()
        dist.all_reduce(counts)
        counts = counts / dist.get_world_size()
    return counts
