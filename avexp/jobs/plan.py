"""What a sweep asks for -> trials: composed once, checked, told apart.

Composing a config costs a hundred milliseconds, changing a value in it a thousandth of that. So a config is composed once for
each choice of groups, checked once for each value that a trial puts into it, and a trial is that base and its changes.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from avexp.core.config import over_schema
from avexp.core.errors import ConfigError
from avexp.core.files import digest_json, write_text
from avexp.core.lock import config_digest, without_influence
from avexp.core.overrides import Checked, Word, check_overrides
from avexp.core.preflight import preflight, preflight_value
from avexp.jobs.ledger import Trial

MOST_COMBINED = 500
"""Combinations of values whose ranges may depend on each other that are checked one by one."""


@dataclass(frozen=True)
class Base:
    """A composed config that trials change values of.

    Attributes:
        config: composed, still with interpolations.
        digest: of what it computes.
    """

    config: DictConfig
    digest: str


class Planner:
    """Makes trials of a stage. Hydra must be initialised on its config folder while it plans.

    Args:
        stage: key of SCHEMAS.
        root: name of the root config.
        words: overrides that all trials have.

    Attributes:
        pins: choice, such as ``data=world`` -> further words that go with it.
    """

    def __init__(self, stage: str, root: str, words: Sequence[str]) -> None:
        self.stage, self.root, self.words = stage, root, list(words)
        self.pins: dict[str, list[str]] = {}
        self.bases: dict[tuple[str, ...], Base] = {}
        self._values: dict[tuple[str, str], tuple[str, Any, str]] = {}
        self._scratch: dict[str, DictConfig] = {}
        self._checked: set[tuple[str, str]] = set()
        self._groups: dict[str, bool] = {}

    def trial(self, number: int, words: Sequence[str], asked: int | None = None) -> Trial:
        """One trial.

        Args:
            number: its own.
            words: overrides of this trial, each with one value.
            asked: number in the search.

        Raises:
            ConfigError: what does not fit, all of it.
        """
        base, changes, faults = self._looked_at(words)
        if faults:
            raise ConfigError([f"trial {number} ({' '.join(words)}): {fault}" for fault in faults])
        counted = {key: value for key, value in changes.items() if not without_influence(key)}
        digest = digest_json([base.digest, sorted(counted.items())])
        return Trial(
            number=number, digest=digest, base=base.digest, changes=changes, words=list(words), asked=asked,
            shape=self.shape(base, changes),
        )  # fmt: skip

    def check(self, words: Sequence[str]) -> list[str]:
        """What is wrong with a trial of these words, one line each."""
        try:
            return self._looked_at(words)[2]
        except ConfigError as fault:
            return fault.faults

    def _looked_at(self, words: Sequence[str]) -> tuple[Base, dict[str, Any], list[str]]:
        """Base, changes over it, and what does not fit."""
        choices = tuple(word for word in words if self._is_choice(word))
        base = self.base(choices)
        changes, faults = self._changes(base, [word for word in words if word not in choices])
        return base, changes, faults + self._together(base, changes)

    def base(self, choices: tuple[str, ...] = ()) -> Base:
        """The config with these groups chosen, composed and checked once.

        Raises:
            ConfigError: it has faults.
        """
        if choices not in self.bases:
            pinned = [pin for choice in choices for pin in self.pins.get(choice, ())]
            checked: Checked = check_overrides(self.root, [*self.words, *choices, *pinned])
            faults = list(checked.faults)
            if checked.config is not None:
                OmegaConf.set_struct(checked.config, False)
                faults += [fault for fault in preflight(checked.config, self.stage) if fault not in faults]
            if faults or checked.config is None:
                raise ConfigError(faults)
            full = over_schema(checked.config, self.stage)
            self.bases[choices] = Base(full, config_digest(full))
        return self.bases[choices]

    def forget(self) -> None:
        """Bases are composed anew: the words that all have are others now."""
        self.bases, self._values, self._scratch, self._checked = {}, {}, {}, set()

    def write_bases(self, folder: Path) -> None:
        """Each base as ``<folder>/<digest>.yaml``; what is there stays."""
        for base in self.bases.values():
            path = folder / f"{base.digest[:16]}.yaml"
            if not path.is_file():
                write_text(path, OmegaConf.to_yaml(base.config))

    def shape(self, base: Base, changes: Mapping[str, Any]) -> str:
        """Resources of a trial, as canonical JSON."""
        hardware = OmegaConf.to_container(base.config.hardware, resolve=True, enum_to_str=True)
        assert isinstance(hardware, dict)
        for key, value in changes.items():
            if key.startswith("hardware."):
                _set(hardware, key.split(".")[1:], value)
        names = ("accelerator", "devices", "nodes", "cpu_cores", "memory_gib", "price_per_hour", "cluster", "name")
        return json.dumps({name: hardware.get(name) for name in names}, sort_keys=True)

    def _is_choice(self, word: str) -> bool:
        """Whether a word must be composed: a group's option, or a key that is added or taken away."""
        key = word.partition("=")[0]
        if key not in self._groups:
            self._groups[key] = Word(word).composed
        return self._groups[key]

    def _changes(self, base: Base, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Plain values that differ from the base's, and what is wrong with them."""
        changes: dict[str, Any] = {}
        faults: list[str] = []
        for word in words:
            key, value, fault = self._value(base, word)
            if fault:
                faults.append(fault)
            elif plain(OmegaConf.select(base.config, key)) != value:
                changes[key] = value
        return changes, faults

    def _value(self, base: Base, word: str) -> tuple[str, Any, str]:
        """Key, typed value and fault of one word; the same word is looked at once."""
        known = self._values.get((base.digest, word))
        if known is None:
            key = word.partition("=")[0]
            changed = self._scratch.get(base.digest)
            if changed is None:
                changed = self._scratch[base.digest] = copy.deepcopy(base.config)
            faults = Word(word).apply(changed)
            value = None if faults else plain(OmegaConf.select(changed, key))
            faults = faults or preflight_value(changed, self.stage, key)
            restore(changed, base.config, key)
            known = self._values[base.digest, word] = key, value, faults[0] if faults else ""
        return known

    def _together(self, base: Base, changes: Mapping[str, Any]) -> list[str]:
        """Values of one typed part are checked together: a range may depend on its neighbour."""
        typed_keys = {key: value for key, value in changes.items() if key.partition(".")[0] in _TYPED and "." in key}
        place = (base.digest, json.dumps(typed_keys, sort_keys=True))
        if len(typed_keys) < 2 or place in self._checked or len(self._checked) > MOST_COMBINED:
            return []
        self._checked.add(place)
        return preflight(applied(base.config, typed_keys), self.stage)


_TYPED = ("loader", "trainer", "hardware")


def applied(config: DictConfig, changes: Mapping[str, Any]) -> DictConfig:
    """A copy of a config with values changed."""
    changed = copy.deepcopy(config)
    for key, value in changes.items():
        OmegaConf.update(changed, key, value, merge=False)
    return changed


def plain(value: Any) -> Any:
    """Without OmegaConf and enums."""
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return value.name if hasattr(value, "name") and hasattr(value, "value") else value


def restore(config: DictConfig, original: DictConfig, key: str) -> None:
    """Put a part back as it is written in the original, interpolations too."""
    parent, _, last = key.rpartition(".")
    holder, source = (OmegaConf.select(one, parent) if parent else one for one in (config, original))
    if isinstance(holder, DictConfig) and isinstance(source, DictConfig) and last in source:
        node = copy.deepcopy(source._get_node(last))
        holder._set_item_impl(last, node)


def _set(tree: dict[Any, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def grid(words: Sequence[str]) -> tuple[list[str], Iterator[list[str]], int]:
    """Words with several values apart from those with one.

    Args:
        words: as typed: ``seed=1,2``, ``trainer.epochs=range(1,4)``, ``optimizer=choice(adamw,sgd)``.

    Returns:
        The words that all trials have, each trial's own words, and how many trials there are.
    """
    parts = [Word(word) for word in words]
    swept = [part.values() for part in parts if part.swept]
    count = 1
    for values in swept:
        count *= len(values)
    constant = [part.text for part in parts if not part.swept]
    return constant, (list(chosen) for chosen in product(*swept)), count
