"""Commands as a user types them, and a run that is small enough for tests."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "+experiment=lanes_real",
    "hardware.precision=fp32",
    "model.height_px=64",
    "model.width_px=64",
    "model.backbone.widths=[8,8,8,8]",
    "model.neck.width=8",
    "model.heads.lanes.width=8",
    "loader.batch_size=6",
    "loader.evaluation_batch_size=6",
    "trainer.epochs=2",
    "trainer.validate_every_epochs=1",
    "trainer.pictures=2",
    "data.annotators=[a]",
    "store=none",
]


def call(folder, *words, code=0, timeout=150, **environment):
    """Run one command in a folder; its output."""
    command = (
        [sys.executable, str(ROOT / words[0]), *words[1:]]
        if words[0].endswith(".py")
        else [sys.executable, "-m", "avexp.cli", *words]
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout, env=settings, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert code == 0 or "Traceback" not in done.stderr or environment
    return done.stdout + done.stderr
