"""What a run costs: wall time, CPU- and GPU-hours, money. Sums go on when a run is resumed."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from avexp.core.errors import DataError
from avexp.core.files import read_json, write_json

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Cost:
    """A cost, or a sum of costs.

    Attributes:
        wall_s: time from beginning to end [s].
        cpu_hours: CPU time of all processes [h].
        gpu_hours: wall time times GPUs held [h].
        money: wall time times the price of what was held, in the currency of that price.
    """

    wall_s: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    money: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        mine, theirs = asdict(self), asdict(other)
        return Cost(**{name: mine[name] + theirs[name] for name in mine})

    def values(self) -> dict[str, float]:
        """As metrics: ``cost/wall_s`` and so on."""
        return {f"cost/{name}": value for name, value in asdict(self).items()}


class CostMeter:
    """Measures from its making on, and adds to what the file says of earlier parts of the run.

    ``others_cpu_s`` is what other ranks have used since then [s]; whoever knows sets it.

    Args:
        file: the run's cost file; made by ``save``.
        gpus: GPUs held, over all nodes.
        nodes: machines held where there are no GPUs; a share of one where others run on it.
        price_per_hour: of one GPU, or of one node where there is none, by the hardware profile; 0 if it costs nothing.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, file: Path, gpus: int = 0, nodes: float = 1.0, price_per_hour: float = 0.0) -> None:
        self.file, self.gpus, self.price = file, gpus, (gpus or nodes) * price_per_hour
        self.others_cpu_s = 0.0
        self._earlier = _read(file)
        self._began = time.monotonic()
        self._cpu_before_s = tree_cpu_s(os.getpid())
        self._cpu_s = 0.0

    def cpu_s(self) -> float:
        """CPU time of this process and those below it since the beginning [s]."""
        # a process that was not reaped by its parent takes its time with it: the sum must not fall
        self._cpu_s = max(self._cpu_s, tree_cpu_s(os.getpid()) - self._cpu_before_s)
        return self._cpu_s

    def now(self) -> Cost:
        """The run's cost so far."""
        wall_s = time.monotonic() - self._began
        cpu_hours = (self.cpu_s() + self.others_cpu_s) / SECONDS_PER_HOUR
        hours = wall_s / SECONDS_PER_HOUR
        return self._earlier + Cost(wall_s, cpu_hours, hours * self.gpus, hours * self.price)

    def save(self) -> Cost:
        """The cost so far, also in the file; after a kill the run is charged up to its last save."""
        cost = self.now()
        write_json(self.file, asdict(cost))
        return cost


def _read(file: Path) -> Cost:
    if not file.is_file():
        return Cost()
    try:
        return Cost(**{name: float(value) for name, value in read_json(file).items()})
    except (TypeError, ValueError, AttributeError) as fault:
        raise DataError(
            str(file), f"is no cost file ({fault})", "remove it; the run's earlier cost is then lost"
        ) from fault


def tree_cpu_s(pid: int) -> float:
    """CPU time of a process, its living descendants, and those of its children that have ended [s]."""
    try:
        top = psutil.Process(pid)
        return sum(_cpu_s(process) for process in [top, *top.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0.0


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
