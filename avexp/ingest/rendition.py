"""Renditions: the images of a session scaled to training resolution and coded again, once, beside the originals.

A 640x360 JPEG costs a third of a 1280x720 one to decode, whatever the decoder does. Baseline JPEG, never progressive, which
would cost three times as much.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import simplejpeg

from avexp.catalog.renditions import rendition_folder
from avexp.core.errors import DataError
from avexp.core.files import write_text
from avexp.ingest.session_writer import SHARD_BYTES, Progress, session_folder
from avexp.loader.decode import Image, decode
from avexp.records.session import Rendition, RenditionFile, Session, Shard
from avexp.records.shard import ShardWriter, read_index, read_part

IMAGE_PARTS = ("jpg", "jpeg", "png")


def rendition(width_px: int, quality: int = 90) -> Rendition:
    """What is asked for; it states what a car must do to the camera's image."""
    how = (
        f"decoded at the smallest JPEG scale (n/8) at least {width_px} wide, averaged over areas to {width_px} wide where "
        f"that is wider, coded as baseline JPEG of quality {quality} with 4:2:0 chroma"
    )
    return Rendition(name=f"w{width_px}q{quality}", width_px=width_px, quality=quality, how=how)


def write_renditions(
    root: Path, sessions: list[str], wanted: Rendition, workers: int = 1, progress: Progress | None = None
) -> None:
    """Make a rendition of sessions that have none yet.

    Args:
        root: storage root.
        sessions: ids.
        wanted: what to make.
        workers: processes.
        progress: told of every finished session.

    Raises:
        DataError: an image cannot be read, or the disk is full. Nothing half-written is left under its name.
    """
    missing = [
        name for name in sessions if not (rendition_folder(root, name, wanted.name) / "rendition.json").is_file()
    ]
    done = len(sessions) - len(missing)
    if not missing:
        return
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(write_rendition, root, name, wanted) for name in missing]):
                done += 1
                if progress is not None:
                    progress(future.result(), done, len(sessions))
        finally:
            pool.shutdown(cancel_futures=True)


def write_rendition(root: Path, session_id: str, wanted: Rendition) -> str:
    """Make a rendition of one session; returns the session's id."""
    folder = rendition_folder(root, session_id, wanted.name)
    session = Session.from_file(session_folder(root, session_id) / "session.json")
    aside = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        shards = _write_shards(root, session, wanted, aside)
        file = RenditionFile(rendition=wanted, session=session_id, shards=shards)
        write_text(aside / "rendition.json", file.model_dump_json(indent=1))
        try:
            aside.rename(folder)
        except OSError:
            if not (folder / "rendition.json").is_file():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return session_id


def _write_shards(root: Path, session: Session, wanted: Rendition, folder: Path) -> list[Shard]:
    shards: list[Shard] = []
    writer: ShardWriter | None = None
    try:
        for key, name, content in _images(root, session):
            if writer is None or writer.size >= SHARD_BYTES:
                if writer is not None:
                    shards.append(_closed(writer, wanted))
                writer = ShardWriter(folder / f"{len(shards):06d}.tar")
            writer.write(key, {f"{name.rpartition('.')[0]}.jpg": render(content, wanted, f"{key}.{name}")})
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if writer is not None:
        shards.append(_closed(writer, wanted))
    return shards


def _closed(writer: ShardWriter, wanted: Rendition) -> Shard:
    index = writer.close()
    return Shard(
        file=writer.path.name, bytes=index.bytes, sha256=index.sha256, frames=writer.frames, rendition=wanted.name
    )


def _images(root: Path, session: Session) -> Iterator[tuple[str, str, bytes]]:
    """(key, part name, content) of all images of a session, in the order of its shards."""
    for shard in session.shards:
        index = read_index(session_folder(root, session.id) / shard.file)
        with index.tar.open("rb") as stream:
            for part in index.parts:
                if part.part.rpartition(".")[2] in IMAGE_PARTS:
                    where = f"{index.tar}:{part.key}"
                    yield part.key, part.part, read_part(stream.fileno(), where, part.offset, part.length, part.crc32)


def render(content: bytes, wanted: Rendition, where: str) -> bytes:
    """One image scaled and coded again; one that is not wider stays as large as it is.

    Raises:
        DataError: the image cannot be read.
    """
    image = scaled(decode(content, where, wanted.width_px)[0], wanted.width_px)
    try:
        return bytes(simplejpeg.encode_jpeg(image, quality=wanted.quality, colorspace="RGB", colorsubsampling="420"))
    except ValueError as fault:
        raise DataError(where, f"cannot be coded ({fault})", "ingest the frame again") from None


def scaled(image: Image, width_px: int) -> Image:
    """Averaged over areas to this width."""
    import cv2

    if image.shape[1] <= width_px:
        return np.ascontiguousarray(image)
    rows = round(image.shape[0] * width_px / image.shape[1])
    return np.asarray(cv2.resize(image, (width_px, rows), interpolation=cv2.INTER_AREA), np.uint8)
