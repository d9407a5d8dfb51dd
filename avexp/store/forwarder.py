"""The thread that empties an outbox while the run goes on. The run never waits for it, except at the end, and then bounded."""

import time
from collections.abc import Callable
from threading import Event, Thread

from avexp.core.errors import AvexpError
from avexp.store.outbox import Outbox

PAUSE_S = 2.0
PAUSE_MAX_S = 60.0


class Forwarder:
    """Sends every two seconds; a server that fails is asked less and less often.

    Args:
        make: makes the outbox, inside the thread (it may import for seconds).
        pause_s: between two passes [s].
    """

    def __init__(self, make: Callable[[], Outbox], pause_s: float = PAUSE_S) -> None:
        self.fault = ""
        self._make, self._pause_s = make, pause_s
        self._stop = Event()
        self._thread = Thread(target=self._run, name="avexp-tracking", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        outbox: Outbox | None = None
        pause_s = self._pause_s
        while True:
            # asked before the pass: what was written before close() is then in this pass or in one more
            last = self._stop.is_set()
            try:
                outbox = outbox or self._make()
                outbox.send()
                self.fault, pause_s = "", self._pause_s
            except Exception as fault:
                # whatever MLflow, a driver or the disk raises: training goes on, and the lines are kept
                self.fault = root_cause(fault)
                pause_s = min(2 * pause_s, PAUSE_MAX_S)
                last = last or self._stop.is_set()
            if last:
                return
            self._stop.wait(pause_s)

    def close(self, timeout_s: float) -> None:
        """Send what is left, and wait for it at most so long [s]; the thread is a daemon and does not hold the process."""
        self._stop.set()
        began = time.monotonic()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and not self.fault:
            self.fault = f"no answer within {time.monotonic() - began:.0f} s"


def root_cause(fault: BaseException) -> str:
    """The first cause of a chain of errors, in one line: MLflow wraps "Connection refused" four times."""
    while not isinstance(fault, AvexpError) and (cause := fault.__cause__ or fault.__context__) is not None:
        fault = cause
    text = getattr(fault, "strerror", None) or str(fault)
    return (text.splitlines() or [""])[0][:200] or type(fault).__name__
