import json

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from avexp.core.errors import ConfigError
from avexp.core.lock import config_digest
from avexp.core.stage import conf_folder
from avexp.jobs.plan import Planner, grid
from avexp.jobs.trial_run import frozen_config


@pytest.fixture
def hydra():
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield


def trials(*words, stage="train"):
    constant, rows, count = grid(["+experiment=quickstart", *words])
    planner = Planner(stage, stage, constant)
    found = [planner.trial(number, row) for number, row in enumerate(rows)]
    assert len(found) == count
    return planner, found


def test_all_combinations_with_groups_values_ranges_and_lists(hydra):
    _, found = trials("optimizer=adamw,sgd", "seed=range(1,4)", "model.backbone.depths=[1,1,1,1],[2,2,2,2]")
    assert len(found) == 12
    assert len({trial.digest for trial in found}) == 12
    assert found[0].changes == {}  # seed 1, adamw and depths are the base's own
    assert found[-1].changes == {"seed": 3, "model.backbone.depths": [2, 2, 2, 2]}


def test_equal_configs_have_equal_digests_however_they_are_typed(hydra):
    _, found = trials("optimizer.lr=0.003,3e-3,0.004", "trainer.pictures=1,2")
    digests = [trial.digest for trial in found]
    assert len(set(digests)) == 2  # pictures change nothing that is computed


def test_a_frozen_config_is_what_hydra_would_compose(hydra, tmp_path):
    from hydra import compose

    words = ["optimizer=adamw,sgd", "model.norm=batch,group", "loader.batch_size=4,8", "hardware.precision=fp32,bf16"]
    planner, found = trials(*words)
    planner.write_bases(tmp_path)
    for trial in found:
        frozen = frozen_config(tmp_path / f"{trial.base[:16]}.yaml", "train", trial.changes)
        composed = compose("train", ["+experiment=quickstart", *trial.words])
        assert config_digest(frozen) == config_digest(composed)
        assert OmegaConf.to_container(frozen, resolve=True, enum_to_str=True) == OmegaConf.to_container(
            composed, resolve=True, enum_to_str=True
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["loader.batch_size=4,0"], "batch_size must be within 1"),
        (["optimizer.lr=1e-3,fast"], "'fast' is no float"),
        (["model.norn=batch,group"], "did you mean model.norm"),
        (["optimizer=adamw,sgdd"], "did you mean sgd"),
        (["trainer.epochs=1,two"], "could not be converted to Integer"),
        (["loader.keep_mib=600", "loader.processes=0,2"], "needs loader.processes=0"),
        (["loader.keep_mib=0,600", "loader.processes=0,2"], "needs loader.processes=0"),
    ],
)
def test_what_fits_in_no_trial_is_said_before_any_is_submitted(hydra, words, said):
    with pytest.raises(ConfigError) as fault:
        trials(*words)
    assert said in str(fault.value)


def test_a_refused_value_leaves_no_trace_in_the_next_trial(hydra):
    planner, found = trials("seed=1,2")
    with pytest.raises(ConfigError):
        planner.trial(9, ["optimizer.lr=fast"])
    again = planner.trial(0, ["seed=1"])
    assert again.digest == found[0].digest


def test_shapes_tell_what_a_trial_needs(hydra):
    _, found = trials("hardware.nodes=1,2", "hardware.devices=1,2")
    shapes = [json.loads(trial.shape) for trial in found]
    assert [(one["nodes"], one["devices"]) for one in shapes] == [(1, 1), (1, 2), (2, 1), (2, 2)]
