"""The errors that a user can cause: each names the place and the remedy in one line, and carries its exit code."""

from collections.abc import Sequence


class AvexpError(Exception):
    """A fault that a user can mend. Its text is one line: place, what is wrong, remedy.

    Args:
        where: the file, key, position or config path of the fault.
        what: what is wrong with it.
        remedy: what to do about it.
    """

    exit_code = 1

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(f"{where}: {what}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.remedy)


class DataError(AvexpError):
    """A recording, label, shard or dataset that cannot be used as it is."""

    exit_code = 3


class RunError(AvexpError):
    """A run or checkpoint that cannot be found, resumed or loaded."""

    exit_code = 4


class LostRankError(RunError):
    """Another process of the run is gone. Nothing is wrong with this one, or with the run: it is to be started again."""


class ExportError(AvexpError):
    """A plan or bundle that cannot be made or is refused."""

    exit_code = 5


class ConfigError(AvexpError):
    """All faults of a config at once.

    Args:
        faults: one line a fault, each with place and remedy.
    """

    exit_code = 2

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("config", "\n".join(self.faults))

    def __str__(self) -> str:
        return "\n".join(self.faults)

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:  # type: ignore[override]
        return type(self), (self.faults,)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """``"; did you mean x?"`` for the closest known name, else ``""``."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""
