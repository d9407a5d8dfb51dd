"""report.html: one file that holds everything, opens without a network, and follows the reader's light or dark mode."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from avexp.core.files import write_text
from avexp.report.tables import Table

Image = npt.NDArray[np.uint8]

JPEG_QUALITY = 85
SIGNATURES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Card:
    """One number that is seen first.

    Attributes:
        title: what it is.
        value: as text.
        note: what to hold it against, such as "constant predictor 0.12".
        good: True and False colour it, None does not.
    """

    title: str
    value: str
    note: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image with its caption, as a data URI."""

    uri: str
    caption: str


@dataclass(frozen=True, slots=True)
class Block:
    """One part of a section, by kind."""

    kind: Literal["text", "table", "frames", "plots"]
    text: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(slots=True)
class Section:
    """A headed part of the report; its parts stand in the order in which they were added."""

    title: str
    blocks: list[Block] = field(default_factory=list)

    def text(self, paragraph: str) -> Self:
        """A paragraph."""
        self.blocks.append(Block("text", text=paragraph))
        return self

    def table(self, table: Table) -> Self:
        """A table."""
        self.blocks.append(Block("table", table=table))
        return self

    def frames(self, pictures: Sequence[tuple[Image | bytes, str]]) -> Self:
        """A grid of frames with captions.

        Args:
            pictures: uint8 [h, w, 3] RGB (stored as JPEG) or PNG/JPEG bytes, each with its caption.
        """
        self.blocks.append(Block("frames", pictures=tuple(Picture(data_uri(image), text) for image, text in pictures)))
        return self

    def plots(self, pictures: Sequence[tuple[bytes, str]]) -> Self:
        """A grid of plots (PNG) with captions."""
        self.blocks.append(Block("plots", pictures=tuple(Picture(data_uri(image), text) for image, text in pictures)))
        return self

    @property
    def anchor(self) -> str:
        """What links point to."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


class Report:
    """Builds report.html.

    Args:
        title: of the page.
        subtitle: one sentence below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self.cards: list[Card] = []
        self.facts: dict[str, str] = {}
        self.sections: list[Section] = []
        self.skipped: list[tuple[str, str]] = []

    def add_cards(self, cards: Sequence[Card]) -> Self:
        """The numbers that are seen first."""
        self.cards += cards
        return self

    def add_facts(self, facts: Mapping[str, object]) -> Self:
        """Where it comes from: run id, commit, dataset version and digest, hardware, seed."""
        self.facts |= {name: str(value) for name, value in facts.items()}
        return self

    def section(self, title: str) -> Section:
        """Begin a section, or go on with the one of this title."""
        found = next((section for section in self.sections if section.title == title), None)
        if found is None:
            found = Section(title)
            self.sections.append(found)
        return found

    def add_skipped(self, skipped: Sequence[tuple[str, str]]) -> Self:
        """What was left out: (place, reason)."""
        self.skipped += skipped
        return self

    def html(self) -> str:
        """The page."""
        from jinja2 import Environment

        source = files("avexp.report").joinpath("report.html.j2").read_text("utf-8")
        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(report=self)

    def write(self, path: Path) -> Path:
        """Write the page; it appears whole or not at all.

        Raises:
            DataError: the file cannot be written.
        """
        write_text(path, self.html())
        return path


def data_uri(image: Image | bytes) -> str:
    """An image as text that stands in the page itself.

    Raises:
        ValueError: bytes that are neither PNG nor JPEG.
    """
    if isinstance(image, bytes):
        kind = next((kind for signature, kind in SIGNATURES.items() if image.startswith(signature)), None)
        if kind is None:
            raise ValueError("a picture is an RGB array, PNG or JPEG")
        content = image
    else:
        import simplejpeg

        rgb = np.ascontiguousarray(image)
        content, kind = simplejpeg.encode_jpeg(rgb, quality=JPEG_QUALITY, colorspace="RGB"), "image/jpeg"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
