"""Two processes over gloo do what one process does with the same global batch."""

import json
import shutil

import pytest
import torch

from avexp.core.errors import ConfigError, RunError
from avexp.core.preflight import typed
from avexp.core.resume import note_resume, resumed_config
from avexp.core.run_folder import RunFolder
from avexp.train.fit import fit

PLAIN = (
    "model.norm=group",
    "augmentation=[flip,shear,color]",
    "trainer.epochs=2",
    "trainer.log_every_steps=1",
    "optimizer=sgd",
    "optimizer.lr=0.01",
)
"""Group norm: batch statistics of half a batch would be others. SGD: Adam makes whole steps of rounding errors where a
gradient is zero."""


@pytest.fixture(scope="module")
def alone(tiny_config):
    config, run = tiny_config(*PLAIN)
    fit(config, run)
    return run


@pytest.fixture(scope="module")
def together(tiny_config):
    config, run = tiny_config(*PLAIN, "hardware.devices=2", "loader.batch_size=3", "loader.evaluation_batch_size=2")
    fit(config, run)
    return run


def values_of(run, prefix):
    entries = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [
        (entry["step"], name, value)
        for entry in entries
        for name, value in entry["values"].items()
        if name.startswith(prefix)
    ]


def test_two_ranks_learn_the_same_weights(alone, together):
    mine, theirs = (torch.load(run.step_checkpoints()[0], weights_only=True)["state_dict"] for run in (alone, together))
    assert mine.keys() == theirs.keys()
    for (
        name,
        value,
    ) in mine.items():  # ten steps make more of the rounding of sums; a wrong mean would be a hundred times as far off
        torch.testing.assert_close(
            theirs[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_ranks_report_the_same_losses_and_kpis(alone, together):
    for prefix in ("train/loss", "epoch/loss", "val/"):
        mine, theirs = values_of(alone, prefix), values_of(together, prefix)
        assert [entry[:2] for entry in mine] == [entry[:2] for entry in theirs]
        assert [entry[2] for entry in theirs] == pytest.approx([entry[2] for entry in mine], rel=1e-3)


def test_ranks_may_change_in_the_middle_of_an_epoch(tiny_config, tmp_path):
    """One rank until step 8 of 10, the third of an epoch of five, two from there: the same losses and weights as with one throughout."""
    config, alone = tiny_config(*PLAIN, "trainer.checkpoint_every_steps=3")
    fit(config, alone)
    elastic = RunFolder(tmp_path / alone.name / alone.id)
    shutil.copytree(alone.path, elastic.path)
    assert elastic.step_checkpoint(8).is_file()
    elastic.step_checkpoint(10).unlink()
    words = ["hardware.devices=2", "loader.batch_size=3"]
    note_resume(elastic, words)
    fit(typed(resumed_config(elastic), "train"), elastic)
    mine, theirs = (torch.load(run.step_checkpoint(10), weights_only=True)["state_dict"] for run in (alone, elastic))
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=2e-5)
    losses = {step: value for step, name, value in values_of(alone, "train/loss") if name == "train/loss"}
    again = [(step, value) for step, name, value in values_of(elastic, "train/loss") if name == "train/loss"][-2:]
    assert [step for step, _ in again] == [9, 10]
    assert [value for _, value in again] == pytest.approx([losses[9], losses[10]], rel=1e-3)


def test_a_resume_that_changes_the_global_batch_is_refused(alone):
    with pytest.raises(ConfigError, match=r"the global batch would be 12, the run's is 6; set loader.batch_size"):
        resumed_config(alone, ["hardware.devices=2"])
    with pytest.raises(ConfigError, match=r"optimizer.lr=1 cannot change it"):
        resumed_config(alone, ["optimizer.lr=1", "hardware.devices=2", "loader.batch_size=3"])


def test_the_second_rank_keeps_its_own_log(together):
    assert (together.path / "rank1.txt").is_file()
    assert together.state() == "finished"


def test_a_rank_that_fails_ends_the_run_with_one_line(tiny_config, capfd):
    config, run = tiny_config(*PLAIN, "hardware.devices=2", "loader.batch_size=4000")
    with pytest.raises(RunError, match="rank . of 2 failed"):
        fit(config, run)
    assert "make no batch of 4000 on 2 rank(s)" in (run.path / "rank1.txt").read_text()
    assert "Traceback" not in capfd.readouterr().err


def test_the_fabric_is_measured_when_asked_and_said(tiny_config, capfd):
    config, run = tiny_config(
        *PLAIN, "hardware.devices=2", "loader.batch_size=3", "trainer.check_fabric=true", "trainer.epochs=1"
    )
    fit(config, run)
    assert "fabric: 2 ranks: all-reduce" in capfd.readouterr().out
    assert any(name == "fabric/latency_us" for _, name, _ in values_of(run, "fabric"))


def test_the_rate_is_scaled_with_the_global_batch(tiny_config):
    from avexp.train.launch import lr_factor

    for rule, factor in (("none", 1.0), ("linear", 3.0), ("sqrt", 3.0**0.5)):
        config, _ = tiny_config(f"trainer.lr_scaling={rule}", "trainer.reference_batch=4", "trainer.accumulate=2")
        assert lr_factor(config) == pytest.approx(factor)
    config, run = tiny_config(*PLAIN, "trainer.lr_scaling=linear", "trainer.reference_batch=3", "trainer.epochs=1")
    fit(config, run)
    rates = [value for _, name, value in values_of(run, "train/lr")]
    assert max(rates) == pytest.approx(0.02, rel=0.05)
    assert "lr_factor: 2.0" in run.derived.read_text()
