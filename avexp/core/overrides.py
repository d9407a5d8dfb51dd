"""The command line against conf/: all wrong overrides at once, with "did you mean", by composing a single time."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avexp.core.errors import ConfigError, did_you_mean

MISFITS = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra and OmegaConf say of an override that does not fit."""
OURS = ("hydra.launcher.", "hydra.sweeper.")
"""Keys of Hydra's own part that are ours to explain."""


@dataclass
class Checked:
    """A composed config with its faults.

    Attributes:
        config: as far as it could be composed; None if not at all.
        faults: one line each.
        late: overrides of keys that only options of a swept group have, each as the choice of one value. Hydra lays
            what is no choice over the config without the swept groups, and would not find the key there.
    """

    config: DictConfig | None
    faults: list[str] = field(default_factory=list)
    late: dict[str, str] = field(default_factory=dict)


def check_overrides(config_name: str, arguments: Sequence[str]) -> Checked:
    """Compose what can be composed and name all that cannot. Hydra must be initialised.

    Args:
        config_name: root config.
        arguments: overrides as typed; of a sweep's ``a=1,2`` all values are checked and the first is used.
    """
    faults: list[str] = []
    parsed = [item for item in (_parse(argument, faults) for argument in arguments) if item is not None]
    groups = [item for item in parsed if _is_group(item)]
    values = [item for item in parsed if not _is_group(item) and not item.key_or_group.startswith("hydra")]
    # where else configs lie must be known before a group of theirs is chosen
    paths = [str(item.input_line) for item in parsed if item.key_or_group.startswith("hydra.searchpath")]
    swept = [item for item in groups if item.is_sweep_override()]
    config = _compose(config_name, paths, groups, faults)
    for item in swept:
        faults += [fault for fault in _unknown_options(config_name, paths, item) if fault not in faults]
    if config is None:
        return Checked(None, faults)
    beside = {item.key_or_group: f" (with {_first(item)})" for item in swept}
    for item in values:
        where = beside.get(item.key_or_group.partition(".")[0], "")
        faults += [fault + where for fault in _apply(config, item)]
    ours = [item for item in parsed if item.key_or_group.startswith(OURS)]
    if ours:
        with suppress(*MISFITS):  # a group that does not fit was told of above
            whole = compose(config_name, [*paths, *map(_first, groups)], return_hydra_config=True)
            OmegaConf.set_struct(whole, False)
            faults += [fault for item in ours for fault in _apply(whole, item)]
    if faults or not swept:
        return Checked(config, faults)
    bare = compose(config_name, [*paths, *(_first(item) for item in groups if item not in swept)])
    return Checked(config, faults, _late(bare, values))


def _compose(root: str, paths: list[str], groups: list[Override], faults: list[str]) -> DictConfig | None:
    """The config with all groups that fit; None if there is none at all."""
    with suppress(*MISFITS):
        return compose(root, [*paths, *map(_first, groups)])
    # one of them is wrong: add them one by one to find all that are
    config: DictConfig | None = None
    chosen = list(paths)
    for item in groups:
        try:
            config = compose(root, [*chosen, _first(item)])
            chosen.append(_first(item))
        except MISFITS as fault:
            faults += _unknown_options(root, chosen, item) or [f"{item.input_line}: {_one_line(fault)}"]
    if config is None:
        try:
            config = compose(root, [])
        except MISFITS as fault:
            faults.append(f"{root}.yaml: {_one_line(fault)}")
    return config


def _late(bare: DictConfig, values: list[Override]) -> dict[str, str]:
    """See Checked."""
    plain = [item for item in values if not (item.is_sweep_override() or item.is_add() or item.is_force_add())]
    return {
        str(item.input_line): f"{item.get_key_element()}=choice({item.get_value_string()})"
        for item in plain
        if not item.is_delete() and not _exists(bare, item.key_or_group)
    }


def _parse(argument: str, faults: list[str]) -> Override | None:
    hydra = GlobalHydra.instance()
    try:
        # a glob asks the loader for a group's options
        parser = OverridesParser.create(hydra.config_loader() if hydra.is_initialized() else None)
        found = parser.parse_overrides([argument])[0]
        if found.is_sweep_override() and not _values(found):
            faults.append(f"{argument}: there is no value in it")
            return None
        return found
    except HydraException as fault:
        faults.append(f"{argument}: no override ({_one_line(fault)}); write key=value, and quote special characters")
        return None


def _is_group(item: Override) -> bool:
    repository = GlobalHydra.instance().config_loader()
    key = item.key_or_group
    return bool(repository.get_group_options(key)) or (item.is_add() and key == "experiment")


def _values(item: Override) -> list[Any]:
    """Values of an override: one, or all of a sweep's; of an interval its ends."""
    inner = item.value()
    if isinstance(inner, IntervalSweep):
        return [inner.start, inner.end]
    if not item.is_sweep_override():
        return [inner]
    return [Override._convert_value(value) for value in item.sweep_iterator()]


