"""Two ranks, killed at random moments, one or both or their parent, twice: the same end as if nothing had happened."""

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from killed_runs import CONTEXT, assert_equal, facts

from avexp.core.resume import note_resume
from avexp.train.fit import fit

pytestmark = pytest.mark.slow
OPTIONS = [
    "trainer.log_every_steps=1",
    "trainer.accumulate=2",
    "trainer.epochs=12",
    "trainer.validate_every_epochs=2",
    "model.norm=group",
    "hardware.devices=2",
    "loader.batch_size=3",
    "loader.evaluation_batch_size=3",
]
PATIENCE_S = 120


def start(config, run):
    os.setsid()
    fit(config, run)


def begin(config, run):
    note_resume(run, [])
    process = CONTEXT.Process(target=start, args=(config, run))
    process.start()
    return process


def wait_for(process, test):
    until = time.monotonic() + PATIENCE_S
    while process.is_alive() and not test():
        assert time.monotonic() < until, "the run hangs"
        time.sleep(0.01)


def ranks_of(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "avexp.train.rank" in " ".join(child.cmdline())]


def disturb(config, run, draw):
    """Start, and kill something at a random moment after training has gone on; nothing of the run may be left behind."""
    before = run.losses.stat().st_size if run.losses.is_file() else 0
    process = begin(config, run)
    wait_for(process, lambda: run.losses.is_file() and run.losses.stat().st_size > before + 100)
    time.sleep(draw.uniform(0.0, 1.5))
    ranks = ranks_of(process) if process.is_alive() else []
    victims = draw.choice([ranks[:1], ranks[1:], ranks, [psutil.Process(process.pid)]]) if ranks else []
    for victim in victims:
        if victim.is_running():
            os.kill(victim.pid, signal.SIGKILL)
    process.join(PATIENCE_S)
    assert not process.is_alive(), "the rest of the run hangs"
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert not alive, "ranks that outlive their run would write into the one that goes on"


@pytest.fixture(scope="module")
def undisturbed(tiny_config):
    config, run = tiny_config(*OPTIONS)
    process = begin(config, run)
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    return facts(run)


@pytest.mark.parametrize("seed", range(4))
def test_two_kills_of_two_ranks(tiny_config, undisturbed, seed):
    config, run = tiny_config(*OPTIONS)
    draw = random.Random(seed)
    for _ in range(2):
        disturb(config, run, draw)
    if seed == 0 and (newest := run.step_checkpoints()):
        tear(newest[0])
    process = begin(config, run)
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert_equal(facts(run), undisturbed)


def tear(checkpoint: Path):
    """As a disk that was full leaves it."""
    os.truncate(checkpoint, checkpoint.stat().st_size // 2)
