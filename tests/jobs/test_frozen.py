"""What was submitted is what runs: code and conf may change meanwhile."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from avexp.jobs.ledger import Ledger, State

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
