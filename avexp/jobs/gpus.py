"""Leases of this machine's GPUs: one serves one local trial at a time, whichever sweep the trial is of.

A lease is a lock on a file that the trial's process holds: it ends with the process, however that ends.
"""

import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from avexp.core.file_lock import taken

NODE = re.compile(r"nvidia(\d+)")


@dataclass(frozen=True)
class Lease:
    """A GPU that nobody else takes while the file is open.

    Attributes:
        name: as CUDA_VISIBLE_DEVICES takes it.
        handle: open file; a forked process inherits it, and with it the lease.
    """

    name: str
    handle: int


def visible() -> list[str]:
    """GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else all of the machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    found = (NODE.fullmatch(path.name) for path in Path("/dev").glob("nvidia*"))
    return sorted((one.group(1) for one in found if one), key=int)


def lease(count: int, folder: Path | None = None) -> list[Lease] | None:
    """So many GPUs; None while too many are taken. Where there are not that many at all none is leased: the trial says so.

    Args:
        count: GPUs.
        folder: of the locks; one for all users of this machine if None.
    """
    names = visible() if count else []
    if count > len(names) or not count:
        return []
    place = folder or Path(tempfile.gettempdir()) / "avexp-gpus"
    with suppress(OSError):
        place.mkdir(exist_ok=True)
        place.chmod(0o1777)
    found: list[Lease] = []
    for name in names:
        if len(found) == count:
            break
        if (handle := _locked(place / _file(name))) is not None:
            found.append(Lease(name, handle))
    if len(found) == count:
        return found
    release(found)
    return None


def release(leases: list[Lease]) -> None:
    """Close the files here; a process that inherited them keeps the lease."""
    for one in leases:
        os.close(one.handle)


def _file(name: str) -> str:
    """Within an allocation of SLURM, GPUs may be numbered anew."""
    return re.sub(r"[^\w.-]", "_", f"{os.environ.get('SLURM_JOB_ID', '')}-{name}")


def _locked(path: Path) -> int | None:
    try:
        # opened before it is created: another user's file in a sticky folder refuses O_CREAT
        handle = os.open(path, os.O_RDWR) if path.exists() else os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return os.open(os.devnull, os.O_RDONLY)  # no locks on this machine: better shared than never started
    with suppress(OSError):
        os.fchmod(handle, 0o666)
    try:
        if taken(handle):
            return handle
    except OSError:
        return handle  # as above: a file system without locks
    os.close(handle)
    return None
