"""A start that was overtaken ends; one that was not goes on."""

import json

import pytest

from avexp.jobs import task
from avexp.jobs.starts import STARTS, note_start


class Ended(BaseException):
    pass


@pytest.mark.parametrize("others", [[], [{"token": "a", "restart": 1}]])
def test_overtaken(tmp_path, monkeypatch, others):
    job = task.Job(tmp_path, tmp_path / "results", "a")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            (tmp_path / STARTS).write_text("".join(json.dumps(line) + "\n" for line in [mine, *others]))
        if len(looks) == 4:
            raise TimeoutError

    def end(code):
        assert code == task.REQUEUED
        raise Ended

    mine = note_start(tmp_path, "a")
    monkeypatch.setattr(task.time, "sleep", sleep)
    monkeypatch.setattr(task.os, "_exit", end)
    with pytest.raises(Ended if others else TimeoutError):
        task._end_if_overtaken(job, mine)
    assert len(looks) == (2 if others else 4)
