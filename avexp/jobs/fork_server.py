"""Starts local jobs in milliseconds: a process that has imported what they need, has no threads, and forks for each.

``python -m avexp.jobs.fork_server CONCURRENT FOLDER MODULE ...`` reads a request a line from its standard input and answers with
lines of JSON. Its children belong to nobody: they go on when it, or whoever started it, is killed.
"""

import gc
import json
import os
import select
import signal
import sys
from collections import deque
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from avexp.core import stop_flag
from avexp.jobs import task
from avexp.jobs.gpus import lease, release


def main(words: list[str]) -> int:
    """Serve until the input ends; what has not started by then is dropped, what runs goes on."""
    concurrent, folder, *modules = words
    for name in modules:
        with suppress(Exception):  # the job itself will say what is wrong with it
            module = import_module(name)
            if hasattr(module, "prepare"):
                module.prepare(Path(folder))
    with suppress(Exception):
        warm()
    stop_flag.release()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the controller's
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    places = Places(int(concurrent))
    buffer = b""
    answer({"ready": os.getpid()})
    while True:
        ready, _, _ = select.select([0, wake_read], [], [], 5.0)
        if wake_read in ready:
            os.read(wake_read, 4096)
        if 0 in ready:
            part = os.read(0, 1 << 16)
            if not part:
                return 0
            *lines, buffer = (buffer + part).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if "drop" in request:
                    places.drop(request["drop"])
                else:
                    places.queue.append(request)
        places.reap()
        places.fill()


def warm() -> None:
    """What every job would find out anew, and what the collector would look through in each of them."""
    from avexp.core.config import SCHEMAS, schema
    from avexp.core.lock import packages

    packages()
    for stage in SCHEMAS:
        schema(stage)
    gc.collect()
    gc.freeze()


class Places:
    """So many jobs at a time, each with its share of cores and GPUs of its own; the others wait.

    Args:
        count: jobs at a time.
    """

    def __init__(self, count: int) -> None:
        self.free = list(range(count))
        self.count = count
        self.queue: deque[dict[str, Any]] = deque()
        self.children: dict[int, tuple[str, int]] = {}
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def fill(self) -> None:
        """Start what there is room for."""
        while self.free and self.queue:
            leases = lease(int(self.queue[0].get("gpus", 0)))
            if leases is None:
                return  # asked again as a job of this sweep ends, and every few seconds
            request, place = self.queue.popleft(), self.free.pop(0)
            environment = {"CUDA_VISIBLE_DEVICES": ",".join(one.name for one in leases)} if leases else {}
            pid = start({**request, "cores": self.share(place), "environment": environment})
            release(leases)
            self.children[pid] = request["token"], place
            answer({"token": request["token"], "pid": pid})

    def share(self, place: int) -> list[int]:
        """Cores of a place; none for all of them, where there is only one place."""
        if self.count == 1:
            return []
        each = max(1, len(self.cores) // self.count)
        first = place * each % max(1, len(self.cores))
        return self.cores[first : first + each]

    def reap(self) -> None:
        """Tell who ended, and how."""
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            token, place = self.children.pop(pid)
            self.free.append(place)
            answer({"token": token, "code": os.waitstatus_to_exitcode(status)})

    def drop(self, tokens: list[str]) -> None:
        """Take waiting jobs out of the queue."""
        self.queue = deque(request for request in self.queue if request["token"] not in tokens)


def answer(value: dict[str, Any]) -> None:
    """One line."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(value).encode() + b"\n")


def start(request: dict[str, Any]) -> int:
    """Fork a job; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stop_flag.install()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.environ.update(request.get("environment", {}))
        if request.get("cores"):
            os.sched_setaffinity(0, request["cores"])
        code = task.main(request["words"])
    except SystemExit as fault:
        code = fault.code if isinstance(fault.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
