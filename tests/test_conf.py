"""Every yaml of conf/ composes, passes preflight, and opens with what a reader needs."""

import re

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from avexp.core.overrides import check_overrides, load_plugins
from avexp.core.preflight import preflight
from avexp.core.stage import conf_folder, prepare_hydra

CONF = conf_folder()
ROOTS = sorted(path.stem for path in CONF.glob("*.yaml"))
OPTIONS = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
NEEDS = {
    "train": ["+experiment=quickstart"],
    "export": ["run=latest"],
    "evaluate": ["of=latest"],
    "predict": ["bundle=.", "input=."],
    "ingest": ["reader=images", "reader.source=."],
    "ci": [],
    "bench": ["dataset=x"],
}
SOURCES = {
    "data/tusimple": ["data.source=."],
    "data/existing": ["data.name=x"],
    "data/blend": ["data.name=x", "data.parts={a@1:1.0}"],
    "data/stream": ["data.name=x", "data.urls=[a.tar]", "data.frames_per_epoch=100"],
    "experiment/lanes_real": ["data.source=."],
}
GROUP_STAGE = {"reader": "ingest"}
NAME_STAGE = {"sweep/postprocess": "evaluate"}


@pytest.fixture(autouse=True, scope="module")
def _schemas():
    prepare_hydra()
    load_plugins()


def faults(stage, words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = check_overrides(stage, words)
    assert found.faults == []
    OmegaConf.set_struct(found.config, False)
    return preflight(found.config, stage)


@pytest.mark.parametrize("root", ROOTS)
def test_every_root_passes(root):
    assert faults(root, NEEDS[root]) == []


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_passes(option):
    group, name = str(option.parent), option.stem
    stage = NAME_STAGE.get(f"{group}/{name}") or GROUP_STAGE.get(group, "train")
    words = list(SOURCES.get(f"{group}/{name}", [])) + (NEEDS[stage] if group == "sweep" else [])
    if group in ("experiment", "sweep", "debug"):
        words = [f"+{group}={name}", *words]
    elif group == "reader":
        words = [f"reader={name}", *([] if name == "world" else ["reader.source=."])]
    elif group in ("augmentation", "model/heads"):
        words = [f"{group}=[{name}]", *words]
    else:
        words = [f"{group}={name}", *words]
    told = faults(stage, words)
    if group == "hardware":  # a target or a card that is not here is refused, and the reason is the point
        told = [line for line in told if not line.startswith(f"hardware={name}:")]
    assert told == []


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_opens_with_its_command_cost_and_result(path):
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(head)
    assert f"python train.py +experiment={path.stem}" in text
    assert re.search(r"cost:", text, re.I), "what it costs"
    assert re.search(r"result:", text, re.I), "what to expect"


def test_roots_stay_short():
    for root in ROOTS:
        assert len((CONF / f"{root}.yaml").read_text().splitlines()) <= 25


def test_a_package_of_ones_own_adds_a_head_without_a_fork(tmp_path, monkeypatch):
    """One file and one yaml, found by --config-dir and _target_."""
    (tmp_path / "team" / "conf" / "model" / "heads").mkdir(parents=True)
    (tmp_path / "team" / "__init__.py").write_text("")
    (tmp_path / "team" / "scene.py").write_text("class Scene:\n    def __init__(self, shared, width: int = 8): ...\n")
    yaml = "scene:\n  _target_: team.scene.Scene\n  _partial_: true\n  width: 4\n"
    (tmp_path / "team" / "conf" / "model" / "heads" / "scene.yaml").write_text(yaml)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = f"hydra.searchpath=[file://{tmp_path}/team/conf]"
    words = ["+experiment=quickstart", "model/heads=[lanes,scene]", path]
    assert faults("train", words) == []
    assert faults("train", [*words, "+model.heads.scene.widht=3"]) == [
        "model.heads.scene.widht: team.scene.Scene has no such argument; did you mean width?"
    ]


@pytest.mark.parametrize("heads", ["objects", "lanes", "drivable", "path", "objects,lanes"])
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_takes_any_choice_of_heads(experiment, heads):
    assert faults("train", [f"+experiment={experiment}", f"model/heads=[{heads}]", "data.source=."]) == []


def test_options_of_a_head_that_was_not_chosen_are_named():
    words = ["+experiment=quickstart", "model/heads=[lanes]", "+model.heads.objects.width=8"]
    assert faults("train", words) == [
        "model.heads.objects: has options but no _target_; choose it with model/heads=[...,objects]"
    ]
