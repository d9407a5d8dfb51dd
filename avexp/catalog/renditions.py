"""Where the images of a session's rendition lie."""

from pathlib import Path

from avexp.core.errors import DataError
from avexp.records.session import RenditionFile
from avexp.records.shard import Part, read_index


def rendition_folder(root: Path, session_id: str, name: str) -> Path:
    """Where a rendition lies: beside the session's original shards."""
    return root / "sessions" / session_id / "renditions" / name


def rendition_parts(root: Path, session_id: str, name: str) -> tuple[RenditionFile, dict[str, tuple[int, Part]]]:
    """A rendition's record, and by ``<key>.<sensor>`` the number of the shard and the part in it.

    Raises:
        DataError: the session has no such rendition, or it is damaged.
    """
    folder = rendition_folder(root, session_id, name)
    if not (folder / "rendition.json").is_file():
        raise DataError(f"session {session_id}", f"has no rendition {name}", "make it with data.rendition_px=<width>")
    file = RenditionFile.from_file(folder / "rendition.json")
    parts: dict[str, tuple[int, Part]] = {}
    for number, shard in enumerate(file.shards):
        for part in read_index(folder / shard.file).parts:
            parts[f"{part.key}.{part.part.rpartition('.')[0]}"] = number, part
    return file, parts
