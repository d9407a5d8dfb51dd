"""What all ranks do together; in a run of one process each is the plain thing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch import Tensor

from avexp.core.errors import LostRankError

BROKEN = ("/gloo/", "Connection closed by peer", "Connection reset by peer", "NCCL error")
"""Parts of what a collective says of a rank that is gone; gloo has no exception of its own."""


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


@contextmanager
def lost_rank_told(where: str) -> Iterator[None]:
    """A collective that broke off tells of a rank that is gone, of a killed process or a dead node, not of a fault here.

    Args:
        where: the run.

    Raises:
        LostRankError: instead of what torch raises.
    """
    try:
        yield
    except RuntimeError as fault:
        if not isinstance(fault, dist.DistError) and not any(part in str(fault) for part in BROKEN):
            raise
        said = str(fault).splitlines()[0][:200]
        raise LostRankError(where, f"another rank is gone ({said})", "see the other ranks' logs") from fault
