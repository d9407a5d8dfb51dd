"""Batches copied to a GPU one step ahead, on a stream of its own, while the network works on the one before."""

from collections.abc import Iterator
from dataclasses import fields

import torch
from torch import Tensor

from avexp.records.batch import Batch


def copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on a device; the copies are asynchronous where the memory is pinned.

    Args:
        batches: on the host.
        device: a GPU; on any other the batches come as they are.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
        if waiting is not None:
            yield _handed_over(waiting, stream, device)
        waiting = moved
    if waiting is not None:
        yield _handed_over(waiting, stream, device)


def _handed_over(batch: Batch, stream: "torch.cuda.Stream", device: torch.device) -> Batch:
    """The network's stream waits for the copy, and the memory is not given out again before it is done with it."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(stream)
    for part in fields(batch):
        value = getattr(batch, part.name)
        if isinstance(value, Tensor):
            value.record_stream(current)
    return batch
