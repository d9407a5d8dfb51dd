"""A lock between processes that is waited for only so long."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avexp.core.errors import RunError

POLL_S = 0.02


@contextmanager
def file_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold a file's lock during the block; the kernel frees it when the process dies, however it dies.

    Args:
        path: the lock file; made if absent and left there (removing it would let two holders in).
        timeout_s: how long to wait for another holder [s].

    Raises:
        RunError: another process holds it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + timeout_s
        while not taken(handle):
            if time.monotonic() >= deadline:
                raise RunError(str(path), f"another process has held this lock for {timeout_s:g} s", "try again later")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(handle)


def held(path: Path) -> bool:
    """Whether a process holds a file's lock now."""
    if not path.is_file():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not taken(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def taken(handle: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file if nobody else has it, without waiting; whether it is ours now. It ends when the file is closed."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
