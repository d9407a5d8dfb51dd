"""Where something came from, and what was made of it: sessions -> dataset versions -> runs -> checkpoints -> bundles.

The files are the truth (locks of runs, manifests of datasets and bundles); no tracking server is asked.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avexp.core.errors import DataError, RunError
from avexp.core.files import digest_file, digest_json, read_json
from avexp.core.run_folder import RunFolder, runs

PREFIX_MIN = 8
"""Digits that a shortened digest needs."""


@dataclass(frozen=True)
class Node:
    """One thing of a lineage, with what it came from (or what was made of it) as children.

    Attributes:
        kind: session, dataset, run, checkpoint or bundle.
        name: session id, ``name@version``, run id or file name.
        digest: sha256, of a run that of its config; empty where unknown.
        path: file or folder; empty if it is not found.
        children: the next step of the lineage.
        note: what is wrong with it: missing, damaged, digest differs.
    """

    kind: str
    name: str
    digest: str
    path: str
    children: tuple["Node", ...] = ()
    note: str = ""

    def walk(self) -> Iterator["Node"]:
        """Itself and all below, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree_lines(nodes: Iterable[Node], depth: int = 0) -> Iterator[str]:
    """A lineage as indented text, one line a node."""
    for node in nodes:
        facts = [node.digest[:12], node.path, node.note and f"({node.note})"]
        yield "  " * depth + " ".join([node.kind, node.name, *(fact for fact in facts if fact)])
        yield from tree_lines(node.children, depth + 1)


def ancestors(ref_path: Path, root: Path, outputs: Path) -> list[Node]:
    """What a bundle, run, checkpoint or dataset version came from, back to sessions; each with its own ancestors.

    Args:
        ref_path: bundle folder, run folder, checkpoint file or dataset version folder.
        root: storage root.
        outputs: folder of the runs.

    Raises:
        RunError: the path is none of these.
        DataError: its own record is damaged.
    """
    return list(node_of(ref_path, root, outputs).children)


def node_of(ref_path: Path, root: Path, outputs: Path) -> Node:
    """The node of a path, its ancestors as children. Arguments and errors as ``ancestors``."""
    past = _Past(root, outputs)
    if ref_path.is_file():
        return past.checkpoint(ref_path, digest_file(ref_path), set())
    if (ref_path / "lock.json").is_file():
        return past.run(ref_path, set())
    if (ref_path / "manifest.json").is_file():
        manifest = read_json(ref_path / "manifest.json")
        return past.bundle(ref_path, set()) if "source" in manifest else past.dataset(ref_path, set())
    known = "a run folder, checkpoint, bundle or dataset version"
    raise RunError(str(ref_path), "is nothing with a lineage", f"name {known}")


class _Past:
    """Reads backwards. ``seen`` holds what lies on the way: a record that names itself must not loop."""

    def __init__(self, root: Path, outputs: Path) -> None:
        self.root, self.outputs = root, outputs

    def entry(self, entry: dict[str, Any], seen: set[str]) -> Node:
        """The node of a lock's input or output."""
        kind, digest = str(entry["kind"]), str(entry.get("digest") or "")
        name = str(entry.get("name") or Path(str(entry.get("path", ""))).name)
        if kind == "dataset":
            name, path = f"{name}@{entry.get('version')}", self._dataset_path(entry)
        elif kind == "run":
            path = self._run_path(str(entry.get("path") or ""), name)
        else:
            path = Path(str(entry.get("path") or "-"))
        if path is None or not path.exists():
            return Node(kind, name, digest, "", note="missing")
        try:
            node = self._node(kind, path, digest, seen)
        except (DataError, KeyError, TypeError) as fault:
            return Node(kind, name, digest, str(path), note=f"damaged: {fault}")
        differs = bool(digest) and kind in ("dataset", "checkpoint") and node.digest != digest
        return replace(node, digest=digest, note=f"digest differs, it is {node.digest[:12]}") if differs else node

    def _node(self, kind: str, path: Path, digest: str, seen: set[str]) -> Node:
        if kind == "dataset":
            return self.dataset(path, seen)
        if kind == "run":
            return self.run(path, seen)
        if kind == "bundle":
            return self.bundle(path, seen)
        return self.checkpoint(path, digest_file(path) if path.is_file() else digest, seen)

    def run(self, path: Path, seen: set[str]) -> Node:
        lock = read_json(path / "lock.json")
        run_id = str(lock["run_id"])
        inputs = [] if run_id in seen else lock["inputs"]
        children = tuple(self.entry(entry, seen | {run_id}) for entry in inputs)
        return Node("run", run_id, str(lock["config_digest"]), str(path), children)

    def checkpoint(self, path: Path, digest: str, seen: set[str]) -> Node:
        owner = path.resolve().parent.parent
        children = (self.run(owner, seen),) if (owner / "lock.json").is_file() else ()
        return Node("checkpoint", path.name, digest, str(path), children)

    def bundle(self, path: Path, seen: set[str]) -> Node:
        """Made by the run whose folder it lies in; a bundle that travelled alone knows its source by its manifest."""
        file = path / "manifest.json"
        manifest = read_json(file)
        source = manifest["source"]
        owner = path.resolve().parent
        children = [self.run(owner, seen)] if (owner / "lock.json").is_file() else []
        known = {node.digest for child in children for node in child.walk()}
        if source["checkpoint_sha256"] not in known:
            children.append(self._source(source, seen))
        return Node("bundle", path.name, str(manifest.get("digest") or digest_file(file)), str(path), tuple(children))

    def _source(self, source: dict[str, Any], seen: set[str]) -> Node:
        digest, run = str(source["checkpoint_sha256"]), str(source["run"])
        folder = self._run_path(run, Path(run).name)
        if folder is None:
            child: Node = self.entry({"kind": "dataset", **source["dataset"]}, seen)
            lost = Node("run", Path(run).name, "", "", (child,), note="missing")
            return Node("checkpoint", digest[:12], digest, "", (lost,), note="missing")
        for entry in read_json(folder / "lock.json")["outputs"]:
            if entry.get("digest") == digest:
                return self.entry(entry, seen)
        return Node("checkpoint", digest[:12], digest, "", (self.run(folder, seen),), note="missing")

    def dataset(self, path: Path, seen: set[str]) -> Node:
        manifest = read_json(path / "manifest.json")
        digest = str(manifest["digest"])
        children = [self._session(name, manifest) for name in manifest["sessions"]]
        parent = manifest.get("parent")
        if parent and digest not in seen:
            children.insert(0, self._parent(str(parent), seen | {digest}))
        return Node("dataset", f"{manifest['name']}@{manifest['version']}", digest, str(path), tuple(children))

    def _parent(self, parent: str, seen: set[str]) -> Node:
        for path, manifest in dataset_manifests(self.root):
            if parent in (manifest.get("digest"), f"{manifest.get('name')}@{manifest.get('version')}"):
                return self.dataset(path, seen)
        return Node("dataset", parent, "", "", note="missing")

    def _session(self, name: str, manifest: dict[str, Any]) -> Node:
        folder = self.root / "sessions" / name
        shards = [shard["sha256"] for shard in manifest.get("shards", []) if f"sessions/{name}/" in shard["path"]]
        found = (folder / "session.json").is_file()
        return Node("session", name, digest_json(shards), str(folder) if found else "", note="" if found else "missing")

    def _dataset_path(self, entry: dict[str, Any]) -> Path | None:
        places = [
            Path(str(entry.get("path") or "-")),
            self.root / "datasets" / str(entry["name"]) / str(entry.get("version")),
        ]
        return next((place for place in places if (place / "manifest.json").is_file()), None)

    def _run_path(self, path: str, run_id: str) -> Path | None:
        if path and (Path(path) / "lock.json").is_file():
            return Path(path)
        return next((run.path for run in runs(self.outputs) if run.id == run_id and run.lock.is_file()), None)


