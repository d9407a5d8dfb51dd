import pytest

from avexp.core.errors import RunError
from avexp.jobs.ledger import Attempt, Ledger, State, Trial


def trial(number, **values):
    return Trial(
        number=number, digest=f"d{number}", base="b", changes={"seed": number}, words=[f"seed={number}"], **values
    )


def test_what_is_written_is_read_again(tmp_path):
    ledger = Ledger.create(tmp_path / "sweep", {"command": "x", "search": None}, [trial(0), trial(1)])
    ledger.update(1, state=State.finished, value=0.5, metrics={"a": 1.0})
    ledger.begin_attempts([Attempt(token="t", trial=0, batch="b")])
    ledger.close()
    again = Ledger(tmp_path / "sweep")
    assert again.fact("command") == "x"
    assert [one.state for one in again.trials()] == [State.submitted, State.finished]
    assert again.trial(1).metrics == {"a": 1.0}
    assert again.counts() == {"submitted": 1, "finished": 1}
    assert [one.token for one in again.attempts(living=True)] == ["t"]
    assert again.next_number() == 2
    assert again.by_digest("d1").number == 1


def test_a_ledger_appears_whole_or_not_at_all(tmp_path):
    def broken():
        yield trial(0)
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        Ledger.create(tmp_path, {}, broken())
    with pytest.raises(RunError, match="holds no sweep"):
        Ledger(tmp_path)
    Ledger.create(tmp_path, {}, [trial(0)]).close()
    with pytest.raises(RunError, match="holds a sweep already"):
        Ledger.create(tmp_path, {}, [])


def test_a_torn_ledger_and_another_format_are_named(tmp_path):
    (tmp_path / "sweep.db").write_bytes(b"no database at all, but long enough to look like one" * 20)
    with pytest.raises(RunError, match="is no ledger"):
        Ledger(tmp_path)
    ledger = Ledger.create(tmp_path / "new", {}, [])
    ledger.set_fact("format", 99)
    ledger.close()
    with pytest.raises(RunError, match="has format 99"):
        Ledger(tmp_path / "new")


def test_changes_are_all_or_nothing(tmp_path):
    ledger = Ledger.create(tmp_path, {}, [trial(0)])
    with pytest.raises(ValueError, match="torn"), ledger.together():
        ledger.update(0, state=State.failed)
        with ledger.together():
            ledger.update(0, reason="inner")
        raise ValueError("torn")
    assert ledger.trial(0).state is State.planned
    assert ledger.trial(0).reason == ""
