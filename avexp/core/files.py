"""Files that are never seen half-written: written aside, synced, renamed. Digests of files and of JSON."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from avexp.core.errors import DataError


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when the block ends well; else nothing is left.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as fault:
        raise DataError(
            str(path), f"cannot be written ({fault.strerror})", "free space or choose another folder"
        ) from fault
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically."""
    with written_aside(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a fault names file, line and column.

    Raises:
        DataError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(str(path), "no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise DataError(str(path), f"no valid JSON ({fault})", "restore or remove the file") from None


def put_if_absent(path: Path, content: bytes) -> bool:
    """Create a file with this content unless it exists; True if it was created here. Safe between processes of all machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new{secrets.token_hex(8)}")
    aside.write_bytes(content)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def digest_file(path: Path) -> str:
    """sha256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(cast(Any, stream), "sha256").hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of the canonical JSON of a value, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
