"""What was submitted is what runs: code and conf may change meanwhile."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from avexp.core.errors import RunError
from avexp.jobs.freeze import freeze_data, freeze_runs
from avexp.jobs.frozen_conf import hydra_on, hydra_on_ledger, planner_of
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.sweep import create, run

ROOT = Path(__file__).resolve().parents[2]
PLAN = """
import sys
from pathlib import Path
from avexp.jobs.sweep import SweepPlan, create
words = ["seed=1,2", "steps=3"]
create(SweepPlan(folder=Path(sys.argv[1]), stage="ci", function="tests.toy_stage:work", words=words)).close()
"""


def expected(seed):
    digest = str(seed)
    for step in range(3):
        digest = hashlib.sha256(f"{digest}{step}".encode()).hexdigest()
    return int(digest[:8], 16) / 2**32


def test_editing_code_and_conf_changes_nothing_that_is_queued(tmp_path, monkeypatch):
    clone, folder = tmp_path / "clone", tmp_path / "outputs" / "ci" / "toy" / "20260101T000000Z-aaaaaa"
    done = subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=False, capture_output=True, timeout=60)
    if done.returncode:
        pytest.skip("no git checkout to clone")
    monkeypatch.setenv("PYTHONPATH", str(clone))
    toy, conf = clone / "tests" / "toy_stage.py", clone / "conf" / "ci.yaml"
    toy.write_text(toy.read_text() + "\nUNCOMMITTED = True\n")
    subprocess.run([sys.executable, "-c", PLAN, str(folder)], check=True, timeout=60, cwd=tmp_path)
    assert "UNCOMMITTED" in (folder / "code" / "tests" / "toy_stage.py").read_text()
    assert "UNCOMMITTED" not in (folder / "code" / "commit.txt").read_text()
    toy.write_text("raise RuntimeError('edited while the sweep was queued')\n")
    conf.write_text("not: [a config")
    (clone / "avexp" / "jobs" / "trial_run.py").write_text("raise RuntimeError('edited too')\n")
    command = [sys.executable, "-m", "avexp.cli", "sweep", "attach", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    ledger = Ledger(folder)
    assert [trial.state for trial in ledger.each()] == [State.finished] * 2, done.stdout + done.stderr
    assert [trial.value for trial in ledger.each()] == [expected(1), expected(2)]


def test_a_trial_is_locked_to_the_code_that_was_submitted(tmp_path, monkeypatch):
    """Its outputs lie in the checkout, as a user's do, whose commit is another by the time that the trial runs."""
    clone = tmp_path / "clone"
    done = subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=False, capture_output=True, timeout=60)
    if done.returncode:
        pytest.skip("no git checkout to clone")
    folder = clone / "outputs" / "ci" / "toy" / "20260101T000000Z-aaaaaa"
    monkeypatch.setenv("PYTHONPATH", str(clone))
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with (clone / "conf" / "ci.yaml").open("a") as conf:
        conf.write("# uncommitted\n")
    subprocess.run([sys.executable, "-c", PLAN, str(folder)], check=True, timeout=60, cwd=clone)
    subprocess.run([*git, "commit", "-qam", "later"], check=True)
    command = [sys.executable, "-m", "avexp.cli", "sweep", "attach", str(folder)]
    subprocess.run(command, cwd=clone, capture_output=True, timeout=120, check=True)
    code = json.loads((folder / "0" / "lock.json").read_text())["code"]
    changes = (folder / "0" / "code.diff").read_text()
    assert code == {"commit": commit, "diff_sha256": hashlib.sha256(changes.encode()).hexdigest()}
    assert "+# uncommitted" in changes


