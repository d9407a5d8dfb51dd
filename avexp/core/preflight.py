"""All faults of a config at once, before anything costs time: missing values, interpolations, targets and their arguments,
types, ranges, files that are not there, hardware that does not fit.
"""

import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from avexp.core.config import SCHEMAS, Stage, over_schema, schema
from avexp.core.errors import ConfigError, did_you_mean
from avexp.core.hardware import Hardware
from avexp.core.hardware import faults as hardware_faults
from avexp.core.signatures import Parameter, UnknownTargetError, signature_of

HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
FILE_KEYS = ("source", "input", "bundle")
"""Keys anywhere in a config that name a file or folder which must exist."""
_PLAIN = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}
_LISTS = ("Sequence", "list", "tuple", "List", "Tuple", "Iterable")


def preflight(config: DictConfig, stage: str) -> list[str]:
    """Faults of a composed config, one line each; empty if it is sound.

    Args:
        config: composed, still with interpolations.
        stage: key of SCHEMAS.
    """
    return typed_with_faults(config, stage)[1]


def typed_with_faults(config: DictConfig, stage: str) -> tuple[Stage | None, list[str]]:
    """The stage's dataclass as far as it can be had, and the same faults."""
    faults = list(_gaps(config, ""))
    if faults:
        return None, list(dict.fromkeys(faults))
    # the rest reads values, so all of them must lead somewhere
    found, wrong = _typed(config, stage)
    faults += [*_nameless(config), *_targets(config, ""), *_files(config, ""), *wrong]
    if found is not None:
        faults += hardware_faults(found.hardware, stage)
    return found, list(dict.fromkeys(faults))


def preflight_value(config: DictConfig, stage: str, key: str) -> list[str]:
    """Faults that one changed value brings into a sound config: its own part is looked at, not all of it.

    Args:
        config: laid over its schema.
        stage: key of SCHEMAS.
        key: dotted.
    """
    root = key.partition(".")[0]
    node = config._get_node(root)
    if not isinstance(node, DictConfig) or node._is_none():
        return []  # a plain value of the schema: its type was checked as it was set
    faults = list(_gaps(node, root))
    if faults:
        return faults
    kind = OmegaConf.get_type(schema(stage), root)
    if isinstance(kind, type) and is_dataclass(kind):
        try:
            found = OmegaConf.to_object(node)
        except ConfigError as fault:
            return fault.faults
        except OmegaConfBaseException as fault:
            return [f"{key}: {str(fault).splitlines()[0]}"]
        return hardware_faults(found, stage) if isinstance(found, Hardware) else []
    return [*_targets(node, root), *_files(node, root)]


def typed(config: DictConfig, stage: str) -> Any:
    """The stage's dataclass of a composed config.

    Raises:
        ConfigError: a value of a wrong type or outside its range.
    """
    found, faults = _typed(config, stage)
    if faults or found is None:
        raise ConfigError(faults)
    return found


def _typed(config: DictConfig, stage: str) -> tuple[Stage | None, list[str]]:
    try:
        found = OmegaConf.to_object(over_schema(config, stage))
    except ConfigError as fault:
        return None, fault.faults
    except OmegaConfBaseException as fault:
        text = str(fault).splitlines()[0]
        key = getattr(fault, "full_key", None) or "config"
        return None, [f"{key}: {text}"]
    return (found, []) if isinstance(found, SCHEMAS[stage]) else (None, [f"config: is no {stage} config"])


def _children(node: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """(key, dotted path, child or None) without resolving."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for key in node:
            place = f"{path}.{key!s}" if path else str(key)
            yield str(key), place, node._get_node(key)
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_missing():
        for index in range(len(node)):
            yield str(index), f"{path}.{index}", node._get_node(index)


def _gaps(config: Any, path: str) -> Iterator[str]:
    """Missing values, and interpolations that lead nowhere."""
    for _, place, child in _children(config, path):
        if child is not None and child._is_missing():
            yield f"{place}: must be given, such as {place}=..."
        elif child is not None and child._is_interpolation():
            try:
                child._dereference_node()
            except OmegaConfBaseException as fault:
                yield f"{place}: {child._value()} leads nowhere ({str(fault).splitlines()[0]})"
        else:
            yield from _gaps(child, place)


def _nameless(config: DictConfig) -> Iterator[str]:
    """Parts that were given options but never chosen."""
    for group, how in (("model.heads", "model/heads=[...,{}]"), ("augmentation", "augmentation=[...,{}]")):
        for name, place, child in _children(OmegaConf.select(config, group), group):
            if isinstance(child, DictConfig) and not child._is_none() and "_target_" not in child:
                yield f"{place}: has options but no _target_; choose it with {how.format(name)}"


def _targets(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, DictConfig) and not node._is_none() and "_target_" in node:
        yield from _target(node, path)
    for _, place, child in _children(node, path):
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation():
            yield from _targets(child, place)


def _target(node: DictConfig, path: str) -> Iterator[str]:
    target = str(node["_target_"])
    try:
        signature = signature_of(target)
    except UnknownTargetError as fault:
        yield f"{path}._target_: {target}: {fault}"
        return
    if signature is None:
        return
    given = [str(key) for key in node if key not in HYDRA_KEYS]
    for key in given:
        if key in signature.parameters:
            yield from _value(node, key, path, signature.parameters[key])
        elif not signature.open_ended:
            known = list(signature.parameters)
            hint = did_you_mean(key, known) or f"; it takes {', '.join(known)}"
            yield f"{path}.{key}: {target} has no such argument{hint}"
    if not node.get("_partial_", False):
        absent = [name for name, item in signature.parameters.items() if item.required and name not in given]
        if absent:
            yield f"{path}: {target} needs {', '.join(absent)}"


def _value(node: DictConfig, key: str, path: str, parameter: Parameter) -> Iterator[str]:
    """A plain value against a plain annotation; what is not plain is left to the code."""
    value = node[key]
    if isinstance(value, DictConfig) or parameter.annotation == "":
        return
    names = [name.strip() for name in re.split(r"\|", re.sub(r"Optional\[(.*)\]", r"\1 | None", parameter.annotation))]
    heads = [name.split("[")[0].strip() for name in names]
    known = [head for head in heads if head in _PLAIN or head in _LISTS or head == "Tensor"]
    if len(known) < len(heads):
        return
    wanted: tuple[type, ...] = tuple(kind for head in heads for kind in _PLAIN.get(head, ()))
    if isinstance(value, ListConfig):
        fits = any(head in _LISTS for head in heads)
    elif isinstance(value, bool):
        fits = bool in wanted
    else:
        fits = isinstance(value, wanted) if wanted else False
    if not fits:
        yield f"{path}.{key}: {value!r} is no {parameter.annotation}"


def _files(node: Any, path: str) -> Iterator[str]:
    for key, place, child in _children(node, path):
        if isinstance(child, DictConfig | ListConfig):
            yield from _files(child, place)
        elif key in FILE_KEYS and child is not None and not child._is_interpolation():
            value = child._value()
            if isinstance(value, str) and "://" not in value and value != "latest" and not Path(value).exists():
                yield f"{place}: {value}: no such file or folder{_nearest(Path(value))}"


def _nearest(path: Path) -> str:
    """Did-you-mean over the folder's entries."""
    for parent in path.parents:
        if parent.is_dir():
            wrong = path.relative_to(parent).parts[0]
            return did_you_mean(wrong, [entry.name for entry in parent.iterdir()]) or f"; {parent} exists"
    return ""
