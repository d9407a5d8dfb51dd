"""A search's space in Hydra's own grammar: ``choice(a,b)``, ``range(1,5)``, ``tag(log, interval(1e-5,1e-2))``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from avexp.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dimension.

    Attributes:
        key: dotted key, or a group.
        choices: texts to choose from; empty for an interval.
        low: least value of an interval.
        high: greatest.
        step: of a range; None for continuous.
        log: on a logarithmic scale.
        whole: integers.
        when: only where these other parameters have one of these texts.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    when: Mapping[str, tuple[str, ...]]

    @property
    def grid(self) -> list[Any] | None:
        """All values; None if there are infinitely many."""
        if self.choices:
            return list(self.choices)
        if self.step is None:
            return None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        values = [self.low + number * self.step for number in range(count)]
        return [int(value) for value in values] if self.whole else values

    def text(self, value: Any) -> str:
        """As it is typed."""
        if self.choices:
            return str(value)
        return str(int(value)) if self.whole else repr(float(value))

    def suggest(self, trial: Any) -> Any:
        """Ask an Optuna trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)


class Space:
    """All dimensions; those that others depend on first.

    Args:
        entries: key -> grammar, or {values: grammar, when: "key=a,b"}.

    Raises:
        ConfigError: names all that cannot be read.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        faults: list[str] = []
        found: dict[str, Parameter] = {}
        for key, entry in entries.items():
            try:
                found[key] = parameter(key, entry)
            except (HydraException, ValueError, TypeError) as fault:
                faults.append(f"hydra.sweeper.space.{key}: {str(fault).strip().splitlines()[0]}")
        for one in found.values():
            for name in one.when:
                if name not in found:
                    hint = did_you_mean(name, list(found))
                    faults.append(f"hydra.sweeper.space.{one.key}.when: {name} is no part of the space{hint}")
        if faults:
            raise ConfigError(faults)
        self.parameters = _ordered(found)

    @property
    def conditional(self) -> bool:
        """Whether any depends on another."""
        return any(one.when for one in self.parameters)

    def words(self, trial: Any) -> list[str]:
        """Ask an Optuna trial for every parameter that counts, as overrides."""
        chosen: dict[str, str] = {}
        for one in self.parameters:
            if all(chosen.get(name) in texts for name, texts in one.when.items()):
                chosen[one.key] = one.text(one.suggest(trial))
        return [f"{key}={text}" for key, text in chosen.items()]

    def probes(self) -> Iterator[list[str]]:
        """Each value that is listed, and the ends of what is not, with what it depends on: as words that must fit."""
        known = {one.key: one for one in self.parameters}
        for one in self.parameters:
            needs: dict[str, str] = {}
            waiting = dict(one.when)
            while waiting:
                name, texts = waiting.popitem()
                needs[name] = texts[0]
                waiting |= {further: texts for further, texts in known[name].when.items() if further not in needs}
            for value in one.choices or (one.low, one.high):
                yield [*(f"{key}={text}" for key, text in needs.items()), f"{one.key}={one.text(value)}"]

    def grid(self) -> dict[str, list[Any]]:
        """All values of all.

        Raises:
            ConfigError: one has infinitely many, or depends on another.
        """
        faults = []
        for one in self.parameters:
            if one.grid is None:
                faults.append(f"hydra.sweeper.space.{one.key}: a grid needs choice or range, not an interval")
            if one.when:
                faults.append(f"hydra.sweeper.space.{one.key}.when: a grid knows no conditions; use tpe or random")
        if faults:
            raise ConfigError(faults)
        return {one.key: one.grid or [] for one in self.parameters}


def parameter(key: str, entry: Any) -> Parameter:
    """One entry.

    Raises:
        ValueError: it gives one value only, or none that can be searched.
        HydraException: it is no override.
    """
    when: dict[str, tuple[str, ...]] = {}
    if isinstance(entry, Mapping):
        unknown = set(entry) - {"values", "when"}
        if unknown or "values" not in entry:
            raise ValueError(f"takes values and when, not {', '.join(map(str, entry))}")
        for condition in str(entry.get("when") or "").split(" and "):
            if condition.strip():
                name, _, texts = condition.strip().partition("=")
                when[name] = tuple(text.strip() for text in texts.split(","))
        entry = entry["values"]
    if isinstance(entry, list | tuple):
        entry = f"choice({','.join(_text(value) for value in entry)})"
    parsed = OverridesParser.create().parse_override(f"{key}={entry}")
    return _dimension(key, parsed, when)


def _dimension(key: str, parsed: Override, when: Mapping[str, tuple[str, ...]]) -> Parameter:
    value: Any = parsed._value
    if isinstance(value, ChoiceSweep):
        texts = tuple(str(word).partition("=")[2] for word in _typed_words(parsed))
        return Parameter(key=key, choices=texts, when=when)
    if isinstance(value, RangeSweep):
        step = abs(value.step or 1)
        whole = all(isinstance(one, int) for one in (value.start, value.stop, step) if one is not None)
        if value.start is None or value.stop is None or value.stop <= value.start:
            raise ValueError(f"range({value.start},{value.stop}) is empty")
        last = value.start + (int((value.stop - value.start) / step - 1e-9)) * step
        return Parameter(
            key=key, low=value.start, high=last, step=step, whole=whole, log="log" in value.tags, when=when
        )
    if isinstance(value, IntervalSweep):
        if value.start is None or value.end is None or value.end <= value.start:
            raise ValueError(f"interval({value.start},{value.end}) is empty")
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return Parameter(key=key, low=value.start, high=value.end, whole=whole, log="log" in value.tags, when=when)
    raise ValueError("give several values: choice(...), range(...), interval(...) or tag(log, interval(...))")


def _typed_words(parsed: Override) -> list[str]:
    key = parsed.get_key_element()
    return [f"{key}={value}" for value in parsed.sweep_string_iterator()]


def _text(value: Any) -> str:
    return Override._get_value_element_as_str(value)


def _ordered(found: Mapping[str, Parameter]) -> list[Parameter]:
    """Those that others depend on first.

    Raises:
        ConfigError: they depend on each other in a circle.
    """
    placed: dict[str, Parameter] = {}
    while len(placed) < len(found):
        ready = [one for key, one in found.items() if key not in placed and set(one.when) <= set(placed)]
        if not ready:
            circle = ", ".join(key for key in found if key not in placed)
            raise ConfigError([f"hydra.sweeper.space: {circle} depend on each other in a circle"])
        placed |= {one.key: one for one in ready}
    return list(placed.values())