def snapshot_of(home, tmp_path):
    """What a process whose avexp lies in ``home`` copies."""
    call = "from pathlib import Path; from avexp.jobs.snapshot import snapshot; print(snapshot(Path('copy')))"
    environment = {**os.environ, "PYTHONPATH": str(home), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", call],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_an_installed_avexp_is_not_copied_even_inside_another_checkout(tmp_path):
    shutil.copytree(ROOT / "avexp", tmp_path / ".venv" / "avexp", ignore=shutil.ignore_patterns("__pycache__"))
    if subprocess.run(["git", "init", "-q", str(tmp_path)], check=False, timeout=60).returncode:
        pytest.skip("no git")
    (tmp_path / ".gitignore").write_text(".venv\n")
    assert snapshot_of(tmp_path / ".venv", tmp_path) == "None"


def test_a_checkout_without_git_is_copied(tmp_path):
    for part in ("avexp", "conf", "launchers"):
        shutil.copytree(ROOT / part, tmp_path / "src" / part, ignore=shutil.ignore_patterns("__pycache__"))
    assert snapshot_of(tmp_path / "src", tmp_path) == "copy"
    assert (tmp_path / "copy" / "conf" / "ci.yaml").is_file()
    assert (tmp_path / "copy" / "avexp" / "core" / "stage.py").is_file()


def test_a_teams_own_package_is_frozen(plan, tmp_path, monkeypatch):
    team = tmp_path / "lib" / "teamwork"
    team.mkdir(parents=True)
    (team / "__init__.py").write_text("")
    (team / "stage.py").write_text("def work(config, run):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(team.parent))
    monkeypatch.setenv("PYTHONPATH", f"{team.parent}:{ROOT}")
    ledger = create(plan("seed=1", function="teamwork.stage:work"))
    (team / "stage.py").write_text("raise RuntimeError('edited while the sweep was queued')\n")
    run(ledger)
    assert ledger.trial(0).value == 1.0, ledger.trial(0).reason


def test_further_folders_of_configs_are_frozen(plan, tmp_path):
    mine = tmp_path / "mine" / "debug"
    mine.mkdir(parents=True)
    (mine / "slow.yaml").write_text("# @package _global_\nsteps: 5\n")
    ledger = create(replace(plan("seed=1,2", "+debug=slow"), config_dirs=[mine.parent]))
    (mine / "slow.yaml").write_text("# @package _global_\nsteps: 50\n")
    with hydra_on_ledger(ledger):
        assert planner_of(ledger).base().config.steps == 5


def test_a_saved_config_is_what_is_swept(plan, tmp_path):
    ledger = create(plan("seed=1", "steps=3"))
    run(ledger)
    saved = ledger.folder / "0" / ".hydra"
    again = replace(plan("seed=1,2", folder="again"), saved=saved)
    assert again.digest != plan("seed=1,2", folder="again").digest
    swept = create(again)
    (saved / "config.yaml").write_text("seed: 9\n")
    run(swept)
    assert [trial.value for trial in swept.each()] == [expected(1), expected(2)]


class Source:
    """Of a dataset whose version is its name."""

    def __init__(self, name, version=None):
        self.name = name

    def open(self, root, tiers=None):
        return SimpleNamespace(manifest=SimpleNamespace(digest=f"digest-of-{self.name}{tiers or ''}"))


class FakePlanner:
    def __init__(self, remote=None):
        self.words, self.pins, self.remote = [], {}, remote

    def base(self, choices=()):
        name = choices[0].partition("=")[2] if choices else "plain"
        data = {"_target_": f"{__name__}.Source", "name": name}
        return SimpleNamespace(config=OmegaConf.create({"data": data, "storage": {"root": "r", "remote": self.remote}}))

    def forget(self):
        pass


@pytest.mark.parametrize(
    ("swept", "space", "words", "pins"),
    [
        ([], {}, ["plain"], []),
        (["data=a,b"], {}, [], ["a", "b"]),
        ([], {"data": "choice(a,b)"}, [], ["a", "b"]),
        (["data.name=x,y"], {}, [], []),
        ([], {"optimizer.lr": "interval(1,2)"}, ["plain"], []),
    ],
)
def test_the_dataset_version_of_each_choice_is_frozen(plan, swept, space, words, pins):
    planner = FakePlanner()
    with hydra_on(plan("seed=1").confs):
        freeze_data(planner, swept, space)
    assert planner.words == [f"++data.version=digest-of-{name}" for name in words]
    assert planner.pins == {f"data={name}": [f"++data.version=digest-of-{name}"] for name in pins}


def test_a_version_in_an_object_store_is_frozen_where_it_can_be_read():
    one, other = FakePlanner("s3://x"), FakePlanner("s3://x")
    freeze_data(one, [], {})
    freeze_data(other, [], {}, lambda config: f"+{config.storage.remote}")
    assert (one.words, other.words) == ([], ["++data.version=digest-of-plain+s3://x"])


def test_the_latest_run_is_the_one_when_it_was_submitted(tmp_path):
    run_ = tmp_path / "train" / "x" / "20260101T000000Z-aaaaaa"
    for trial in ("3", "10"):
        (run_ / trial).mkdir(parents=True)
        (run_ / trial / "lock.json").write_text("{}")
    assert freeze_runs("evaluate", ["of=latest", "seed=1"], tmp_path) == [f"of='{run_ / '10'}'", "seed=1"]
    assert freeze_runs("train", ["of=latest"], tmp_path) == ["of=latest"]
    newer = tmp_path / "train" / "x" / "20260102T000000Z-aaaaaa"
    newer.mkdir()
    (newer / "lock.json").write_text("{}")
    both = freeze_runs("export", [f"run=latest,{run_ / '3'}"], tmp_path)
    assert both == [f"run='{newer}','{run_ / '3'}'"]
    with pytest.raises(RunError, match="no such run"):
        freeze_runs("evaluate", ["of=zzzzzz"], tmp_path)
