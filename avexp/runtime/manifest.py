"""Reading a bundle's manifest, and holding its files against it: nothing outside the folder, nothing changed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict, List, Optional

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


def form_fault(manifest: Dict[str, Any]) -> Optional[str]:
    """What keeps this runtime from using a manifest; None if nothing does."""
    taken, plans = manifest.get("input"), manifest.get("plans")
    if not isinstance(taken, dict):
        return "does not describe its input"
    shape = taken.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
        return "has no input of shape [batch, height, width, 3]"
    if taken.get("dtype", "uint8") != "uint8" or str(taken.get("colour", "RGB")).upper() != "RGB":
        return "takes {} {} frames, this runtime hands uint8 RGB".format(taken.get("dtype"), taken.get("colour"))
    if not isinstance(manifest.get("outputs"), dict):
        return "does not describe its outputs"
    if not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        return "lists no plans"
    for plan in plans:
        needed = ["id", "backend", "status"] + (["file", "sha256", "bytes", "batch"] if _built(plan) else [])
        lacking = [key for key in needed if key not in plan]
        if lacking:
            return "plan {} has no {}".format(plan.get("id", "?"), ", ".join(lacking))
        if _built(plan) and not (isinstance(plan["batch"], dict) and int(plan["batch"].get("max", 0)) >= 1):
            return "plan {} has no largest batch".format(plan["id"])
    return None


def _built(plan: Dict[str, Any]) -> bool:
    return plan.get("status") == "built"


def check_files(folder: str) -> List[str]:
    """Check every file that the manifest names, used here or not; their paths.

    Raises:
        BundleError: the first that is missing, changed or outside the folder.
    """
    manifest = read_manifest(folder)
    entries = [plan for plan in manifest.get("plans", []) if "file" in plan] + list(manifest.get("files", []))
    return sorted({checked_file(folder, entry) for entry in entries})


def checked_file(folder: str, entry: Dict[str, Any]) -> str:
    """Path of a file of the bundle, once name, size and sha256 are right.

    Args:
        folder: of the bundle.
        entry: with ``file``, ``sha256`` and ``bytes``.

    Raises:
        BundleError: a name that leads out of the folder, a missing or changed file.
    """
    name = str(entry["file"])
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if os.path.isabs(name) or ".." in parts or not parts:
        raise BundleError(
            os.path.join(folder, NAME), "names a file outside the bundle: {}".format(name), "do not use it"
        )
    path = os.path.join(folder, *parts)
    if not os.path.isfile(path):
        raise BundleError(path, "is missing", "copy the whole bundle again")
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), *parts):
        raise BundleError(path, "is a link, or lies behind one", "copy the bundle with its files")
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
