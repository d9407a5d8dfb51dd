"""Sessions from a reader into the session store: written aside, renamed when whole, never overwritten."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

from avexp.core.errors import DataError
from avexp.core.files import digest_file, write_text
from avexp.ingest.reader import Reader, SessionRef
from avexp.records.frame import Frame
from avexp.records.session import Session, Shard, Skipped
from avexp.records.shard import ShardWriter, index_path

SHARD_BYTES = 256 << 20
"""A new shard begins beyond this size [bytes]."""
Progress = Callable[[str, int, int], None]
"""Called with what was done, how many are done, how many there are."""


def session_folder(root: Path, session_id: str) -> Path:
    """Where a session lies."""
    return root / "sessions" / session_id


def ingest(reader: Reader, root: Path, workers: int = 1, progress: Progress | None = None) -> list[Session]:
    """Write all sessions of a source that are not there yet.

    Args:
        reader: the format.
        root: storage root.
        workers: processes.
        progress: told of every finished session.

    Returns:
        Their records, in the reader's order, with what was skipped.

    Raises:
        DataError: the source cannot be read, or holds no frame.
    """
    refs = reader.list()
    if not refs:
        raise DataError("reader", "the source holds no session", "check data.source")
    wanted = [ref for ref in refs if not is_whole(session_folder(root, ref.session_id()))]
    done = len(refs) - len(wanted)
    for session_id in _write_all(reader, root, wanted, workers):
        done += 1
        if progress is not None:
            progress(session_id, done, len(refs))
    return [Session.from_file(session_folder(root, ref.session_id()) / "session.json") for ref in refs]


def _write_all(reader: Reader, root: Path, refs: Sequence[SessionRef], workers: int) -> Iterator[str]:
    if workers <= 1 or len(refs) <= 1:
        for ref in refs:
            yield write_session(reader, ref, root)
        return
    # spawned, because a forked child inherits the locks of whatever threads run here (torch, OpenCV)
    with ProcessPoolExecutor(min(workers, len(refs)), mp_context=get_context("spawn")) as pool:
        pending: set[Future[str]] = {pool.submit(write_session, reader, ref, root) for ref in refs}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_session(reader: Reader, ref: SessionRef, root: Path) -> str:
    """Write one session; returns its id.

    Raises:
        DataError: no frame of it can be read, or the disk is full. Nothing half-written is left under its name.
    """
    session_id = ref.session_id()
    folder = session_folder(root, session_id)
    aside = folder.with_name(f".{session_id}.tmp{os.getpid()}")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        session = reader.describe(ref)
        shards, skipped, first, last = _write_shards(reader.read(ref), session_id, aside)
        frames = sum(shard.frames for shard in shards)
        if frames == 0:
            reason = f"; first reason: {skipped[0].where}: {skipped[0].reason}" if skipped else ""
            raise DataError(ref.source, f"no readable frame in session {ref.id}{reason}", "check the source")
        session = session.model_copy(
            update={
                "id": session_id,
                "source": ref.source,
                "shards": shards,
                "frames": frames,
                "skipped": skipped,
                "start_ns": first,
                "end_ns": last,
            }
        )
        write_text(aside / "session.json", session.model_dump_json(indent=1, exclude_defaults=True))
        try:
            aside.rename(folder)
        except OSError:
            if not (folder / "session.json").is_file():
                raise
            _fill(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return session_id


def is_whole(folder: Path) -> bool:
    """Whether a session lies here with all of its shards: one that came from an object store has only its record."""
    file = folder / "session.json"
    return file.is_file() and all((folder / shard.file).is_file() for shard in Session.from_file(file).shards)


def _fill(aside: Path, folder: Path) -> None:
    """Shards that the session names and that are not here, if what was read now is what was read then."""
    for shard in Session.from_file(folder / "session.json").shards:
        if not (folder / shard.file).is_file() and digest_file(aside / shard.file) == shard.sha256:
            index_path(aside / shard.file).replace(index_path(folder / shard.file))
            (aside / shard.file).replace(folder / shard.file)


def _write_shards(
    frames: Iterator[Frame | Skipped], session_id: str, folder: Path
) -> tuple[list[Shard], list[Skipped], int, int]:
    """Shards, what was skipped, first and last timestamp [ns]."""
    shards: list[Shard] = []
    skipped: list[Skipped] = []
    times: list[int] = []
    writer: ShardWriter | None = None
    try:
        for frame in frames:
            if isinstance(frame, Skipped):
                skipped.append(frame)
                continue
            if times and frame.timestamp_ns <= times[-1]:
                where = f"{session_id}/{frame.timestamp_ns}"
                skipped.append(Skipped(where=where, reason=f"time does not rise after {times[-1]} ns"))
                continue
            if writer is not None and writer.size >= SHARD_BYTES:
                shards.append(_closed(writer))
                writer = None
            if writer is None:
                writer = ShardWriter(folder / f"{len(shards):06d}.tar")
            writer.write(f"{session_id}/{frame.timestamp_ns:019d}", frame.parts())
            times.append(frame.timestamp_ns)
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if writer is not None:
        shards.append(_closed(writer))
    return shards, skipped, times[0] if times else 0, times[-1] if times else 0


def _closed(writer: ShardWriter) -> Shard:
    index = writer.close()
    return Shard(file=writer.path.name, bytes=index.bytes, sha256=index.sha256, frames=writer.frames)
