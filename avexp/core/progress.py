"""Progress on a terminal as a bar, elsewhere as a few plain lines: never a redrawn bar in a log file."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)
"""The one console of the commands."""
LOG_EVERY_S = 15.0
"""Off a terminal a line is printed this often [s]."""
Advance = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


def say_json(value: Any) -> None:
    """For machines: one line; for a person, readable."""
    console.print_json(json.dumps(value)) if console.is_terminal else console.file.write(json.dumps(value) + "\n")


def columns() -> list[TextColumn | BarColumn | MofNCompleteColumn | TimeElapsedColumn | TimeRemainingColumn]:
    """The columns of every bar of the house."""
    return [
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """A bar that appears with the first advance."""
    if console.is_terminal:
        with Progress(*columns(), console=console) as progress:
            task = progress.add_task(what, total=None, visible=False, note="")
            yield lambda done, total: progress.update(task, completed=done, total=total, visible=True)
        return
    last = [0.0]

    def advance(done: int, total: int) -> None:
        if done == total or time.monotonic() - last[0] > LOG_EVERY_S:
            last[0] = time.monotonic()
            console.print(f"{what}: {done} of {total}")

    yield advance
