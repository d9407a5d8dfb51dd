"""This machine as a backend: processes of their own session, which go on when the launcher is closed or killed."""

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from avexp.core.errors import RunError
from avexp.jobs.backend import Batch, Phase, Seen
from avexp.jobs.ledger import Attempt
from avexp.jobs.snapshot import environment, python
from avexp.jobs.starts import born, starts

READY_S = 120.0
"""A fork server that has imported torch is up within this [s]."""
BACKLOG = 16
"""Jobs that wait in the fork server, so that a place never waits for the controller."""


class LocalBackend:
    """Forks jobs.

    Args:
        concurrent: jobs at a time; each gets its share of cores, and GPUs of its own where the profile has some.
        modules: that jobs import: imported once; a function ``prepare(folder)`` of theirs is called once too.
        folder: of the sweep.
    """

    name = "local"
    poll_s = (0.01, 0.5)
    limit: int | None = None

    def __init__(self, concurrent: int, modules: Sequence[str], folder: Path) -> None:
        self.concurrent, self.modules = max(1, concurrent), list(modules)
        self.folder, self.log = folder, folder / "local.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._code: Path | None = None
        self._buffer = b""
        self._codes: dict[str, int] = {}
        self._pids: dict[str, int] = {}
        self._queued: dict[str, str] = {}

    def room(self, living: int) -> int:
        """See Backend."""
        return max(0, self.concurrent + BACKLOG - living)

    def submit(self, batch: Batch) -> list[str]:
        """See Backend."""
        if int(batch.shape.get("nodes") or 1) > 1:
            raise RunError(
                "hardware.nodes", "several nodes need a cluster", "use hydra/launcher=slurm, or hardware.nodes=1"
            )
        self._start(batch.code)
        assert self._server is not None
        assert self._server.stdin is not None
        gpus = int(batch.shape.get("devices") or 1) if batch.shape.get("accelerator") == "cuda" else 0
        requests = [
            {"token": attempt.token, "words": [str(batch.file), str(index)], "gpus": gpus}
            for index, attempt in enumerate(batch.attempts)
        ]
        why = "waits for a GPU" if gpus else "waits for a place"
        self._queued |= dict.fromkeys((attempt.token for attempt in batch.attempts), why)
        self._say(*requests)
        return [f"{socket.gethostname()}::{self._server.pid}" for _ in batch.attempts]

    def find(self, batch: str, count: int) -> list[str] | None:
        """See Backend: a job that started has written so, and is found by its own file; else it never was."""
        return None

    def look(self, attempts: Sequence[Attempt]) -> dict[str, Seen]:
        """See Backend."""
        self._hear(0.0)
        return {attempt.token: self._seen(attempt) for attempt in attempts}

    def wait(self, seconds: float) -> None:
        """See Backend."""
        if self._server is None or self._server.poll() is not None:
            time.sleep(seconds)
        else:
            self._hear(seconds)

    def _seen(self, attempt: Attempt) -> Seen:
        host = (attempt.job or "").partition(":")[0]
        if host and host != socket.gethostname():
            return Seen(Phase.unknown, node=host, reason=f"runs on {host}")
        if attempt.token in self._codes:
            code = self._codes[attempt.token]
            word = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            return Seen(Phase.ended, word, host, word)
        if attempt.token in self._pids or self._lives(attempt):
            return Seen(Phase.running, "RUNNING", host)
        if attempt.token in self._queued and self._server is not None and self._server.poll() is None:
            return Seen(Phase.waiting, "PENDING", host, self._queued[attempt.token])
        return Seen(Phase.gone, "", host, "the process is gone")

    def _lives(self, attempt: Attempt) -> int:
        """Process of an attempt that another controller started; 0 if it is not there (any more)."""
        for start in starts(self.folder / str(attempt.trial)):
            if start["token"] == attempt.token and start["born"] and born(int(start["pid"])) == start["born"]:
                return int(start["pid"])
        return 0

    def cancel(self, attempts: Sequence[Attempt]) -> None:
        """See Backend."""
        self._hear(0.0)
        waiting = [attempt.token for attempt in attempts if attempt.token in self._queued.keys() - self._pids.keys()]
        if waiting:
            self._say({"drop": waiting})
            for token in waiting:
                del self._queued[token]
        for attempt in attempts:
            number = self._pids.get(attempt.token) or self._lives(attempt)
            if number > 1:
                with suppress(ProcessLookupError):
                    os.killpg(number, signal.SIGTERM)

    def close(self) -> None:
        """See Backend."""
        if self._server is not None:
            if self._server.stdin:
                self._server.stdin.close()
            if self._server.stdout:
                self._server.stdout.close()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(10)
            self._server = None

    def _start(self, code: Path | None) -> None:
        if self._server is not None and self._server.poll() is None and self._code == code:
            return
        self.close()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [python(), "-m", "avexp.jobs.fork_server", str(self.concurrent), str(self.folder), *self.modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment(code)},
                start_new_session=True,
            )
        self._code, self._buffer = code, b""
        until = time.monotonic() + READY_S
        while not any("ready" in said for said in self._hear(1.0)):
            if time.monotonic() > until or self._server.poll() is not None:
                raise self._died()

    def _say(self, *requests: dict[str, Any]) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
            self._server.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def _hear(self, timeout_s: float) -> list[dict[str, Any]]:
        """What the server said; process ids and exit codes are kept."""
        if self._server is None or self._server.stdout is None:
            return []
        found = []
        while select.select([self._server.stdout], [], [], timeout_s)[0]:
            part = os.read(self._server.stdout.fileno(), 1 << 16)
            if not part:
                break
            *lines, self._buffer = (self._buffer + part).split(b"\n")
            found += [json.loads(line) for line in lines]
            timeout_s = 0.0
        self._pids |= {said["token"]: int(said["pid"]) for said in found if "pid" in said}
        self._codes |= {said["token"]: int(said["code"]) for said in found if "code" in said}
        return found

    def _died(self) -> RunError:
        return RunError("local launcher", "the process that starts jobs died", f"see {self.log}")
