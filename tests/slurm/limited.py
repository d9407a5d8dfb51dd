"""What takes SLURM minutes, begun before all other tests on clusters beside theirs: it looks at time limits twice a minute, and
forgets jobs that have ended but once a minute.
"""

import os
import signal
from contextlib import ExitStack

from slurm.cluster import Cluster
from slurm.jobs import begin_time_limit
from slurm.sweeps import Runner, begun, environment, plan_in, pointed_at

from avexp.jobs.ledger import Ledger
from avexp.jobs.sweep import run

SWEEPS = {
    "warned": ("0.5", {"signal_s": 60}),  # of a minute: at each look
    "not warned": ("0.5", {"extra": {"signal": "CONT@1"}}),
    "in a step that is too long": ("9", {"extra": {"signal": "CONT@1"}}),  # than KillWait
}
WORK_S = 110
FORGETFUL = {"accounting": True, "nobody": False}


class Limited:
    """A job, and for each of SWEEPS a trial of some WORK_S in jobs of a minute; and for each of FORGETFUL a killed trial.

    Args:
        folder: new.
    """

    def __init__(self, folder):
        self.folder, self.cluster, self.runners, self.forgetful = folder, Cluster(1, gpus=0), {}, {}

    def __enter__(self):
        with ExitStack() as stack:
            stack.enter_context(self.cluster)
            self._begin_limits(stack)
            for name, accounting in FORGETFUL.items():
                cluster = Cluster(1, gpus=0, accounting=accounting, settings="MinJobAge=2")
                self.forgetful[name] = stack.enter_context(cluster), self._killed(cluster, name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        self._stack.close()

    def _begin_limits(self, stack):
        self.job = begin_time_limit(self.cluster, self.folder)
        with pointed_at(self.cluster):
            for name, (step_s, options) in SWEEPS.items():
                folder = self._sweep(name.replace(" ", "-"))
                words = ("seed=3", f"steps={WORK_S / float(step_s):.0f}")
                plan_in(folder, *words, time_min=1, restarts_without_progress=2, **options).close()
                variables = environment(self.cluster, TOY_STEP_S=step_s)
                self.runners[name] = Runner(folder, variables, self.folder / f"{folder.name}.log")
                stack.callback(self.runners[name].end)

    def _killed(self, cluster, name):
        with pointed_at(cluster, TOY_STEP_S="0.3"):
            ledger = plan_in(self._sweep(name), "seed=3", "steps=15")
            run(ledger, submit_only=True)
            os.kill(begun(ledger)["pid"], signal.SIGKILL)
        return ledger

    def _sweep(self, name):
        return self.folder / "outputs" / "ci" / "x" / name

    def ledger(self, name):
        """Of a sweep, once it has ended."""
        runner = self.runners[name]
        assert runner.code(240) == 0, runner.log.read_text()
        return Ledger(runner.folder)
