"""``data`` of a config: the dataset version it names, made from its reader if it is not there yet."""

from collections.abc import Sequence
from pathlib import Path

from avexp.catalog.split import Split
from avexp.catalog.versions import create_version
from avexp.core.progress import bar
from avexp.ingest.reader import Reader
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
    ) -> None:
        self.name, self.reader, self.split, self.source = name, reader, split, source
        self.annotators, self.object_classes = list(annotators), list(object_classes)
        self.sensor, self.workers = sensor, workers

    def open(self, root: Path, tiers: Tiers | None = None) -> Dataset:
        """The dataset version, ingested first where it is new.

        Args:
            root: storage root.
            tiers: where an existing version's manifest and shards come from that are not under the root.

        Raises:
            DataError: there is no such version and no reader; or the source cannot be read.
        """
        if self.reader is None or self.split is None:
            return open_version(root, self.name, tiers)
        with bar("ingest sessions") as advance:
            sessions = ingest(self.reader, root, self.workers, lambda _, done, total: advance(done, total))
        ids = [session.id for session in sessions]
        return create_version(
            root,
            self.name,
            ids,
            self.split,
            annotators=self.annotators,
            object_classes=self.object_classes,
            recipe={"reader": type(self.reader).__name__, "source": self.source, "split": type(self.split).__name__},
        )
