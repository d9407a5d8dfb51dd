"""``data`` of a config: the dataset version it names, made from its reader if it is not there yet."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from avexp.catalog.blend import blend
from avexp.catalog.split import Split
from avexp.catalog.versions import create_version
from avexp.core.progress import bar
from avexp.ingest.reader import Reader
from avexp.ingest.rendition import rendition, write_renditions
from avexp.ingest.session_writer import ingest
from avexp.loader.replicate import open_version
from avexp.loader.tiers import Tiers
from avexp.records.dataset import Dataset
from avexp.records.labels import OBJECT_CLASSES


class DataSource:
    """What a run trains on: an existing dataset version, or a reader, a split and an annotator that make one.

    Args:
        name: of the dataset, or ``name@version`` or a digest of an existing one.
        reader: the format to ingest from; None to use an existing version only.
        split: frames -> train, val.
        annotators: whose labels to use, best first; empty for the first.
        object_classes: the class list.
        source: address of the recordings (for the config to hand on to its reader).
        sensor: the camera to use; None for all.
        workers: processes to ingest with.
        rendition_px: read images at this width [px] instead of the originals, made once beside them; None for originals.
        rendition_quality: of their JPEG.
        version: digest of the version to open as it is, whatever the reader would make now: a reproduction stands on it.
    """

    def __init__(
        self,
        name: str,
        reader: Reader | None = None,
        split: Split | None = None,
        annotators: Sequence[str] = (),
        object_classes: Sequence[str] = OBJECT_CLASSES,
        source: str | None = None,
        sensor: str | None = None,
        workers: int = 2,
        rendition_px: int | None = None,
        rendition_quality: int = 90,
        version: str | None = None,
    ) -> None:
        self.name, self.reader, self.split, self.source = name, reader, split, source
        self.annotators, self.object_classes = list(annotators), list(object_classes)
        self.sensor, self.workers, self.version = sensor, workers, version
        self.rendition = rendition(rendition_px, rendition_quality) if rendition_px else None

    def open(self, root: Path, tiers: Tiers | None = None) -> Dataset:
        """The dataset version, ingested first where it is new.

        Args:
            root: storage root.
            tiers: where an existing version's manifest and shards come from that are not under the root.

        Raises:
            DataError: there is no such version and no reader; or the source cannot be read.
        """
        if self.version is not None:
            return open_version(root, self.version, tiers)
        if self.reader is None or self.split is None:
            return open_version(root, self.name, tiers)
        with bar("ingest sessions") as advance:
            sessions = ingest(self.reader, root, self.workers, lambda _, done, total: advance(done, total))
        ids = [session.id for session in sessions]
        if self.rendition is not None:
            with bar("write renditions") as advance:
                write_renditions(root, ids, self.rendition, self.workers, lambda _, done, total: advance(done, total))
        return create_version(
            root,
            self.name,
            ids,
            self.split,
            annotators=self.annotators,
            object_classes=self.object_classes,
            recipe={"reader": type(self.reader).__name__, "source": self.source, "split": type(self.split).__name__},
            rendition=self.rendition.name if self.rendition else None,
            sensor=self.sensor,
        )


class StreamSource:
    """Training frames from WebDataset tars without an index, such as a pipe; validation from a dataset version.

    Args:
        name: ``name@version`` of the dataset that validates, and whose classes and annotators are meant.
        urls: WebDataset addresses: files, ``pipe:`` commands, braces for many.
        frames_per_epoch: that all ranks together take: a stream does not know how long it is.
        shuffle_frames: frames in the buffer that is shuffled.
    """

    def __init__(self, name: str, urls: Sequence[str], frames_per_epoch: int, shuffle_frames: int = 1000) -> None:
        self.name, self.urls = name, [urls] if isinstance(urls, str) else list(urls)
        self.frames_per_epoch, self.shuffle_frames = frames_per_epoch, shuffle_frames

    def open(self, root: Path, tiers: Tiers | None = None) -> Dataset:
        """The dataset version that validates.

        Args:
            root: storage root.
            tiers: where manifests and shards come from that are not under the root.
        """
        return open_version(root, self.name, tiers)


class BlendSource:
    """Several dataset versions, each with a weight in training.

    Args:
        name: of the blend.
        parts: share of a training epoch's frames by dataset reference, relative to each other.
        version: digest of the version to open as it is.
    """

    def __init__(self, name: str, parts: Mapping[str, float], version: str | None = None) -> None:
        self.name, self.parts, self.version = name, dict(parts), version

    def open(self, root: Path, tiers: Tiers | None = None) -> Dataset:
        """The blend as a dataset version.

        Args:
            root: storage root.
            tiers: where manifests and shards come from that are not under the root.

        Raises:
            DataError: a part is missing, or they do not fit each other.
        """
        if self.version:
            return open_version(root, self.version, tiers)
        for reference in self.parts:
            open_version(root, reference, tiers)
        return replace(blend(root, self.name, self.parts), source=tiers)
