"""What a sweep leaves behind: pictures, a report, its best trial."""

import subprocess
import sys

import pytest

from avexp.evaluate.after_sweep import conclude
from avexp.jobs.importances import importances_of
from avexp.jobs.launch import Launcher
from avexp.jobs.ledger import Ledger, State
from avexp.jobs.sweep import SweepPlan, create


@pytest.fixture
def ended(tmp_path, monkeypatch):
    """A sweep whose trials ended with these values, by their words."""
    monkeypatch.setattr("avexp.jobs.sweep.snapshot", lambda folder, modules=(): None)

    def make(words, value_of, search=None):
        folder = tmp_path / "ci" / "toy" / "20260101T000000Z-aaaaaa"
        plan = SweepPlan(
            folder=folder, stage="ci", function="toy_stage:work", words=words, launcher=Launcher.of({}), search=search
        )
        ledger = create(plan)
        for trial in ledger.trials():
            value = value_of(dict(word.split("=", 1) for word in trial.words))
            state = State.failed if value is None else State.finished
            ledger.update(
                trial.number, state=state, value=value, ended=float(trial.number), reason="no" if value is None else ""
            )
        return ledger

    return make


def test_a_grid_has_its_three_pictures(ended):
    ledger = ended(
        ["seed=range(0,4)", "steps=1,2", "only=[a],[b]"],
        lambda words: float(words["seed"]) + 0.1 * (words["only"] == "[a]"),
    )
    conclude(ledger.folder)
    assert sorted(path.stem for path in (ledger.folder / "pictures").iterdir()) == [
        "history",
        "importances",
        "parallel",
    ]
    shares = importances_of(ledger)
    assert max(shares, key=shares.get) == "seed"
    text = (ledger.folder / "report.html").read_text()
    assert text.count("data:image/png") == 3
    for said in ("3.1000", "CPU-hours", "all combinations"):
        assert said in text
    assert ">why<" not in text


def test_what_decides_comes_first_even_in_a_small_grid(ended):
    values = {
        ("1", "1"): 0.2271,
        ("1", "2"): 0.2272,
        ("3", "1"): 0.2244,
        ("3", "2"): 0.225,
        ("9", "1"): 0.2018,
        ("9", "2"): 0.2046,
    }
    shares = importances_of(ended(["seed=1,3,9", "steps=1,2"], lambda words: values[words["seed"], words["steps"]]))
    assert shares["seed"] > 0.8


def test_importances_need_values_that_differ_in_several_ways(ended):
    assert importances_of(ended(["seed=range(0,9)"], lambda words: float(words["seed"]))) == {}


def test_importances_do_not_weigh_on_the_launcher(ended):
    ledger = ended(["seed=range(0,4)", "steps=1,2"], lambda words: float(words["seed"]))
    code = (
        "import sys; from pathlib import Path; from avexp.evaluate.after_sweep import conclude;"
        f"conclude(Path({str(ledger.folder)!r})); print(sorted({{'sklearn', 'scipy'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (ledger.folder / "pictures" / "importances.png").is_file()
    assert done.stdout.endswith("[]\n"), done.stdout


def test_importances_that_cannot_be_reckoned_are_left_out(ended, capsys):
    ledger = ended(["seed=range(0,4)", "steps=1,2"], lambda words: float(words["seed"]))
    (ledger.folder / Ledger.FILE).unlink()
    assert importances_of(ledger) == {}
    assert "importances are left out: " in capsys.readouterr().out


def test_a_sweep_that_failed_says_why(ended):
    ledger = ended(["seed=1,2"], lambda words: None)
    conclude(ledger.folder)
    text = (ledger.folder / "report.html").read_text()
    assert not (ledger.folder / "pictures").exists()
    assert ">why<" in text
    assert "2 failed" in text


def test_what_was_pruned_is_no_result(ended):
    ledger = ended(["seed=range(0,8)", "steps=1,2"], lambda words: float(words["seed"]))
    best = Ledger(ledger.folder).trials()[-1]
    ledger.update(best.number, state=State.pruned)
    conclude(ledger.folder)
    assert "trial 14" in (ledger.folder / "report.html").read_text()
