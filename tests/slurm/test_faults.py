"""Each fault of SLURM that was measured, on a real one: it happens to a trial, and the trial comes to what it would have."""

import os
import signal
import time

import pytest
from slurm.cluster import Cluster
from slurm.jobs import submit, wait_for
from slurm.sweeps import Runner, assert_cancelled, assert_survived, begun, environment, plan_in, pointed_at, run_while

from avexp.jobs.ledger import Ledger, State
from avexp.jobs.starts import born, starts
from avexp.jobs.sweep import run

pytestmark = pytest.mark.slurm
MARKED = "import pathlib, time\npathlib.Path({mark!r}).touch()\ntime.sleep(1)\n"
STEP_S = "0.3"


def send(word):
    """USR1 is what Lightning would wait for, USR2 what submitit sends, TERM what ends a job that was not warned."""
    return lambda cluster, ledger, number, start: cluster.call("scancel", f"--signal={word}", start["job"])


def kill(cluster, ledger, number, start):
    """As the kernel does where memory is short: no result, and no accounting either."""
    os.kill(start["pid"], signal.SIGKILL)


def power_cut(cluster, ledger, number, start):
    """Everything of the node dies, and nobody is told."""
    cluster.power_cut(start["node"])
    told = cluster.call("squeue", "-h", "-j", start["job"], "-o", "%T").stdout
    assert told == "RUNNING\n"


def slurmd_dies_and_comes_back(cluster, ledger, number, start):
    cluster.kill_slurmd(start["node"])
    time.sleep(4)
    cluster.power_on(start["node"])


def given_up_and_lives(cluster, ledger, number, start):
    """SLURM starts the trial elsewhere, while what it cannot reach runs on: one of them has to end, and nothing is done twice."""
    cluster.kill_slurmd(start["node"])
    cluster.report_down(start["node"])
    second = begun(ledger, number, count=2)
    wait_for(lambda: born(start["pid"]) != start["born"], 15, "the end of the first")
    assert born(second["pid"]) == second["born"]


def slurmstepd_is_left_to_tell(cluster, ledger, number, start):
    """It reports a batch script that ended badly: FAILED, and SLURM does not queue that again."""
    cluster.kill_tasks(start["node"])
    cluster.power_on(start["node"])


def requeued_by_a_person(cluster, ledger, number, start):
    assert cluster.call("scontrol", "requeue", start["job"]).returncode == 0


FAULTS = {  # what happens, starts, submissions
    "USR1": (send("USR1"), 2, 1),
    "USR2": (send("USR2"), 2, 1),
    "TERM": (send("TERM"), 2, 1),
    "killed": (kill, 2, 2),
    "power cut": (power_cut, 2, 1),
    "slurmd alone": (slurmd_dies_and_comes_back, 1, 1),
    "given up": (given_up_and_lives, 2, 1),
    "slurmstepd alone": (slurmstepd_is_left_to_tell, 2, 2),
    "requeued": (requeued_by_a_person, 2, 1),
}


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """A sweep with a trial for each fault, on nodes of their own; all at once."""
    folder = tmp_path_factory.mktemp("disturbed") / "outputs" / "ci" / "x" / "sweep"
    with Cluster(len(FAULTS) + 2, cpus=1, gpus=0) as cluster, pointed_at(cluster, TOY_STEP_S=STEP_S):
        ledger = plan_in(folder, f"seed=range(0,{len(FAULTS)})", "steps=60")

        def acting(number, act):
            return lambda: act(cluster, ledger, number, begun(ledger, number))

        run_while(ledger, cluster, *[acting(number, act) for number, (act, _, _) in enumerate(FAULTS.values())])
        yield ledger


@pytest.mark.parametrize("name", FAULTS)
def test_a_trial_survives(disturbed, name):
    _, count, attempts = FAULTS[name]
    assert_survived(disturbed, list(FAULTS).index(name), count, attempts)


def test_what_a_person_cancels_stays_cancelled(planned, slurm):
    """SLURM would queue it again if it asked for that."""
    ledger = planned("seed=1", "steps=400")
    run_while(ledger, slurm, lambda: slurm.call("scancel", begun(ledger, 0)["job"]))
    assert_cancelled(ledger)


def test_early_signals_are_not_deadly(planned, slurm, tmp_path, monkeypatch):
    """Before the batch script's step, before Python is up, and while it still imports."""
    mark, early = tmp_path / "python", tmp_path / "early"
    early.mkdir()
    (early / "sitecustomize.py").write_text(MARKED.format(mark=str(mark)))
    monkeypatch.setenv("PYTHONPATH", f"{early}:{os.environ['PYTHONPATH']}")
    monkeypatch.setenv("TOY_IMPORT_S", "1")
    ledger = planned("seed=3", "steps=20", setup=[f"touch {tmp_path}/batch", "sleep 1"])

    def act():
        def shout(*options):
            for word in ("USR1", "USR2"):
                assert slurm.call("scancel", *options, f"--signal={word}", job).returncode == 0

        wait_for((tmp_path / "batch").exists)
        job = slurm.call("squeue", "-h", "-o", "%A").stdout.strip()
        shout("--batch")
        wait_for(mark.exists)
        shout("--full")
        wait_for(lambda: starts(ledger.folder / "0"))
        shout()

    run_while(ledger, slurm, act)
    assert_survived(ledger, count=2)


