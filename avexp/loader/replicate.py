"""Dataset versions between a storage root and an object store: the same layout below both, and nothing overwritten."""

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from avexp.core.errors import DataError
from avexp.core.files import digest_json, put_if_absent, write_bytes
from avexp.loader.remote import RemoteStore
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset, DatasetManifest, versions
from avexp.records.session import Session
from avexp.records.shard import index_path

FETCHERS = 8
OUTSIDE_DIGEST = ("format", "name", "version", "digest", "parent", "created_utc")
"""Fields of a manifest that its digest does not cover."""
Advance = Callable[[int, int], None]


def push_version(root: Path, reference: str, remote: RemoteStore, advance: Advance | None = None) -> dict[str, Any]:
    """Copy a dataset version with its sessions' records, shards and indexes. Goes on where it was stopped.

    Args:
        root: storage root.
        reference: ``name@3``, ``name`` or a digest.
        remote: where to.
        advance: told how many bytes are there, of how many.

    Returns:
        Counts: objects and bytes that were written, and those that were there already.

    Raises:
        DataError: a file is not what the manifest says; an object of that name holds other bytes; the store fails.
    """
    dataset = Dataset.open(root, reference)
    files = list(_files(root, dataset))
    total = sum((root / path).stat().st_size for path, _ in files)
    counts = {"written": 0, "written_bytes": 0, "there": 0}
    done = 0
    for path, sha256 in files:
        size = (root / path).stat().st_size
        if _push(root / path, path, sha256, remote):
            counts["written"] += 1
            counts["written_bytes"] += size
        else:
            counts["there"] += 1
        done += size
        if advance is not None:
            advance(done, total)
    return {"dataset": dataset.manifest.reference, "url": remote.url, **counts}


def _files(root: Path, dataset: Dataset) -> Iterator[tuple[str, str | None]]:
    """Paths below the root with the digest where it is known; the manifest last: with it the version exists."""
    for shard in dataset.manifest.shards:
        yield shard.path, shard.sha256
        index = index_path(Path(shard.path))
        if (root / index).is_file():
            yield index.as_posix(), None
    for session in dataset.manifest.sessions:
        yield f"sessions/{session}/session.json", None
    folder = f"datasets/{dataset.manifest.name}/{dataset.manifest.version}"
    yield f"{folder}/index.bin", dataset.manifest.index_sha256
    yield f"{folder}/manifest.json", None


def _push(file: Path, path: str, sha256: str | None, remote: RemoteStore) -> bool:
    """Write one object unless it is there with the same bytes; True if it was written here."""
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size == 0:
            raise DataError(str(file), "is empty", "restore it")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = hashlib.sha256(content).hexdigest()
            if sha256 is not None and found != sha256:
                raise DataError(str(file), "is not what the dataset's manifest says (sha256)", "restore the file")
            there = remote.find(path)
            if there is None and remote.put_if_absent(path, content):
                _verify(path, content, found, remote)
                return True
            _verify(path, content, found, remote)
    return False


def _verify(path: str, content: mmap.mmap, sha256: str, remote: RemoteStore) -> None:
    """Hold an object against our bytes: by the entity tag where that is an MD5, else by reading it."""
    there = remote.find(path)
    size = len(content)
    same = there is not None and there[0] == size
    if same and there is not None:
        tag = there[1]
        is_md5 = len(tag) == 32 and tag == hashlib.md5(content, usedforsecurity=False).hexdigest()
        same = is_md5 or remote.digest(path, size) == sha256
    if not same:
        remedy = "push to another URL, or remove that object if it is not wanted"
        raise DataError(remote.where(path), "an object of that name holds other bytes", remedy)


def open_version(root: Path, reference: str, tiers: Tiers | None) -> Dataset:
    """Open a dataset version wherever it lies: its manifest is fetched first where it is not under the root.

    Raises:
        DataError: as ``fetch_version`` and ``Dataset.open``.
    """
    if tiers is not None:
        fetch_version(root, reference, tiers.remote)
    return Dataset.open(root, reference, tiers)


def fetch_version(root: Path, reference: str, remote: RemoteStore) -> None:
    """Bring a dataset version's manifest, index and session records under the root; its shards stay where they are.

    Args:
        root: storage root.
        reference: ``name@3``; ``name`` or ``name@latest`` ask the store for its newest one.
        remote: where it is.

    Raises:
        DataError: there is none, neither here nor there; the store fails; or what came is damaged.
    """
    name, _, version = reference.partition("@")
    if not version or version == "latest":
        newest = max((int(text) for text in remote.folders(f"datasets/{name}") if text.isdigit()), default=0)
        if newest <= max(versions(root, name), default=0):
            return
        version = str(newest)
    if not version.isdigit() or int(version) in versions(root, name):
        return
    folder = f"datasets/{name}/{version}"
    content = remote.read(f"{folder}/manifest.json")
    manifest = _checked(content, name, int(version), remote.where(f"{folder}/manifest.json"))
    index = remote.read(f"{folder}/index.bin")
    if hashlib.sha256(index).hexdigest() != manifest.index_sha256:
        raise DataError(remote.where(f"{folder}/index.bin"), "is not what the manifest says (sha256)", "push it again")
    with ThreadPoolExecutor(FETCHERS) as pool:
        list(pool.map(lambda session: _fetch_session(root, session, remote), manifest.sessions))
    _publish(root / folder, manifest, content, index)


def _checked(content: bytes, name: str, version: int, where: str) -> DatasetManifest:
    """The manifest, if it is the one that was asked for and its paths stay below the root."""
    manifest = DatasetManifest.from_json(content, where)
    if (manifest.name, manifest.version) != (name, version):
        raise DataError(where, f"is the manifest of {manifest.reference}", "push the version again")
    covered = {key: value for key, value in json.loads(content).items() if key not in OUTSIDE_DIGEST}
    if digest_json(covered) != manifest.digest:
        raise DataError(where, "is not what its own digest says", "push the version again")
    paths = [shard.path for shard in manifest.shards] + [f"sessions/{session}" for session in manifest.sessions]
    for path in paths:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or ".." in parts or len(parts) < 2 or parts[0] != "sessions":
            raise DataError(where, f"the path {path} is not below sessions/", "do not use this dataset")
    return manifest


def _fetch_session(root: Path, session: str, remote: RemoteStore) -> None:
    path = f"sessions/{session}/session.json"
    content = remote.read(path)
    Session.from_json(content, remote.where(path))
    if not put_if_absent(root / path, content) and (root / path).read_bytes() != content:
        raise DataError(str(root / path), f"differs from {remote.where(path)}", "use another storage.root")


def _publish(folder: Path, manifest: DatasetManifest, content: bytes, index: bytes) -> None:
    """Written aside and renamed; another process may have been first."""
    aside = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    try:
        aside.mkdir(parents=True, exist_ok=True)
        write_bytes(aside / "index.bin", index)
        write_bytes(aside / "manifest.json", content)
        aside.rename(folder)
    except OSError as fault:
        if not folder.is_dir():
            raise DataError(str(folder), f"cannot be written ({fault.strerror})", "free space and repeat") from fault
        there = DatasetManifest.from_file(folder / "manifest.json")
        if there.digest != manifest.digest:
            raise DataError(
                str(folder), "another dataset has this name and version", "use another storage.root"
            ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
