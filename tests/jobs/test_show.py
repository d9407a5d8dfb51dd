"""What a sweep costs while it runs."""

import json
import os
import time

import pytest

from avexp.core.progress import console
from avexp.jobs.ledger import State
from avexp.jobs.show import Progress, cost_of


def test_a_trial_that_runs_is_charged_up_to_now(planned):
    shape = ["hardware.price_per_hour=4.5", "hardware.nodes=2", "hardware.devices=2"]
    ledger = planned("seed=1,2", *shape)
    for number in (0, 1):
        path = ledger.folder / str(number) / "cost.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"wall_s": 3600.0, "cpu_hours": 1.0, "gpu_hours": 4.0, "money": 18.0}))
        hour_ago = time.time() - 3600
        os.utime(path, (hour_ago, hour_ago))
        ledger.update(number, attempts=1)
    ledger.update(0, state=State.running)
    running, waiting = (cost_of(ledger.folder, trial) for trial in ledger.each())
    assert running["money"] == pytest.approx(18.0 + 9.0, rel=0.01)  # two nodes without GPUs
    assert running["gpu_hours"] == 4.0
    assert waiting["money"] == 18.0  # saved, and back in the queue


def test_a_failure_is_told_as_it_happens(planned, monkeypatch):
    monkeypatch.setattr("avexp.jobs.show.LOG_EVERY_S", 0.0)
    ledger = planned("seed=range(0,4)")
    ledger.update(0, state=State.failed, reason="known before")
    with console.capture() as captured, Progress(ledger) as progress:
        progress.show(ledger)
        ledger.update(2, state=State.failed, reason="ValueError: no\nTraceback")
        progress.show(ledger)
        progress.show(ledger)
    lines = [line for line in captured.get().splitlines() if line.startswith("failed")]
    assert lines == ["failed      2: ValueError: no"]
