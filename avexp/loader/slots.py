"""Memory of image batches, used again and again: fresh pages for every batch cost a tenth of decoding it.

A slot is handed out again only when nothing refers to the array made of it any more (nor to a tensor on that array), so a
batch that somebody keeps is never overwritten.
"""

import mmap
import os
import weakref
from dataclasses import dataclass
from math import prod

import numpy as np

from avexp.loader.decode import Image

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory for one batch.

    Attributes:
        images: uint8 [B, H, W, 3].
        path: by which another process of this machine maps the same memory; empty where none can.
    """

    images: Image
    path: str = ""


class Slots:
    """Slots of one shape.

    Args:
        shape: [B, H, W, 3].
        shared: map them in other processes too.
        pinned: page-locked, for asynchronous copies to a GPU. PyTorch's allocator then keeps the memory, and does not give
            it out again before the copies from it are done.
    """

    def __init__(self, shape: Shape, shared: bool = False, pinned: bool = False) -> None:
        self.shape, self.shared, self.pinned = shape, shared, pinned
        self.made = 0
        self._free: list[tuple[mmap.mmap, str]] = []

    def take(self) -> Slot:
        """A slot that is free, or a new one."""
        if self.pinned:
            import torch

            return Slot(torch.empty(self.shape, dtype=torch.uint8, pin_memory=True).numpy())
        memory = self._free.pop() if self._free else self._new()
        root = np.frombuffer(memory[0], np.uint8)
        # an array keeps its root alive, not the arrays between; a tensor keeps its array
        weakref.finalize(root, self._free.append, memory).atexit = False
        return Slot(root[: prod(self.shape)].reshape(self.shape), memory[1])

    def _new(self) -> tuple[mmap.mmap, str]:
        size = max(1, prod(self.shape))
        self.made += 1
        if not self.shared:
            return mmap.mmap(-1, size), ""
        # memory without a name in a file system: nothing is left behind, however this process ends
        handle = os.memfd_create("avexp-batch")
        os.ftruncate(handle, size)
        return mmap.mmap(handle, size), f"/proc/{os.getpid()}/fd/{handle}"


def attach(path: str, shape: Shape) -> Image:
    """The images of another process's slot."""
    handle = os.open(path, os.O_RDWR)
    try:
        memory = mmap.mmap(handle, max(1, prod(shape)))
    finally:
        os.close(handle)
    return np.frombuffer(memory, np.uint8)[: prod(shape)].reshape(shape)
