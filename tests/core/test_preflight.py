import time

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from avexp.core.errors import ConfigError
from avexp.core.overrides import check_overrides, load_plugins
from avexp.core.preflight import preflight, typed
from avexp.core.stage import conf_folder, prepare_hydra


@pytest.fixture(autouse=True, scope="module")
def _schemas():
    prepare_hydra()
    load_plugins()


def checked(*words):
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return check_overrides("train", list(words))


def all_faults(*words):
    found = checked(*words)
    OmegaConf.set_struct(found.config, False)
    return found.faults + preflight(found.config, "train")


def test_a_sound_config_has_no_faults():
    assert all_faults("+experiment=quickstart") == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optimizr.lr=1", "optimizr.lr: no such key; did you mean optimizer.lr?"),
        ("model.heads.lanes.widht=3", "model.heads.lanes.widht: no such key; did you mean model.heads.lanes.width?"),
        ("trainer.epochs=ten", "trainer.epochs: Value 'ten'"),
        ("model.backbone.depths=abc", "model.backbone.depths: 'abc' is no Sequence[int]"),
        ("model.neck.width=wide", "model.neck.width: 'wide' is no int"),
        ("data.source=nowhere/x", "data.source: nowhere/x: no such file or folder"),
        ("+optimizer.lrr=1", "optimizer.lrr: torch.optim.AdamW has no such argument; did you mean lr?"),
        ("optimizer._target_=torch.optim.AdaW", "optimizer._target_: torch.optim.AdaW: module torch.optim has no AdaW"),
        ("augmentation=flipp", "augmentation=flipp: no such option; did you mean flip?"),
        ("hardware=dgx1", "hardware=dgx1: no such option"),
        ("loader.batch_size=0", "batch_size must be within 1 and 65536, is 0"),
        ("model.height_px=${nowhere}", "model.height_px: ${nowhere} leads nowhere"),
        ("seed", "seed: no override"),
        ("trainer.lr=1", "trainer.lr: no such key; did you mean optimizer.lr?"),
        (
            "hydra.launcher.concurent=2",
            "hydra.launcher.concurent: no such key; did you mean hydra.launcher.concurrent?",
        ),
        (
            "hydra.launcher.partition=batch",
            "hydra.launcher.partition: no such key; did you mean hardware.cluster.partition?",
        ),
        ("hydra.sweeper.trials=3", "hydra.sweeper.trials: no such key; it has hydra.sweeper.params"),
    ],
)
def test_one_mistake_one_line(word, expected):
    faults = all_faults("+experiment=quickstart", word)
    assert len(faults) == 1, faults
    assert faults[0].startswith(expected)


def test_all_mistakes_at_once():
    words = ["optimizr.lr=1", "model.heads.lanes.widht=3", "trainer.epochs=ten", "data.source=nowhere"]
    assert len(all_faults("+experiment=quickstart", *words)) == 4


def test_sweep_values_are_checked_too():
    assert all_faults("+experiment=quickstart", "seed=1,2") == []
    assert all_faults("+experiment=quickstart", "optimizer=glob(*)") == []
    faults = all_faults("+experiment=quickstart", "seed=x,1,y", "optimizer=adamw,adamv,sgd")
    assert [fault[:30] for fault in faults] == [
        "optimizer=adamv: no such optio",
        "seed: Value 'x' of type 'str' ",
        "seed: Value 'y' of type 'str' ",
    ]
    assert all_faults("+experiment=quickstart", "seed=range(5,1)") == ["seed=range(5,1): there is no value in it"]


def test_the_first_value_of_a_sweep_is_laid_over_the_config():
    assert checked("+experiment=quickstart", "seed=3,2,1").config.seed == 3


def test_a_key_that_one_option_of_a_swept_group_lacks_names_the_option():
    faults = all_faults("+experiment=quickstart", "optimizer=adamw,sgd", "optimizer.momentum=0.9")
    assert len(faults) == 1
    assert faults[0].startswith("optimizer.momentum: no such key")
    assert faults[0].endswith("(with optimizer=adamw)")


def test_it_takes_far_less_than_a_second():
    all_faults("+experiment=quickstart")
    began = time.process_time()
    all_faults("+experiment=quickstart", "optimizr.lr=1")
    assert time.process_time() - began < 1.0


def test_a_saved_config_gets_its_types_back(tmp_path):
    config = checked("+experiment=quickstart").config
    plain = OmegaConf.create(OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    found = typed(plain, "train")
    assert found.hardware.accelerator.name == "cpu"
    plain.trainer.epochs = "ten"
    with pytest.raises(ConfigError, match="epochs"):
        typed(plain, "train")
