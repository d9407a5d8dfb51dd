"""What a format must offer to be ingested: list its sessions, describe one, read its frames. One file a format."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from avexp.core.files import digest_json
from avexp.records.frame import Frame
from avexp.records.session import Session, Skipped


@dataclass(frozen=True, slots=True)
class SessionRef:
    """One session of a source, before it is read.

    Attributes:
        id: a name, unique within the reader's list.
        source: address to name in messages and in lineage.
        options: all that determines the content besides the address: parameters, sizes or digests of source files.
    """

    id: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)

    def session_id(self) -> str:
        """The id in the session store: the name and a digest of what determines the content."""
        return f"{self.id}-{digest_json([self.source, self.options])[:8]}"


class Reader(Protocol):
    """A format. Instances are picklable: sessions are read in several processes."""

    def list(self) -> list[SessionRef]:
        """The sessions of the source, cheaply.

        Raises:
            DataError: the source is missing or is not of this format.
        """

    def describe(self, ref: SessionRef) -> Session:
        """The session's record, still without shards and frames."""

    def read(self, ref: SessionRef) -> Iterator[Frame | Skipped]:
        """The frames by rising time; what cannot be read comes as Skipped, and the rest goes on."""