def test_preemption_saves_and_goes_on(planned, slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", STEP_S)
    ledger = planned("seed=range(0,4)", "steps=30", extra={"exclusive": True})

    def act():
        for number in range(4):
            begun(ledger, number)
        submit(slurm, tmp_path, "sleep 1", "--partition=urgent", "--exclusive", "--nodes=2")

    run_while(ledger, slurm, act)
    counts = [len(starts(ledger.folder / str(number))) for number in range(4)]
    assert sorted(counts) == [1, 1, 2, 2]
    for number, count in enumerate(counts):
        assert_survived(ledger, number, count)


def test_slurmctld_restarts(tmp_path):
    """A trial that goes on meanwhile, one that ends, and one that wants back into the queue when nobody takes it."""
    with Cluster(1, gpus=0, settings="MessageTimeout=2") as cluster, pointed_at(cluster, TOY_STEP_S=STEP_S):
        ledger = plan_in(tmp_path / "outputs" / "ci" / "x" / "sweep", "seed=1", "steps=70,16,30")

        def act():
            jobs = [begun(ledger, number) for number in range(3)]
            cluster.stop_controller()
            os.kill(jobs[2]["pid"], signal.SIGUSR2)
            wait_for(lambda: len(list((ledger.folder / "results").glob("*.json"))) == 2, what="an end and a plea")
            cluster.restart_controller()

        run_while(ledger, cluster, act)
        assert_survived(ledger, 0)
        assert_survived(ledger, 1)
        assert_survived(ledger, 2, count=2, attempts=2)


def test_dependencies(planned, slurm, tmp_path):
    bad, good = submit(slurm, tmp_path, "exit 1", "--array=0-1"), submit(slurm, tmp_path, "sleep 1")
    never = planned("seed=3", "steps=1", dependency=f"afterok:{bad}", folder="never")
    run(never)
    assert [trial.state for trial in never.each()] == [State.cancelled]
    ledger = planned("seed=3", "steps=2", dependency=f"afterany:{bad},afterok:{good}")
    run(ledger)
    assert_survived(ledger)


def test_a_node_that_breaks_every_job_is_avoided(planned, slurm):
    """SLURM itself would take the first node again and again."""
    ledger = planned("seed=1", "steps=4", "only=[broken node]")
    run(ledger)
    assert_survived(ledger, count=2, attempts=2, ahead=False)
    first, second = (start["node"] for start in starts(ledger.folder / "0"))
    assert first != second


def test_the_only_node_is_not_avoided(tmp_path):
    with Cluster(1, cpus=1, gpus=0) as cluster, pointed_at(cluster):
        ledger = plan_in(tmp_path / "outputs" / "ci" / "x" / "sweep", "seed=1", "steps=4", "only=[broken node]")
        run(ledger)
        trial = ledger.trial(0)
        assert (trial.state, trial.attempts) == (State.failed, 3)
        assert trial.reason.startswith("no progress in 3 starts from step 0")


def test_a_killed_launcher_finds_its_jobs_again(planned, slurm, tmp_path):
    ledger = planned("seed=range(0,4)", "steps=25")
    runner = Runner(ledger.folder, environment(slurm, TOY_STEP_S=STEP_S), tmp_path / "controller.log")
    begun(ledger, 3)
    runner.kill()
    assert runner.code(120) == 0, runner.log.read_text()
    for number in range(4):
        assert_survived(Ledger(ledger.folder), number)


def test_memory_limits_and_a_power_cut_with_accounting(tmp_path):
    """SLURM ends what takes too much: once is bad luck, always is a reason. sacct says NODE_FAIL of what is queued again."""
    settings = "JobAcctGatherParams=OverMemoryKill\nJobAcctGatherFrequency=task=1"
    with (
        Cluster(4, cpus=1, gpus=0, accounting=True, settings=settings) as cluster,
        pointed_at(cluster, TOY_STEP_S=STEP_S),
    ):
        folder = tmp_path / "outputs" / "ci" / "x" / "sweep"
        ledger = plan_in(folder, "seed=3", "steps=15", "only=[],[hog once],[hog]")

        def cut():
            start = begun(ledger)
            cluster.power_cut(start["node"])
            cluster.report_down(start["node"])
            wait_for(lambda: "NODE_FAIL" in cluster.call("sacct", "-n", "-X", "-D", "-j", start["job"]).stdout)

        run_while(ledger, cluster, cut)
        assert_survived(ledger, 0, count=2)
        assert_survived(ledger, 1, count=2, attempts=2)
        hog = ledger.trial(2)
        assert (hog.state, hog.attempts) == (State.failed, 3)
        assert hog.reason.startswith("out of memory in 3 starts from step 0; ask for more")
