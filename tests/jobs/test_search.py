"""Searches: their space, their study, and their ends."""

import math
import multiprocessing
import os
import signal
import time

import optuna
import pytest
from hydra import compose, initialize_config_dir

from avexp.core.errors import ConfigError
from avexp.core.overrides import check_overrides, load_plugins
from avexp.core.preflight import preflight
from avexp.core.progress import console
from avexp.core.stage import conf_folder, prepare_hydra
from avexp.jobs.best import best_trials, experiment_text
from avexp.jobs.frozen_conf import planner_of
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.local import LocalBackend
from avexp.jobs.search import Search, settings_of
from avexp.jobs.settling import cancel_sweep
from avexp.jobs.space import Space
from avexp.jobs.study import Reporter, storage
from avexp.jobs.sweep import create, run

FORK = multiprocessing.get_context("spawn")


def suggested(entries, count=60):
    space, study = Space(entries), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [dict(word.split("=", 1) for word in space.words(study.ask())) for _ in range(count)]


def test_a_space_in_hydras_grammar():
    rows = suggested({
        "optimizer": "choice(adamw, sgd)",
        "optimizer.lr": "tag(log, interval(1e-5, 1e-1))",
        "model.backbone.depths": "choice([1,1,1,1], [2,2,2,2])",
        "loader.batch_size": "range(4, 17, 4)",
        "seed": "int(interval(1, 9))",
        "optimizer.momentum": {"values": "interval(0.5, 0.9)", "when": "optimizer=sgd"},
    })  # fmt: skip
    assert {row["optimizer"] for row in rows} == {"adamw", "sgd"}
    assert {row["loader.batch_size"] for row in rows} == {"4", "8", "12", "16"}
    assert {row["model.backbone.depths"] for row in rows} == {"[1,1,1,1]", "[2,2,2,2]"}
    assert all(("optimizer.momentum" in row) == (row["optimizer"] == "sgd") for row in rows)
    rates = [float(row["optimizer.lr"]) for row in rows]
    assert sum(rate < 1e-3 for rate in rates) > 15  # half of the decades
    assert {row["seed"] for row in rows} <= {str(number) for number in range(1, 10)}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": "3"}, "give several values"),
        ({"a": "interval(2,1)"}, "is empty"),
        ({"a": {"value": "choice(1,2)"}}, "takes values and when"),
        ({"a": {"values": "choice(1,2)", "when": "optimiser=sgd"}, "optimizer": "choice(sgd,adamw)"}, "did you mean optimizer"),
        ({"a": {"values": "choice(1,2)", "when": "b=1"}, "b": {"values": "choice(1,2)", "when": "a=1"}}, "in a circle"),
    ],
)  # fmt: skip
def test_what_is_no_space_is_named(entries, said):
    with pytest.raises(ConfigError, match=said):
        Space(entries)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"sampler": "tpee"}, "did you mean tpe"),
        ({"pruner": "halving"}, "none of none, asha"),
        ({"objectives": {"a": "maximise"}}, "neither maximize nor minimize"),
        ({"objectives": {"a": "maximize", "b": "minimize"}, "pruner": "asha"}, "cannot be pruned"),
        ({"triels": 3}, "did you mean trials"),
        ({"sampler": "grid", "space": {"a": "interval(0,1)"}}, "a grid needs choice or range"),
        ({"sampler_options": {"nonsense": 1}}, "nonsense"),
    ],
)
def test_settings_are_checked(search, said):
    with pytest.raises(ConfigError, match=said):
        settings_of({"space": {"a": "choice(1,2)"}, **search}, {})


@pytest.mark.parametrize("path", sorted((conf_folder() / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_of_conf_suggests_sound_configs(path):
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load(path).hydra.sweeper)
    space = Space(settings_of(settings, {})["space"])
    stage, words = ("evaluate", ["of=."]) if path.stem == "postprocess" else ("train", ["+experiment=quickstart"])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for _ in range(8):
            found = check_overrides(stage, [*words, f"+sweep={path.stem}", *space.words(study.ask())])
            assert found.faults == []
            OmegaConf.set_struct(found.config, False)
            assert preflight(found.config, stage) == []


SEARCH = {"trials": 8, "space": {"seed": "range(1,1000000)"}, "objectives": {"toy": "maximize"}, "concurrent": 3}


def searched(ledger):
    return run(ledger, source=Search(ledger, planner_of(ledger)))


def study_of(ledger):
    from avexp.jobs.study import storage

    return optuna.load_study(study_name=ledger.folder.name, storage=storage(str(ledger.folder / "study.journal")))


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("random", "cmaes", "nsga2", "qmc"))]
)
def test_each_sampler_runs_to_its_end(planned, sampler):
    ledger = planned("steps=1", search={**SEARCH, "sampler": sampler}, concurrent=3)
    searched(ledger)
    assert sum(ledger.counts().values()) == 8
    frozen = study_of(ledger).trials
    assert [one.state.name for one in frozen] == ["COMPLETE"] * 8
    trial, values = best_trials(ledger)[0]
    assert values["toy"] == max(one.value for one in frozen)
    assert trial.metrics["val/toy"] == values["toy"]


