"""Reading a bundle's manifest, and holding its files against it: nothing outside the folder, nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict

from .errors import BundleError

FORMAT = 1
NAME = "manifest.json"
CHUNK = 1 << 20


def read_manifest(folder: str) -> Dict[str, Any]:
    """The manifest of a bundle folder, with its own digest checked.

    Raises:
        BundleError: missing, no JSON, of an unknown format, or changed.
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as stream:
            manifest = json.load(stream)
    except FileNotFoundError:
        raise BundleError(path, "no such file", "give the folder of a bundle") from None
    except (OSError, ValueError) as fault:
        raise BundleError(path, "cannot be read ({})".format(fault), "export the run again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(path, "manifest format {} is unknown here".format(found), "update the runtime")
    if manifest.get("digest") != manifest_digest(manifest):
        raise BundleError(path, "was changed after it was written", "do not use it; export the run again")
    return manifest


def manifest_digest(manifest: Dict[str, Any]) -> str:
    """sha256 of the canonical JSON of all but the digest itself."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def checked_file(folder: str, entry: Dict[str, Any]) -> str:
    """Path of a file of the bundle, once name, size and sha256 are right.

    Args:
        folder: of the bundle.
        entry: with ``file``, ``sha256`` and ``bytes``.

    Raises:
        BundleError: a name that leads out of the folder, a missing or changed file.
    """
    name = str(entry["file"])
    parts = name.replace("\\", "/").split("/")
    if os.path.isabs(name) or ".." in parts or not name:
        raise BundleError(
            os.path.join(folder, NAME), "names a file outside the bundle: {}".format(name), "do not use it"
        )
    path = os.path.join(folder, *parts)
    if not os.path.isfile(path) or os.path.islink(path):
        raise BundleError(path, "is missing", "copy the whole bundle again")
    size = os.path.getsize(path)
    if size != int(entry["bytes"]):
        raise BundleError(
            path, "has {} bytes, the manifest says {}".format(size, entry["bytes"]), "copy the bundle again"
        )
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    if digest.hexdigest() != entry["sha256"]:
        raise BundleError(path, "was changed: its sha256 is not the manifest's", "do not use it; copy the bundle again")
    return path
