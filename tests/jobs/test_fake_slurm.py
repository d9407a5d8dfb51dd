"""Sweeps on the fake SLURM: faults as many as one likes."""

import time

import pytest
from fakes.slurm.fake_slurm import FakeSlurm
from slurm.jobs import wait_for
from slurm.sweeps import (
    Runner,
    assert_as_if_nothing_happened,
    assert_cancelled,
    assert_survived,
    begun,
    disturb,
    environment,
    run_while,
)

from avexp.jobs.ledger import Ledger, State
from avexp.jobs.slurm import SlurmBackend
from avexp.jobs.sweep import run

QUICK = {"grace_s": 1.0}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    with FakeSlurm(tmp_path / "slurm", slots=4, requeue_s=0.1) as fake:
        for name, value in fake.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(SlurmBackend, "poll_s", (0.2, 1.0))
        yield fake


def on_slurm(planned, *words, **options):
    return planned(*words, name="slurm", time_min=10, grace_s=options.pop("grace_s", 1.0), **options)


def test_a_sweep_is_one_array_and_ends(planned, slurm):
    ledger = on_slurm(planned, "seed=range(0,5)", "steps=3", concurrent=2)
    run(ledger)
    assert [trial.state for trial in ledger.each()] == [State.finished] * 5
    assert {attempt.batch for attempt in ledger.attempts()} == {ledger.attempts()[0].batch}
    script = next((ledger.folder / "batches").glob("*.sh")).read_text()
    for line in (
        "#SBATCH --array=0-4%2",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=USR2@120",
        "trap '' USR1 USR2",
    ):
        assert line in script


def test_shapes_go_into_arrays_of_their_own(planned, slurm):
    ledger = on_slurm(planned, "hardware.devices=1,2", "seed=1,2", "steps=1")
    run(ledger)
    scripts = [path.read_text() for path in sorted((ledger.folder / "batches").glob("*.sh"))]
    assert sorted("--ntasks-per-node=2" in text for text in scripts) == [False, True]
    assert [trial.state for trial in ledger.each()] == [State.finished] * 4


def test_a_cluster_that_is_down_concludes_nothing(planned, slurm):
    ledger = on_slurm(planned, "seed=1,2", "steps=30")
    down = []

    def look(one):
        if not down and one.counts().get("running"):
            down.append(slurm.inject("down", seconds=3))

    run(ledger, show=look)
    assert down
    assert [trial.state for trial in ledger.each()] == [State.finished] * 2
    assert [trial.attempts for trial in ledger.each()] == [1, 1]


def test_an_invalid_option_is_said_at_once(planned, slurm):
    from avexp.core.errors import RunError

    ledger = on_slurm(planned, "seed=1", "steps=1", extra={"no-such-option": "1"})
    with pytest.raises(RunError):
        run(ledger)
    assert ledger.trial(0).state is State.planned


def test_a_job_that_someone_cancels_is_cancelled(planned, slurm, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.1")
    ledger = on_slurm(planned, "seed=1", "steps=400")
    run_while(ledger, slurm, lambda: slurm.call("scancel", begun(ledger, 0)["job"]))
    assert_cancelled(ledger)


@pytest.mark.slow
def test_one_that_is_cancelled_and_cannot_save_is_too(planned, slurm, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "20")
    ledger = on_slurm(planned, "seed=1", "steps=3")

    def act():
        job = begun(ledger, 0)["job"]
        slurm.call("scancel", job)
        slurm.call("scancel", "--full", "--signal=KILL", job)

    run_while(ledger, slurm, act)
    assert ledger.trial(0).state is State.cancelled


def of_two_ranks(planned, told):
    return on_slurm(planned, "seed=1", "steps=4", f"only=[{told}]", "hardware.devices=2", function="toy_stage:together")


def test_a_killed_rank_is_no_failure_of_the_trial(planned, slurm):
    """The other one sees a broken connection, which says nothing against the trial."""
    ledger = of_two_ranks(planned, "killed")
    run(ledger)
    assert_survived(ledger, count=2, attempts=2, ahead=False)


def test_the_rank_that_failed_says_why(planned, slurm):
    ledger = of_two_ranks(planned, "raises")
    run(ledger)
    trial = ledger.trial(0)
    assert (trial.state, trial.attempts) == (State.failed, 1)
    assert trial.reason.startswith("rank 1: ValueError: of the second rank (see rank1.txt)")


def test_the_first_rank_says_how_the_run_stands(planned, slurm):
    """Another one that ended before it said "finished" of a run that was stopped."""
    ledger = of_two_ranks(planned, "ends first")
    run(ledger)
    assert_survived(ledger)


def test_two_ranks_go_back_into_the_queue_once(planned, slurm):
    """One that ends badly would end the other one, which is about to ask for it."""
    ledger = of_two_ranks(planned, "stopped")

    def act():
        wait_for(lambda: list((ledger.folder / "0").glob("mark*")))
        slurm.call("scancel", "--signal=USR2", "1_0")

    run_while(ledger, slurm, act)
    assert_survived(ledger, count=2)


def test_memory_is_what_the_log_says_it_was(planned, slurm):
    said = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0. Some of your processes may have been killed"
    ledger = on_slurm(planned, "seed=1", "steps=4", function="toy_stage:always_killed", setup=[f"echo '{said}'"])
    run(ledger)
    assert ledger.trial(0).reason.startswith("out of memory in 3 starts from step 0; ask for more")


@pytest.mark.slow
def test_chaos(planned, slurm, tmp_path, monkeypatch):
    """Fifty short trials, two hundred faults of every kind."""
    monkeypatch.setenv("TOY_STEP_S", "0.05")
    words = ["seed=range(0,50)", "steps=16"]
    quiet = planned(*words, folder="quiet", name="local", concurrent=4)
    monkeypatch.setenv("TOY_STEP_S", "0")
    run(quiet)
    ledger = on_slurm(planned, *words, restarts_without_progress=60, grace_s=0.5)
    folder = ledger.folder
    ledger.close()
    runner = Runner(folder, environment(slurm, TOY_STEP_S="0.1"), tmp_path / "controller.log")

    def act(kind, job):
        try:
            slurm.inject(kind, job)
        except ValueError:
            return False  # it ended meanwhile
        return True

    kinds = ("preempt", "timeout", "node_fail", "kill", "lose", "launcher")
    began = time.monotonic()
    done = disturb(slurm, runner, kinds, 200, 0.15, 1, act, 400)
    assert sum(done.values()) >= 200, (done, time.monotonic() - began, Ledger(folder).counts())
    assert runner.code(240) == 0, runner.log.read_text()[-2000:]
    assert_as_if_nothing_happened(folder, quiet.folder)