def dataset_manifests(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and manifest of each dataset version; damaged ones are left out."""
    for file in sorted((root / "datasets").glob("*/*/manifest.json")):
        try:
            yield file.parent, read_json(file)
        except DataError:
            continue


def descendants(reference: str, root: Path, outputs: Path) -> list[Node]:
    """What was made of something, by scanning manifests and locks; each with its own descendants.

    Args:
        reference: a session id, run id, ``name@version``, or a digest (at least 8 digits of it).
        root: storage root.
        outputs: folder of the runs.
    """
    future = _Future(root, outputs)
    return future.children({reference}, set())


class _Future:
    """Reads all records once; ``parents`` of a node are the names and digests that its record says it came from."""

    def __init__(self, root: Path, outputs: Path) -> None:
        self.nodes: list[tuple[Node, set[str]]] = []
        for path, manifest in dataset_manifests(root):
            name = f"{manifest['name']}@{manifest['version']}"
            node = Node("dataset", name, str(manifest["digest"]), str(path))
            self.nodes.append(
                (node, {*manifest["sessions"], *([manifest["parent"]] if manifest.get("parent") else [])})
            )
        for run in runs(outputs):
            if run.lock.is_file():
                self._add_run(run)

    def _add_run(self, run: RunFolder) -> None:
        try:
            lock = read_json(run.lock)
        except DataError:
            return
        node = Node("run", str(lock["run_id"]), str(lock["config_digest"]), str(run.path))
        self.nodes.append((node, {key for entry in lock["inputs"] for key in _keys(entry)}))
        for entry in lock["outputs"]:
            name = str(entry.get("name") or Path(str(entry.get("path", ""))).name)
            made = Node(str(entry["kind"]), name, str(entry.get("digest") or ""), str(entry.get("path") or ""))
            self.nodes.append((made, {node.name}))

    def children(self, keys: set[str], seen: set[str]) -> list[Node]:
        """Nodes that name one of the keys as a parent; runs of equal config have equal digests, so their ids count."""
        found = []
        for node, parents in self.nodes:
            identity = f"{node.kind} {node.name} {node.path}"
            if identity not in seen and any(_fits(key, parent) for key in keys for parent in parents):
                own = {node.name} if node.kind == "run" else {node.digest, node.name} - {""}
                if node.kind in ("checkpoint", "bundle"):
                    own = {node.digest} - {""}
                found.append(replace(node, children=tuple(self.children(own, seen | {identity}))))
        return found


def _keys(entry: dict[str, Any]) -> list[str]:
    """What an input may be named by: digest, run id, ``name@version``. A run's digest is not its own alone."""
    if entry["kind"] == "run":
        return [str(entry.get("name") or Path(str(entry.get("path", ""))).name)]
    keys = [str(entry["digest"])] if entry.get("digest") else []
    return [*keys, f"{entry.get('name')}@{entry.get('version')}"] if entry["kind"] == "dataset" else keys


def _fits(key: str, parent: str) -> bool:
    shortened = PREFIX_MIN <= len(key) < len(parent) and all(letter in "0123456789abcdef" for letter in key)
    return key == parent or (shortened and parent.startswith(key))
