"""The house stands: imports point to lower heights only; no room is unknown; public things are documented."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEIGHTS = {
    "core": 0,
    "runtime": 0,
    "records": 1,
    "jobs": 1,
    "world": 2,
    "labels": 2,
    "augmentation": 2,
    "models": 2,
    "metrics": 2,
    "store": 2,
    "report": 2,
    "catalog": 3,
    "loader": 3,
    "ingest": 4,
    "train": 4,
    "evaluate": 5,
    "export": 6,
    "mining": 6,
    "resim": 6,
    "deploy": 7,
    "workflow": 7,
    "service": 8,
    "cli": 9,
}
FILES = sorted((ROOT / "avexp").rglob("*.py"))


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == "avexp" and "." in name]


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(file):
    parts = file.relative_to(ROOT / "avexp").parts
    room = parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert len(parts) <= 2, "depth is two: room/file"
    for name in imports(file):
        other = room_of(name)
        if other in (room, "__version__"):
            continue
        assert HEIGHTS[other] < HEIGHTS[room], f"{room} ({HEIGHTS[room]}) imports {name} ({HEIGHTS[other]})"


def test_nobody_imports_the_entries_or_launchers():
    for file in FILES:
        words = ast.walk(ast.parse(file.read_text()))
        names = [alias.name for node in words if isinstance(node, ast.Import) for alias in node.names]
        assert not {"train", "export", "launchers"} & set(names), file


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small_and_documented(file):
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree), "every module says what it is"
    assert len(file.read_text().splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} is over 50 lines"


def test_readme_names_every_room():
    readme = (ROOT / "README.md").read_text()
    rooms = {path.parent.name for path in FILES if path.parent != ROOT / "avexp"}
    assert not [room for room in rooms if f"{room}/" not in readme]
