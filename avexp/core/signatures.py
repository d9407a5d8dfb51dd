"""What arguments a ``_target_`` takes, read from its source without importing it: a typo costs milliseconds, not torch."""

import ast
import importlib.machinery
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_FOLLOW_MAX = 8


@dataclass(frozen=True)
class Parameter:
    """One argument: whether it must be given, and its annotation as written."""

    required: bool
    annotation: str = ""


@dataclass(frozen=True)
class Signature:
    """Arguments by name; ``open_ended`` where any keyword is taken."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    open_ended: bool = False


class UnknownTargetError(Exception):
    """There is no such module or name, or its file cannot be parsed. The text says which part is missing, and what there is."""


@cache
def module_file(name: str) -> Path | None:
    """Source of a module, found without importing any package; None if it is no Python source."""
    path: list[str] | None = None
    spec = None
    parts = name.split(".")
    for index in range(len(parts)):
        # finders of editable installs and of sys.path both answer here, and none imports the package
        spec = _find(".".join(parts[: index + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations) if spec.submodule_search_locations else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _find(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: importlib.machinery.ModuleSpec | None = find(name, path) if find else None
        if spec is not None:
            return spec
    return None


@cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text())
    except (SyntaxError, ValueError) as fault:
        line = getattr(fault, "lineno", None)
        raise UnknownTargetError(f"{file}{f', line {line},' if line else ''} is no Python: {fault.args[0]}") from fault


def public_names(module: str) -> list[str]:
    """Classes and functions that a module defines; empty if it cannot be read."""
    file = module_file(module)
    if file is None:
        return []
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in _tree(file).body if isinstance(node, kinds) and not node.name.startswith("_")]


@cache
def signature_of(target: str) -> Signature | None:
    """Arguments of a class or function by its dotted name; None where the source does not tell.

    Raises:
        UnknownTargetError: no such module, or no such name in it.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise UnknownTargetError("is no dotted name of a class or function")
    return _lookup(module, name, 0)


def _lookup(module: str, name: str, depth: int) -> Signature | None:
    file = module_file(module)
    if file is None:
        if _find(module.split(".")[0], None) is None:
            raise UnknownTargetError(f"there is no package {module.split('.')[0]}")
        if "." in module and module_file(module.rpartition(".")[0]) is not None:
            raise UnknownTargetError(f"there is no module {module}")
        return None
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return (
                _of_function(node, bound=False) if isinstance(node, ast.FunctionDef) else _of_class(node, module, depth)
            )
        if isinstance(node, ast.ImportFrom) and depth < _FOLLOW_MAX:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _lookup(_absolute(node, module, file), alias.name, depth + 1)
    known = ", ".join(public_names(module))
    raise UnknownTargetError(f"module {module} has no {name}" + (f"; it has {known}" if known else ""))


def _absolute(node: ast.ImportFrom, module: str, file: Path) -> str:
    if node.level == 0:
        return node.module or ""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, node.module] if node.module else package)


def _of_class(node: ast.ClassDef, module: str, depth: int) -> Signature | None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item, bound=True)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
        names = {
            ast.unparse(item.target): Parameter(item.value is None, ast.unparse(item.annotation)) for item in fields
        }
        return Signature(names)
    for base in node.bases:
        if isinstance(base, ast.Name) and depth < _FOLLOW_MAX:
            try:
                return _lookup(module, base.id, depth + 1)
            except UnknownTargetError:
                return None
    return Signature() if not node.bases else None


def _of_function(node: ast.FunctionDef, bound: bool) -> Signature:
    arguments = [*node.args.posonlyargs, *node.args.args][1 if bound else 0 :]
    defaults = [False] * (len(arguments) - len(node.args.defaults)) + [True] * len(node.args.defaults)
    found = {
        item.arg: Parameter(not has, _text(item))
        for item, has in zip(arguments, defaults[-len(arguments) :], strict=False)
    }
    for item, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        found[item.arg] = Parameter(default is None, _text(item))
    return Signature(found, node.args.kwarg is not None)


def _text(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation is not None else ""
