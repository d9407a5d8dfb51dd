"""Jobs and sweeps that meet their time limits, on a cluster of their own beside all other tests: SLURM looks twice a minute."""

from slurm.cluster import Cluster
from slurm.jobs import begin_time_limit
from slurm.sweeps import Runner, environment, plan_in, pointed_at

from avexp.jobs.ledger import Ledger

SWEEPS = {
    "warned": ("0.5", {"signal_s": 60}),  # of a minute: at each look
    "not warned": ("0.5", {"extra": {"signal": "CONT@1"}}),
    "in a step that is too long": ("9", {"extra": {"signal": "CONT@1"}}),  # than KillWait
}
WORK_S = 110


class Limited:
    """A job, and for each of SWEEPS a trial of some WORK_S in jobs of a minute.

    Args:
        folder: new.
    """

    def __init__(self, folder):
        self.folder, self.cluster, self.runners = folder, Cluster(1, gpus=0), {}

    def __enter__(self):
        self.cluster.start()
        self.job = begin_time_limit(self.cluster, self.folder)
        with pointed_at(self.cluster):
            for name, (step_s, options) in SWEEPS.items():
                folder = self.folder / "outputs" / "ci" / "x" / name.replace(" ", "-")
                words = ("seed=3", f"steps={WORK_S / float(step_s):.0f}")
                plan_in(folder, *words, time_min=1, restarts_without_progress=2, **options).close()
                variables = environment(self.cluster, TOY_STEP_S=step_s)
                self.runners[name] = Runner(folder, variables, self.folder / f"{folder.name}.log")
        return self

    def __exit__(self, *exc):
        for runner in self.runners.values():
            runner.process.kill()
            runner.process.wait()
        self.cluster.stop()

    def ledger(self, name):
        """Of a sweep, once it has ended."""
        runner = self.runners[name]
        assert runner.code(240) == 0, runner.log.read_text()
        return Ledger(runner.folder)