def test_a_grid_is_walked_once(planned):
    search = {**SEARCH, "sampler": "grid", "space": {"seed": "choice(1,2,3)", "steps": "range(1,3)"}, "trials": 50}
    ledger = planned(search=search)
    searched(ledger)
    assert len({tuple(trial.words) for trial in ledger.each() if trial.state is State.finished}) == 6


def test_equal_suggestions_run_once_and_are_told(planned):
    ledger = planned("steps=1", search={**SEARCH, "space": {"seed": "choice(1,2)"}, "sampler": "random", "trials": 10})
    searched(ledger)
    assert ledger.counts()["finished"] == 2
    assert ledger.counts()["same"] == 8
    assert all(one.state.name == "COMPLETE" for one in study_of(ledger).trials)


def test_failed_trials_are_told_as_such(planned):
    search = {**SEARCH, "space": {"only": "choice([], [fail])"}, "sampler": "grid", "trials": 5}
    ledger = planned("steps=1", search=search)
    searched(ledger)
    assert {one.state.name for one in study_of(ledger).trials} == {"COMPLETE", "FAIL"}


@pytest.mark.parametrize(
    ("launcher", "own", "living"),
    [({}, None, 1), ({"concurrent": 3}, None, 3), ({"concurrent": 3}, 2, 2), ({"name": "slurm"}, None, 4)],
)
def test_as_many_live_as_the_launcher_runs(planned, launcher, own, living):
    """What waits in a queue was chosen without what those before it will show."""
    ledger = planned("steps=1", search={**SEARCH, "concurrent": own}, **launcher)
    source = Search(ledger, planner_of(ledger), Launcher.of(ledger.fact("launcher")).at_once)
    assert len(source.ask(50)) == living
    assert source.ask(50) == []


def test_a_search_that_lives_sees_that_it_was_extended(planned):
    ledger = planned("steps=1", search={**SEARCH, "trials": 2})
    source = Search(ledger, planner_of(ledger))
    source.at_once = 9
    assert (len(source.ask(9)), source.done()) == (2, True)
    ledger.set_fact("search", {**ledger.fact("search"), "trials": 4})
    assert not source.done()
    assert len(source.ask(9)) == 2


@pytest.mark.parametrize("name", ["random", "tpe", "qmc"])
def test_a_search_that_goes_on_draws_others(planned, name):
    """A seeded sampler that began anew would ask for what is known already."""
    ledger = planned("steps=1", search={**SEARCH, "sampler": name, "seed": 1, "trials": 4})
    searched(ledger)
    ledger.set_fact("search", {**ledger.fact("search"), "trials": 8})
    searched(ledger)
    assert ledger.counts() == {"finished": 8}


def test_what_is_retried_counts_in_the_study(planned):
    """Optuna knows no way back from failed; its pruners take no reports of such a trial either."""
    ledger = planned("steps=2", "only=[broken]", search={**SEARCH, "trials": 3, "pruner": "median"})
    searched(ledger)
    assert ledger.counts() == {"failed": 3}
    (ledger.folder / "mended").touch()
    for number in range(3):
        ledger.update(number, state=State.planned, failures=0, ended=None)
    searched(ledger)
    searched(ledger)  # which must not tell it twice
    assert ledger.counts() == {"finished": 3}
    assert "study" not in (ledger.folder / "0" / "job.json").read_text()
    frozen = study_of(ledger).trials
    assert [one.state.name for one in frozen] == ["FAIL"] * 3 + ["COMPLETE"] * 3
    assert sorted(one.value for one in frozen[3:]) == sorted(trial.value for trial in ledger.each())


