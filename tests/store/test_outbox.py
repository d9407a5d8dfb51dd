import json

import pytest

from avexp.core.errors import RunError
from avexp.core.file_lock import file_lock
from avexp.core.run_folder import RunFolder
from avexp.store.json_lines import JsonLines
from avexp.store.outbox import Outbox, Point, RefusedError, Sent, lines_behind


class Memory:
    """A sink that keeps what it gets; it refuses metrics named bad, and can be told to be down."""

    def __init__(self, url="memory:"):
        self.url = url
        self.got, self.opened, self.down = [], [], False

    def open(self, start, known):
        self._answer()
        self.opened.append(known)
        return known or "r1"

    def metrics(self, run_id, points):
        self._answer()
        assert len(points) <= 1000
        if any(point.name == "bad" for point in points):
            raise RefusedError("bad is bad")
        self.got += [(point.name, point.step, point.value) for point in points]

    def event(self, run_id, event, folder):
        self._answer()
        if event["kind"] == "odd":
            raise RefusedError("odd is odd")
        self.got.append(event["kind"])

    def _answer(self):
        if self.down:
            raise ConnectionError("down")


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    say(folder, {"kind": "start", "run_id": "x"})
    return folder


def say(run, *entries):
    lines = JsonLines(run.tracking)
    for entry in entries:
        lines.append(entry)
    lines.close()


def log(run, *steps, **values):
    lines = JsonLines(run.metrics)
    for step in steps:
        lines.append({"step": step, "time_ms": step, "values": values or {"loss": 0.5}})
    lines.close()


def test_sends_each_line_once_and_metrics_before_the_finish(run):
    sink = Memory()
    log(run, 1, 2)
    say(run, {"kind": "finish"})
    assert lines_behind(run) == 4
    assert Outbox(run, sink).send() == 4
    assert sink.got == [("loss", 1, 0.5), ("loss", 2, 0.5), "start", "finish"]
    assert Outbox(run, sink).send() == 0
    assert sink.opened == [None, "r1"]
    assert lines_behind(run) == 0


def test_what_a_dead_server_missed_is_sent_later_from_where_it_stopped(run):
    sink = Memory()
    outbox = Outbox(run, sink)
    log(run, 1)
    sink.down = True
    with pytest.raises(ConnectionError):
        outbox.send()
    assert Sent.of(run).run_id is None
    sink.down = False
    outbox.send()
    log(run, 2)
    outbox.send()
    assert sink.got == [("loss", 1, 0.5), "start", ("loss", 2, 0.5)]
    assert sink.opened == [None]


def test_a_refused_value_is_counted_and_all_others_arrive(run):
    sink = Memory()
    log(run, *range(300), **{f"m{n}": 1.0 for n in range(9)})
    log(run, 300, good=1.0, bad=2.0)
    say(run, {"kind": "odd"}, {"kind": "finish"})
    Outbox(run, sink).send()
    assert len([entry for entry in sink.got if isinstance(entry, tuple)]) == 300 * 9 + 1
    assert sink.got[-2:] == ["start", "finish"]
    assert (Sent.of(run).refused, Sent.of(run).reason) == (2, "bad is bad")
    assert str(Sent.of(run)) == "sent to memory:, run r1; 2 entries refused, such as: bad is bad"


def test_damaged_lines_are_passed_over(run):
    sink = Memory()
    run.metrics.write_text(
        '{"step": 1, "time_ms": 1, "values": {"a": 1}}\nnonsense\n{"step": "x"}\n[1]\n{"step": 2, "tim'
    )
    Outbox(run, sink).send()
    assert sink.got == [("a", 1, 1.0), "start"]


def test_a_damaged_state_sends_all_again(run):
    sink = Memory()
    log(run, 1)
    Outbox(run, sink).send()
    run.tracking_state.write_text('{"url": "memory:", "unknown": 1}')
    Outbox(run, sink).send()
    assert sink.got == [("loss", 1, 0.5), "start"] * 2


def test_another_server_gets_the_whole_run(run):
    log(run, 1)
    Outbox(run, Memory()).send()
    other = Memory("other:")
    assert lines_behind(run, "other:") == 2
    Outbox(run, other).send()
    assert other.got == [("loss", 1, 0.5), "start"]


def test_a_second_sender_waits_a_bounded_time(run):
    with file_lock(run.tracking_lock, 1), pytest.raises(RunError, match="another process"):
        Outbox(run, Memory()).send(lock_timeout_s=0.05)


def test_a_run_without_start_is_named(tmp_path):
    with pytest.raises(RunError, match="does not begin with a start event"):
        Outbox(RunFolder(tmp_path), Memory()).send()


def test_state_file_is_plain(run):
    Outbox(run, Memory()).send()
    size = run.tracking.stat().st_size
    assert json.loads(run.tracking_state.read_text()) == {
        "url": "memory:",
        "run_id": "r1",
        "metrics": 0,
        "tracking": size,
        "refused": 0,
        "reason": "",
    }
    assert Point("a", 1.0, 2, 3) == Point(name="a", value=1.0, step=2, time_ms=3)
