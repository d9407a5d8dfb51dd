"""A run killed anywhere and resumed ends with bit-identical weights, losses and validations."""

import os
import signal

import pytest
from killed_runs import CONTEXT, assert_equal, facts

from avexp.train.fit import fit

PATIENCE_S = 90
EVENTS = [
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_optimizer_step",
    "on_validation_start",
    "on_validation_end",
    "on_train_epoch_end",
    "state_dict",
]


def at_event(event, count, number, config, run):
    """Fits, and sends itself a signal at the n-th event of a kind (none for count 0)."""
    from avexp.train import tracking

    seen = [0]
    inner = getattr(tracking.TrainBar, event)

    def both(*arguments, **keywords):
        seen[0] += 1
        if seen[0] == count:
            os.kill(os.getpid(), number)
        return inner(*arguments, **keywords)

    setattr(tracking.TrainBar, event, both)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    fit(config, run)


def run_child(config, run, event="state_dict", count=0, number=signal.SIGKILL):
    process = CONTEXT.Process(target=at_event, args=(event, count, number, config, run))
    process.start()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        pytest.fail("the run hangs")
    return process.exitcode


def finish(config, run):
    assert run_child(config, run) == 0


VARIANTS = {
    "plain": ["trainer.log_every_steps=1"],
    "accumulate": [
        "trainer.log_every_steps=1",
        "trainer.accumulate=2",
        "trainer.validate_every_epochs=2",
        "trainer.epochs=4",
    ],
}


@pytest.fixture(scope="module")
def undisturbed(tiny_config):
    found = {}
    for name, overrides in VARIANTS.items():
        config, run = tiny_config(*overrides)
        finish(config, run)
        found[name] = facts(run)
    return found


@pytest.mark.parametrize("event", EVENTS)
def test_one_kill(tiny_config, undisturbed, event):
    config, run = tiny_config(*VARIANTS["plain"])
    assert run_child(config, run, event, 2 if "valid" in event or "epoch" in event else 5) == -signal.SIGKILL
    finish(config, run)
    assert_equal(facts(run), undisturbed["plain"])


@pytest.mark.slow
@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 2), (7, 3), (10, 1)])
def test_two_kills(tiny_config, undisturbed, variant, event, first, second):
    config, run = tiny_config(*VARIANTS[variant])
    for count in (first, second):
        run_child(config, run, event, count)
    finish(config, run)
    assert_equal(facts(run), undisturbed[variant])


def test_sigterm_saves_and_stops(tiny_config, undisturbed):
    config, run = tiny_config(*VARIANTS["plain"])

    assert run_child(config, run, "on_train_batch_end", 5, signal.SIGTERM) == 0
    assert run.state() == "stopped"
    assert run.step_checkpoints()[0].name in ("step-000000005.ckpt", "step-000000006.ckpt")
    finish(config, run)
    assert run.state() == "finished"
    assert_equal(facts(run), undisturbed["plain"])
