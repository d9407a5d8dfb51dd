"""Writing a bundle: plans, graphs, build scripts and the manifest that names each with its digest. Never overwritten."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avexp.core.errors import ExportError
from avexp.core.files import digest_file, write_json
from avexp.runtime.manifest import FORMAT, NAME, manifest_digest


@dataclass
class BundleWriter:
    """Collects a bundle in a folder beside its own, which becomes it when all is there.

    Attributes:
        folder: of the bundle to be.
        plans: entries of the manifest, best first.
        files: other files, with digests.

    Raises:
        ExportError: a bundle is there already.
    """

    folder: Path
    plans: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder.exists():
            raise ExportError(str(self.folder), "a bundle is there already", "export into a new run")
        self.aside = self.folder.with_name(f".{self.folder.name}.making")
        shutil.rmtree(self.aside, ignore_errors=True)
        (self.aside / "plans").mkdir(parents=True)

    def path(self, name: str) -> Path:
        """Where a file is written before the bundle is whole."""
        return self.aside / "plans" / name

    def entry(self, name: str) -> dict[str, Any]:
        """``file``, ``sha256`` and ``bytes`` of a file that was written."""
        path = self.path(name)
        return {"file": f"plans/{name}", "sha256": digest_file(path), "bytes": path.stat().st_size}

    def add_file(self, name: str) -> None:
        """List a file that is no plan of its own."""
        self.files.append(self.entry(name))

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write the manifest and let the bundle appear; returns the manifest."""
        manifest: dict[str, Any] = {"format": FORMAT, **facts, "plans": self.plans, "files": self.files}
        manifest["digest"] = manifest_digest(manifest)
        write_json(self.aside / NAME, manifest)
        self.aside.rename(self.folder)
        return manifest

    def discard(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.aside, ignore_errors=True)
