import json

import pytest
import torch

from avexp.core.errors import ConfigError, RunError
from avexp.core.files import read_json
from avexp.train.checkpointing import newest_valid
from avexp.train.fit import fit
from avexp.train.predictor import load_predictor


@pytest.fixture(scope="module")
def finished(tiny_config):
    config, run = tiny_config()
    return config, run, fit(config, run)


def weights(run):
    return torch.load(run.step_checkpoints()[0], weights_only=True)["state_dict"]


def steps_of(run):
    entries = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [(entry["step"], entry["values"]) for entry in entries]


def test_a_run_leaves_all_that_it_owes(finished):
    _, run, score = finished
    assert run.state() == "finished"
    assert run.step_checkpoints()[0].name == "step-000000015.ckpt"
    assert read_json(run.best_pointer)["score"] == pytest.approx(score)
    lock = read_json(run.lock)
    assert [entry["kind"] for entry in lock["inputs"]] == ["dataset"]
    assert [entry["kind"] for entry in lock["outputs"]] == ["checkpoint"]
    values = dict(pair for _, entry in steps_of(run) for pair in entry.items())
    assert {"epoch/loss", "epoch/loss/lanes", "val/score", "val/lanes/f1", "cost/cpu_hours", "data/wait_share"} <= set(
        values
    )


def test_a_run_that_ends_before_its_first_validation_has_a_checkpoint(tiny_config):
    config, run = tiny_config("trainer.steps_max=2")
    assert fit(config, run) != fit(config, run), "no score: not a number"
    assert run.best == run.step_checkpoint(2)


def test_only_the_newest_and_the_best_stay(finished):
    _, run, _ = finished
    names = {path.name for path in run.step_checkpoints()}
    assert run.best.name in names
    assert len(names) <= 3


def test_checkpoints_load_without_running_code(finished):
    _, run, _ = finished
    for path in run.step_checkpoints():
        content = torch.load(path, weights_only=True)
        assert content["avexp"]["format"] == 1
        assert content["avexp"]["dataset"]["name"] == "lanes_real"


def test_the_same_config_gives_the_same_weights(finished, tiny_config):
    config, other = tiny_config()
    fit(config, other)
    theirs = weights(finished[1])
    assert all(torch.equal(value, theirs[key]) for key, value in weights(other).items())


def test_a_network_comes_back_from_its_checkpoint(finished):
    _, run, _ = finished
    predictor = load_predictor(run.best)
    assert list(predictor.network.heads) == ["lanes"]
    assert not predictor.network.training


def test_a_foreign_checkpoint_is_one_line(finished, tmp_path):
    _, run, _ = finished
    content = torch.load(run.best, weights_only=True)
    model = json.loads(content["avexp"]["model_json"])
    model["neck"]["width"] = 12
    content["avexp"]["model_json"] = json.dumps(model)
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(RunError, match=r"checkpoint of another model \(\d+ differences: .*is \("):
        load_predictor(tmp_path / "x.ckpt")
    (tmp_path / "torn.ckpt").write_bytes((run.best).read_bytes()[:2000])
    with pytest.raises(RunError, match="cannot be loaded"):
        load_predictor(tmp_path / "torn.ckpt")
    with pytest.raises(RunError, match="no such checkpoint"):
        load_predictor(tmp_path / "no.ckpt")
    torch.save({"a": 1}, tmp_path / "other.ckpt")
    with pytest.raises(RunError, match="no checkpoint of avexp"):
        load_predictor(tmp_path / "other.ckpt")


def test_a_torn_checkpoint_is_passed_over(tiny_config, capsys):
    config, run = tiny_config("trainer.steps_max=5")
    fit(config, run)
    newest, before = run.step_checkpoints()[:2]
    newest.write_bytes(newest.read_bytes()[:-1000])
    (run.checkpoints / "step-000000009.ckpt.tmp1").write_bytes(b"half")
    assert newest_valid(run) == before
    assert not list(run.checkpoints.glob("*.tmp*"))
    assert "going on from the one before" in capsys.readouterr().out


def test_early_stopping_and_accumulation_are_config(tiny_config):
    config, run = tiny_config(
        "trainer.early_stopping_patience=1",
        "trainer.epochs=8",
        "optimizer.lr=0.0",
        "trainer.accumulate=2",
        "trainer.ema_decay=null",
    )
    fit(config, run)
    last = int(run.step_checkpoints()[0].stem.split("-")[1])
    assert last <= 9, "three epochs of three steps at most: the score cannot rise"


def test_no_frames_to_train_on_is_one_line(tiny_config):
    config, run = tiny_config("data.split.gap_s=100", "data.name=gap")
    with pytest.raises(ConfigError, match="0 training and 12 validation frames; both are needed"):
        fit(config, run)