def test_a_cancelled_search_asks_for_no_more(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.05")
    ledger = planned("steps=400", search={**SEARCH, "trials": 50}, concurrent=2)
    told = []

    def cancel(one):
        if not told and one.counts().get("running"):
            told.append(cancel_sweep(one, LocalBackend(1, [], one.folder)))

    run(ledger, source=Search(ledger, planner_of(ledger), 2), show=cancel)
    assert told == [ledger.counts()["cancelled"]]
    assert set(ledger.counts()) == {"cancelled"}
    assert ledger.fact("ended")
    assert {one.state.name for one in study_of(ledger).trials} == {"FAIL"}


def test_a_space_is_checked_before_anything_runs(plan):
    space = {
        "only": "choice([], [a])",
        "sed": "range(1,9)",
        "steps": {"values": "choice(3, many)", "when": "only=[a]"},
    }
    with pytest.raises(ConfigError) as fault:
        create(plan(search={**SEARCH, "space": space}))
    assert fault.value.faults[0] == "sed: no such key; did you mean seed?"
    assert fault.value.faults[1].startswith("steps: Value 'many'")
    assert len(fault.value.faults) == 2


def test_probes_bring_what_they_depend_on():
    space = Space({
        "a": "choice(x,y)", "b": {"values": "choice(u,v)", "when": "a=y"},
        "c": {"values": "tag(log,interval(1e-3,1.0))", "when": "b=v"},
    })  # fmt: skip
    assert sorted(map(sorted, space.probes())) == sorted(map(sorted, [
        ["a=x"], ["a=y"], ["b=u", "a=y"], ["b=v", "a=y"], ["c=0.001", "b=v", "a=y"], ["c=1.0", "b=v", "a=y"],
    ]))  # fmt: skip


def test_two_objectives_have_a_front(planned):
    search = {**SEARCH, "objectives": {"toy": "maximize", "steps": "minimize"}, "sampler": "nsga2"}
    ledger = planned("steps=1", search=search)
    with console.capture() as captured:
        searched(ledger)
    assert captured.get().count("has no steps, and counts as failed; it has toy") == 1
    assert ledger.trial(0).reason == "has no steps; its metrics: toy"
    # "steps" is no metric of the toy: such trials have no values, and the study is told so
    assert {one.state.name for one in study_of(ledger).trials} == {"FAIL"}
    assert best_trials(ledger) == []


def go_on(folder, environment):
    os.environ.update(environment)
    ledger = Ledger(folder)
    searched(ledger)


@pytest.mark.slow
def test_a_killed_search_is_resumed_and_extended(planned, monkeypatch):
    monkeypatch.setenv("TOY_STEP_S", "0.05")
    ledger = planned("steps=6", search={**SEARCH, "trials": 6}, concurrent=2)
    process = FORK.Process(target=go_on, args=(ledger.folder, dict(os.environ)))
    process.start()
    until = time.monotonic() + 60
    while ledger.counts().get("finished", 0) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    searched(ledger)
    assert ledger.counts() == {"finished": 6} or ledger.counts().get("same")
    search = ledger.fact("search")
    ledger.set_fact("search", {**search, "trials": 9})
    searched(ledger)
    assert sum(ledger.counts().values()) == 9
    states = [one.state.name for one in study_of(ledger).trials]
    assert states.count("COMPLETE") == 9
    assert set(states) <= {"COMPLETE", "FAIL"}  # asked for and never written down, at most


def test_the_best_is_an_experiment_that_composes(planned, tmp_path):
    sessions = ["data.reader.train_sessions=2", "data.reader.val_sessions=1"]
    words = ["+experiment=quickstart", "+sweep=augmentation", "trainer.epochs=2", *sessions]
    ledger = planned(*words, search={"trials": 1, "space": {"optimizer": "choice(adamw,sgd)", "seed": "range(1,9)"}},
                     stage="train")  # fmt: skip
    source = Search(ledger, planner_of(ledger))
    trial = source.ask(1)[0]
    path = tmp_path / "conf" / "experiment" / "best.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(experiment_text(ledger, trial, {"score": 0.5}))
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        found = check_overrides("train", [f"hydra.searchpath=[file://{tmp_path}/conf]", "+experiment=best"])
        typed = check_overrides("train", [*words, *trial.words])
    assert found.faults == []
    assert found.config == typed.config


def test_trials_that_found_nothing_do_not_all_go_on(tmp_path):
    address = str(tmp_path / "study.journal")
    study = optuna.create_study(study_name="s", storage=storage(address), direction="maximize")
    search = {"pruner": "asha", "pruner_options": {"min_resource": 1, "reduction_factor": 3}}

    def ends(loss):
        spec = {"metric": "f1", "storage": address, "name": "s", "trial": study.ask().number, "search": search}
        return Reporter(spec).report(1, {"f1": 0.0}, loss)

    assert not ends(2.0)
    assert not ends(1.0)
    assert not ends(0.5)
    assert ends(1.5)
    assert ends(math.nan)
    assert not ends(0.1)


@pytest.mark.parametrize("path", sorted(path.stem for path in (conf_folder() / "sweep").glob("*.yaml")))
def test_a_sweep_file_makes_the_search(path):
    stage, words = ("evaluate", ["of=x"]) if path == "postprocess" else ("train", ["+experiment=quickstart"])
    prepare_hydra()
    load_plugins()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        chosen = compose(stage, [*words, f"+sweep={path}"], return_hydra_config=True).hydra.runtime.choices
        plain = compose(stage, words, return_hydra_config=True).hydra.runtime.choices
    assert (chosen["hydra/sweeper"], plain["hydra/sweeper"], plain["hydra/launcher"]) == ("search", "grid", "local")
