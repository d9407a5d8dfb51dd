"""A run again: bit-exact, or the right cause after one thing was changed. In a clone of its own, as a user has it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, TINY

from avexp.core.run_folder import RunFolder
from avexp.records.dataset import Dataset

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The committed code and what is changed here, committed; so that files of it can be edited."""
    folder = tmp_path_factory.mktemp("clone") / "avexp"
    names = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "bench/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    commit(folder, "as it is")
    return folder


def git(folder, *words):
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def commit(folder, message):
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", message)


def call(clone, home, *words, code=0):
    """A command with the clone's code."""
    script = [str(clone / words[0])] if words[0].endswith(".py") else ["-m", "avexp.cli", words[0]]
    environment = {**os.environ, "PYTHONPATH": str(clone), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *script, *words[1:]],
        cwd=home, capture_output=True, text=True, timeout=300, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def trained(clone, home, lane_folder):
    out = call(clone, home, "train.py", *TINY, f"data.source={lane_folder}", "name=first", "data.name=lanes")
    return RunFolder(Path(next(line.split()[1] for line in out.splitlines() if line.startswith("run "))))


def reproduce(clone, home, run, *words, code):
    return call(clone, home, "run", "reproduce", str(run.path), *words, code=code)


def test_it_is_bit_exact(clone, home, trained):
    out = reproduce(clone, home, trained, code=0)
    assert "bit-exact: 10 batches with the same loss, and the same final weights" in out
    assert "code: as it is here" in out


def test_one_config_value(clone, home, trained):
    out = reproduce(clone, home, trained, "--set", "optimizer.lr=4e-3", code=1)
    assert "these differ: config\n" in out
    assert "optimizer.lr: " in out
    assert "-> 0.004" in out
    assert "the first loss that differs is that of batch 1 " in out, "the first step is made with the first loss"


def test_one_line_of_code(clone, home, trained):
    try:
        edit(clone / "avexp/train/schedule.py")
        out = reproduce(clone, home, trained, "--here", code=1)
        assert "these differ: code\n" in out
        assert "file avexp/train/schedule.py: as committed -> uncommitted changes" in out
        recorded = reproduce(clone, home, trained, code=0)
        assert "code: a clean worktree of" in recorded
        assert "bit-exact" in recorded
    finally:
        git(clone, "checkout", "-q", ".")


def edit(file, factor="1.01"):
    """The learning rate a hundredth higher: one line."""
    text = file.read_text()
    line = "        progress = min(1.0,"
    assert line in text
    file.write_text(
        text.replace(
            "            return (step + 1) / self.warmup\n", f"            return {factor} * (step + 1) / self.warmup\n"
        )
    )


def test_uncommitted_changes_are_had_again(clone, home, lane_folder):
    """Also a file that git does not know."""
    (clone / "avexp/train/extra_room.py").write_text('"""New."""\n\nFACTOR = 1.01\n')
    edit(clone / "avexp/train/schedule.py", "extra_room.FACTOR")
    text = (clone / "avexp/train/schedule.py").read_text()
    (clone / "avexp/train/schedule.py").write_text(
        text.replace("import math\n", "import math\n\nfrom avexp.train import extra_room\n")
    )
    try:
        out = call(clone, home, "train.py", *TINY, f"data.source={lane_folder}", "name=dirty", "data.name=lanes")
        run = RunFolder(Path(next(line.split()[1] for line in out.splitlines() if line.startswith("run "))))
    finally:
        git(clone, "checkout", "-q", ".")
        (clone / "avexp/train/extra_room.py").unlink()
    out = reproduce(clone, home, run, code=0)
    assert "with its uncommitted changes" in out
    assert "bit-exact" in out


def test_one_package(clone, home, trained, tmp_path):
    older = RunFolder(tmp_path / "older" / trained.id)
    shutil.copytree(trained.path, older.path)
    lock = json.loads(older.lock.read_text())
    lock["packages"]["torch"] = "2.12.0"
    older.lock.write_text(json.dumps(lock))
    out = reproduce(clone, home, older, code=0)
    assert "bit-exact" in out
    assert "though these differ: packages" in out
    assert "torch: 2.12.0 -> " in out


def test_one_label(clone, home, trained, lane_folder, tmp_path):
    """A version with one point of one lane moved is another version; the run's own is had by its digest."""
    changed = tmp_path / "lanes"
    shutil.copytree(lane_folder, changed)
    file = changed / "highway_day/lanes_a.json"
    lines = file.read_text().splitlines()
    entry = json.loads(lines[0])
    entry["lanes"][0][2] += 1
    file.write_text("\n".join([json.dumps(entry), *lines[1:]]))
    call(clone, home, "train.py", *TINY, f"data.source={changed}", "data.name=lanes", "name=other", "trainer.epochs=1")
    assert Dataset.open(home / "outputs/store", "lanes").manifest.version == 2
    assert "bit-exact" in reproduce(clone, home, trained, code=0), "the newer version of the same name changes nothing"
    other = Dataset.open(home / "outputs/store", "lanes@2").manifest.digest
    out = reproduce(clone, home, trained, "--set", f"++data.version={other}", code=1)
    assert "these differ: data\n" in out
    assert "lanes: @1" in out


def test_a_label_that_was_changed_on_disk_is_named(clone, home, trained):
    dataset = Dataset.open(home / "outputs/store", "lanes@1")
    entry = dataset.entry(5)
    shard = home / "outputs/store" / dataset.manifest.shards[entry.labels_shard].path
    content = shard.read_bytes()
    place = content.index(b"lanes", entry.labels_offset)
    try:
        shard.write_bytes(content[:place] + b"lAnes" + content[place + 5 :])
        out = reproduce(clone, home, trained, code=3 + 1)
        assert "data is not what it was" in out
        assert dataset.key_of(entry) in out
        assert "checksum differs" in out
    finally:
        shard.write_bytes(content)


def test_a_saved_config_that_names_foreign_code_is_refused(clone, home, trained, tmp_path):
    evil = RunFolder(tmp_path / "evil" / trained.id)
    shutil.copytree(trained.path, evil.path)
    for file in (evil.hydra / "config.yaml", evil.config):
        text = file.read_text()
        assert "_target_: torch.optim.AdamW" in text
        file.write_text(text.replace("_target_: torch.optim.AdamW", "_target_: os.system"))
    status = json.loads(evil.status.read_text())
    out = reproduce(clone, home, evil, code=4)
    assert "os.system may not be named by a config from elsewhere" in out
    assert "os.system may not be named" in call(clone, home, "train.py", f"+replay={evil.path}", code=2)
    evil.status.write_text(json.dumps({**status, "state": "stopped"}))
    assert "os.system may not be named" in call(clone, home, "train.py", f"resume={evil.path}", code=2)