def _first(item: Override) -> str:
    """An override with one value in place of a sweep."""
    if not item.is_sweep_override():
        return str(item.input_line)
    inner = item._value
    value = inner.start if isinstance(inner, IntervalSweep) else next(iter(item.sweep_string_iterator()))
    return f"{item.get_key_element()}={value}"


def _unknown_options(root: str, paths: list[str], item: Override) -> list[str]:
    """Options of a group that it does not have, nor the further places of configs."""
    options = GlobalHydra.instance().config_loader().get_group_options(item.key_or_group)
    wanted = [str(one) for value in _values(item) for one in (value if isinstance(value, list) else [value])]
    faults = []
    for one in dict.fromkeys(wanted):
        try:
            if one not in options:
                compose(root, [*paths, f"{item.get_key_element()}={one}"])
        except MISFITS:
            known = f"{did_you_mean(one, options)}; known: {', '.join(sorted(options))}"
            faults.append(f"{item.key_or_group}={one}: no such option{known}")
    return faults


def _apply(config: DictConfig, item: Override) -> list[str]:
    """Apply one value in place, the first of a sweep; what does not fit of all its values."""
    key = item.key_or_group
    faults: list[str] = []
    if item.is_delete():
        return [] if _exists(config, key) else [_unknown(config, key)]
    added = item.is_add() or item.is_force_add()
    if not added and not _exists(config, key):
        return [_unknown(config, key)]
    for value in reversed(_values(item)):
        try:
            OmegaConf.update(config, key, value, force_add=added)
        except MISFITS as fault:
            faults.insert(0, f"{key}: {_one_line(fault)}")
    return faults


def _exists(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if isinstance(node, DictConfig) and part in node._content:  # type: ignore[operator]
            node = node._get_node(part)
        elif isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        else:
            return False
    return True


def _unknown(config: DictConfig, key: str) -> str:
    own = key.rpartition(".")[2].startswith("_")
    paths = [path for path in _paths(config, "") if own or not path.rpartition(".")[2].startswith("_")]
    parent, _, last = key.rpartition(".")
    ends = {path: path.rpartition(".") for path in paths}
    siblings = [path for path in paths if ends[path][0] == parent]
    near = did_you_mean(last, [ends[path][2] for path in siblings])
    if near and parent:
        near = near.replace("did you mean ", f"did you mean {parent}.")
    hint = near or did_you_mean(key, [path for path in paths if ends[path][2] == last])
    if not hint and parent and siblings:
        hint = f"; it has {', '.join(siblings[:12])}"
    hint = hint or did_you_mean(key, paths)
    return f"{key}: no such key{hint}"


def _paths(node: Any, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and not node._is_interpolation():
        for key in node:
            place = f"{path}.{key!s}" if path else str(key)
            found += [place, *_paths(node._get_node(key), place)]
    return found


def _one_line(fault: Exception) -> str:
    return str(fault).strip().splitlines()[0]


def load_plugins() -> None:
    """Find Hydra's plugins once (launchers/), as hydra.main does."""
    Plugins.instance()


class Word:
    """One override as typed. Hydra must be initialised.

    Args:
        text: such as ``optimizer.lr=1e-3`` or ``seed=1,2``.

    Raises:
        ConfigError: it is no override.
    """

    def __init__(self, text: str) -> None:
        faults: list[str] = []
        parsed = _parse(text, faults)
        if parsed is None:
            raise ConfigError(faults)
        self.text, self._parsed = text, parsed

    @property
    def key(self) -> str:
        """Dotted key, or group."""
        return str(self._parsed.key_or_group)

    @property
    def composed(self) -> bool:
        """Whether only Hydra can lay it over a config: a group's option, or a key that is added or taken away."""
        item = self._parsed
        return item.is_add() or item.is_force_add() or item.is_delete() or _is_group(item)

    @property
    def swept(self) -> bool:
        """Whether it has several values."""
        return bool(self._parsed.is_sweep_override())

    def values(self) -> list[str]:
        """A word for each of its values."""
        if not self.swept:
            return [self.text]
        if isinstance(self._parsed._value, IntervalSweep):
            remedy = "search it with hydra/sweeper=search, or type choice(...) or range(...)"
            raise ConfigError([f"{self.key}: an interval has infinitely many values; {remedy}"])
        key = self._parsed.get_key_element()
        return [f"{key}={value}" for value in self._parsed.sweep_string_iterator()]

    def apply(self, config: DictConfig) -> list[str]:
        """Lay it over a config in place; what is wrong with it."""
        return _apply(config, self._parsed)


def short_key(key: str) -> str:
    """A key's end, for narrow places: ``optimizer.lr`` as ``lr``, ``model.heads.lanes.width`` as ``lanes.width``."""
    parts = key.rpartition("/")[2].split(".")
    return ".".join(parts[-2:] if len(parts) > 2 else parts[-1:])
