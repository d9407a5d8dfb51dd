"""Sweeps of the toy stage, planned and run as a person's command does it."""

from pathlib import Path

import pytest

from avexp.core.overrides import load_plugins
from avexp.core.stage import prepare_hydra
from avexp.jobs.launch import Launcher
from avexp.jobs.sweep import SweepPlan, create

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _hydra(monkeypatch):
    prepare_hydra()
    load_plugins()
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("PYTHONPATH", f"{TESTS}:{TESTS.parent}")


@pytest.fixture
def plan(tmp_path):
    """Makes a plan of words over the toy stage."""

    def make(*words, function="toy_stage:work", search=None, folder="sweep", stage="ci", **launcher):
        return SweepPlan(
            folder=tmp_path / "outputs" / stage / "toy" / folder, stage=stage, function=function, words=list(words),
            launcher=Launcher.of(launcher), search=search,
        )  # fmt: skip

    return make


@pytest.fixture
def planned(plan, monkeypatch):
    """Plans a sweep; its code is the checkout itself, which saves copying it for every test."""
    monkeypatch.setattr("avexp.jobs.sweep.snapshot", lambda folder, modules=(): None)

    def make(*words, **options):
        return create(plan(*words, **options))

    return make
