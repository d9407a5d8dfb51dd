"""Real training on a real SLURM: what signals, kills and dead nodes do to it, by one rank and by several."""

import os
import signal

import pytest
import torch
from slurm.jobs import wait_for
from slurm.sweeps import TRAIN, plan_in, pointed_at, run_while

from avexp.jobs.ledger import State
from avexp.jobs.starts import starts
from avexp.jobs.sweep import run

pytestmark = pytest.mark.slurm
# few steps: the order of sums rounds differently, and training makes more of it step by step
FEW = [*TRAIN, "trainer.steps_max=5", "trainer.checkpoint_every_steps=1"]
ALONE = [*FEW, "loader.batch_size=8"]
NODES = [*FEW, "hardware.nodes=2", "loader.batch_size=4"]
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}


def train(folder, slurm, words, acts=None):
    """Quietly, or with an act at each of some steps, where all ranks wait; weights, losses, and where the starts began."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAUSE_AT", ",".join(map(str, acts or {})))
        ledger = plan_in(folder / "outputs" / "train" / "x" / "sweep", *words, stage="train", function="paused_fit:fit")
        run_folder, ranks = ledger.folder / "0", 2 if words is NODES else 1

        def act():
            for step, one in acts.items():
                wait_for(lambda step=step: len(list(run_folder.glob(f"at-{step}-*"))) == ranks, 120, f"step {step}")
                one(starts(run_folder)[-1], int((run_folder / f"at-{step}-{ranks - 1}").read_text()))
                (run_folder / f"go-{step}").touch()

        run_while(ledger, slurm, act) if acts else run(ledger)
    assert [trial.state for trial in ledger.each()] == [State.finished], ledger.trial(0).reason
    assert not list(run_folder.glob("**/hpc_ckpt*")), "Lightning never heard of SLURM"
    newest = sorted((run_folder / "checkpoints").glob("step-*.ckpt"))[-1]
    weights = torch.load(newest, weights_only=True)["state_dict"]
    return weights, (run_folder / "losses.txt").read_text(), [start["step"] for start in starts(run_folder)]


@pytest.fixture(scope="module")
def alone(cluster, tmp_path_factory):
    """By one process, undisturbed."""
    with pointed_at(cluster):
        return train(tmp_path_factory.mktemp("alone"), cluster, ALONE)


def assert_same(found, expected, **tolerance):
    weights, others = found[0], expected[0]
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_two_nodes_of_two_tasks_learn_what_one_process_learns(alone, slurm, tmp_path):
    words = [*FEW, "hardware.nodes=2", "hardware.devices=2", "loader.batch_size=2"]
    assert_same(train(tmp_path, slurm, words), alone, **ROUNDING)


def test_one_rank_and_the_signals_of_lightning_and_submitit(alone, slurm, tmp_path):
    """Either of which, with both of them at it, starts again at step 0."""

    def send(word):
        return lambda start, pid: slurm.call("scancel", f"--signal={word}", start["job"])

    found = train(tmp_path, slurm, ALONE, {2: send("USR1"), 4: send("USR2")})
    assert found[2] == [-1, 2, 4]
    assert found[1] == alone[1], "the losses of every step"
    assert_same(found, alone, rtol=0, atol=0)


def test_two_nodes_and_a_signal_a_killed_rank_and_a_power_cut(alone, slurm, tmp_path):
    """What the other rank sees of the latter two is a broken connection: no fault of the trial."""
    off = []

    def cut(start, pid):
        nodes = slurm.call("squeue", "-h", "-j", start["job"], "-o", "%N").stdout.strip()
        off.append(slurm.call("scontrol", "show", "hostnames", nodes).stdout.split()[1])
        slurm.power_cut(off[0])

    acts = {
        2: lambda start, pid: slurm.call("scancel", "--signal=USR2", start["job"]),
        3: lambda start, pid: os.kill(pid, signal.SIGKILL),
        4: cut,
    }
    found = train(tmp_path, slurm, NODES, acts)
    slurm.power_on(off[0])
    assert found[2] == [-1, 2, 3, 4]
    assert_same(found, alone, **ROUNDING)
