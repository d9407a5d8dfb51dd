"""Measures one stream of batches in a process of its own: wall time and CPU time of the whole process tree.

Run in the interpreter of whoever is measured, so it needs nothing but psutil.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil

Batches = Iterator[Any]
"""Each with ``len()`` images in its first dimension."""


def tree_cpu_s() -> float:
    """User and system time of this process and all that it started, ended ones included."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_mib() -> float:
    """Proportional memory of the tree: shared pages count once."""
    me = psutil.Process()
    total = 0
    for process in [me, *me.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20


def touch(images: Any) -> int:
    """Look at a batch, as whoever copies it would begin to."""
    return int(images[:, 0, 0, 0].sum())


def measure(batches: Batches, seconds: float, began: float) -> dict[str, float]:
    """Take batches for so long, after a warm-up of a third of it.

    Args:
        batches: without end.
        seconds: to measure.
        began: when the stream was asked for (perf_counter).
    """
    touch(next(batches))
    first_s = time.perf_counter() - began
    end = time.perf_counter() + seconds / 3
    while time.perf_counter() < end:
        touch(next(batches))
    images, cpu, start = 0, tree_cpu_s(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = next(batches)
        touch(batch)
        images += len(batch)
    wall, cpu = time.perf_counter() - start, tree_cpu_s() - cpu
    return {
        "images_per_s": images / wall,
        "images_per_cpu_s": images / cpu,
        "first_batch_s": first_s,
        "memory_mib": memory_mib(),
    }


def main(contestants: dict[str, Callable[..., Iterable[Any]]]) -> None:
    """``python <module>.py NAME OPTIONS``: measure one and print the figures as the last line."""
    name, options = sys.argv[1], json.loads(sys.argv[2])
    seconds = options.pop("seconds")
    batches = contestants[name](**options)
    # imports and opening are over; processes are not up yet
    figures = measure(iter(batches), seconds, time.perf_counter())
    print("\n" + json.dumps({**figures, **getattr(batches, "extra", {})}), flush=True)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(0)  # some loaders do not end by themselves
