"""Clusters that take only some jobs, or whose answer is lost."""

import json
import re
import time

import pytest
from fakes.slurm.fake_slurm import FakeSlurm
from slurm.sweeps import assert_survived

from avexp.core.errors import RunError
from avexp.jobs import slurm as slurm_module
from avexp.jobs.backend import Batch, Phase
from avexp.jobs.ledger import Attempt, State
from avexp.jobs.slurm import Resources, SlurmBackend
from avexp.jobs.starts import revoked
from avexp.jobs.submission import Submitter
from avexp.jobs.sweep import run

POLICY = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    with FakeSlurm(tmp_path / "slurm", slots=8, requeue_s=0.1) as fake:
        for name, value in fake.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(SlurmBackend, "poll_s", (0.1, 0.5))
        monkeypatch.setattr("avexp.jobs.submission.AGAIN_S", (0.1, 0.2))
        yield fake


@pytest.fixture
def on_slurm(planned, slurm):
    return lambda *words, **options: planned(*words, name="slurm", time_min=10, grace_s=1.0, **options)


def refusing(monkeypatch, most):
    """A cluster that lets a person have so many jobs at a time."""
    submit = SlurmBackend.submit

    def limited(self, batch):
        listed = len(self._squeue_living())
        if listed + len(batch.attempts) > most:
            raise RunError("sbatch", POLICY)
        return submit(self, batch)

    def living(self):
        return [job for job, seen in self._squeue() or [] if seen.phase in (Phase.waiting, Phase.running)]

    monkeypatch.setattr(SlurmBackend, "_squeue_living", living, raising=False)
    monkeypatch.setattr(SlurmBackend, "submit", limited)


def test_a_limit_of_submissions_is_lived_with(on_slurm, monkeypatch):
    """However long: fewer are tried, and the next are taken as others end."""
    refusing(monkeypatch, 2)
    ledger = on_slurm("seed=range(0,6)", "steps=3")

    def patient(one):  # from now on only what lives keeps the sweep alive
        monkeypatch.setattr("avexp.jobs.submission.REFUSED_S", 0.0 if one.counts().get("running") else 60.0)

    run(ledger, show=patient)
    for number in range(6):
        assert_survived(ledger, number)


def test_a_cluster_that_takes_nothing_is_said(on_slurm, monkeypatch):
    monkeypatch.setattr("avexp.jobs.submission.REFUSED_S", 0.5)
    refusing(monkeypatch, 0)
    ledger = on_slurm("seed=1", "steps=3")
    with pytest.raises(RunError, match="job submit limit"):
        run(ledger)
    trial = ledger.trial(0)
    assert (trial.state, trial.attempts, ledger.attempts(0)) == (State.planned, 0, [])
    assert trial.reason.startswith("not submitted: sbatch: ")


def test_jobs_that_arrive_after_they_were_given_up_end_at_once(on_slurm, monkeypatch):
    submit, lost = SlurmBackend.submit, []

    def slow(self, batch):
        found = submit(self, batch)
        if not lost:
            lost.extend(found)
            raise RunError("sbatch", "no answer within 60 s")
        return found

    def find(self, batch, count):
        return None

    def late(results, token):  # some of them may have begun by now: those go on
        time.sleep(0.2)
        return revoked(results, token)

    monkeypatch.setattr(SlurmBackend, "submit", slow)
    monkeypatch.setattr(SlurmBackend, "find", find)
    monkeypatch.setattr("avexp.jobs.submission.revoked", late)
    ledger = on_slurm("seed=1,2", "steps=30")
    run(ledger)
    assert lost
    for number in (0, 1):
        assert_survived(ledger, number)


def test_the_limit_of_concurrent_jobs_is_shared_by_shapes(on_slurm):
    ledger = on_slurm("hardware.devices=1,2", "seed=1,2,3", "steps=1", concurrent=3)
    run(ledger)
    scripts = [path.read_text() for path in (ledger.folder / "batches").glob("*.sh")]
    throttles = [int(re.search(r"--array=0-2%(\d)", text).group(1)) for text in scripts]
    assert sorted(throttles) == [1, 2]
    assert ledger.counts() == {"finished": 6}


def test_what_lives_holds_its_share_until_less_of_it_lives(planned):
    ledger = planned("seed=range(0,9)", "steps=1")
    backend = SlurmBackend(ledger.folder, Resources(), 3)
    submitter = Submitter(ledger, backend, None, None, lambda trial: None)
    (ledger.folder / "batches").mkdir()
    submitter.file("a").write_text(json.dumps({"jobs": [], "at_once": 2}))

    def slots(count):
        return submitter.slots(
            {str(number): Attempt(token=str(number), trial=number, batch="a") for number in range(count)}
        )

    assert [slots(count) for count in (9, 2, 1, 0)] == [1, 1, 2, 3]


def test_no_time_limit_is_the_partitions_own(planned):
    ledger = planned("seed=1", "steps=1")
    (ledger.folder / "batches").mkdir()
    attempt = Attempt(token="t", trial=0, batch="b")

    def script(**resources):
        backend = SlurmBackend(ledger.folder, Resources(**resources))
        file = ledger.folder / "batches" / "b.json"
        return backend.script(Batch(name="b", file=file, attempts=[attempt], shape={}, code=None, at_once=1))

    assert "--time" not in script()
    assert "#SBATCH --time=90" in script(time_min=90)


@pytest.mark.parametrize(
    ("said", "phase"),
    [
        ("slurm_load_jobs error: Invalid job id specified", Phase.gone),
        ("JobState=RUNNING NodeList=node1", Phase.running),
        ("slurm_load_jobs error: Unable to contact slurm controller", Phase.unknown),
    ],
)
def test_an_end_that_accounting_missed(tmp_path, monkeypatch, said, phase):
    """A "runaway job": sacct calls it running for ever, the controller knows of none."""

    def call(*command, environment=None):
        text = {"squeue": "", "sacct": "7_0|RUNNING|node1|0:0\n", "scontrol": said}[command[0]]
        failed = "error" in text
        return slurm_module.subprocess.CompletedProcess(command, failed, "" if failed else text, text if failed else "")

    monkeypatch.setattr(slurm_module, "_call", call)
    attempt = Attempt(token="t", trial=0, batch="b", job="7_0")
    assert SlurmBackend(tmp_path, Resources()).look([attempt])["t"].phase is phase
