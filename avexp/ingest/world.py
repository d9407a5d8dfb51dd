"""Reader of the synthetic world: every session is a drive, made when it is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import simplejpeg

from avexp.core.counter_random import hash64
from avexp.core.errors import DataError
from avexp.ingest.reader import SessionRef
from avexp.records.frame import Frame
from avexp.records.labels import Conditions
from avexp.records.session import Place, Session, Skipped
from avexp.world.drive import Drive, drive
from avexp.world.look import Textures
from avexp.world.rarity import DriveSpec, Rarity

GENERATION = 7
"""Raised whenever the same options give other frames, so that stored sessions are not taken for new ones."""


@dataclass(frozen=True, kw_only=True)
class WorldReader:
    """Drives through the synthetic world.

    Attributes:
        train_sessions, val_sessions: how many; validation drives other roads, with other textures and seeds.
        frames_per_session: frames of each.
        rate_hz: frames a second [1/s].
        seed: of everything.
        width_px, height_px: image size.
        cameras: 1 to 5.
        jpeg_quality: 1 to 100.
        night, dusk, rain, fog, urban: shares of sessions (see Rarity), as are the rest.
    """

    train_sessions: int = 24
    val_sessions: int = 8
    frames_per_session: int = 60
    rate_hz: float = 2.0
    seed: int = 1
    width_px: int = 640
    height_px: int = 360
    cameras: int = 1
    jpeg_quality: int = 90
    night: float = 0.3
    dusk: float = 0.15
    rain: float = 0.2
    fog: float = 0.12
    urban: float = 0.5
    pedestrians_at_night: float = 0.8
    cyclists: float = 0.7
    trucks: float = 0.18

    def __post_init__(self) -> None:
        if not 1 <= self.jpeg_quality <= 100:
            raise DataError("reader.jpeg_quality", f"{self.jpeg_quality} is no JPEG quality", "give 1 to 100")
        if not 1 <= self.cameras <= 5:
            raise DataError("reader.cameras", f"no rig of {self.cameras} cameras", "give 1 to 5")
        if min(self.train_sessions, self.val_sessions) < 0:
            raise DataError("reader", "a negative number of sessions", "give 0 or more")
        self._rarity()
        self._spec("train", 0)

    def list(self) -> list[SessionRef]:
        """All drives: ``world-train-0000`` ..., then ``world-val-0000`` ..."""
        counts: tuple[tuple[Textures, int], ...] = (("train", self.train_sessions), ("val", self.val_sessions))
        return [self._ref(textures, number) for textures, count in counts for number in range(count)]

    def describe(self, ref: SessionRef) -> Session:
        """The drive's cameras and conditions."""
        made = self._drive(ref)
        conditions = Conditions(light=made.spec.light, weather=made.spec.weather, road=made.spec.road)
        return Session(
            id=ref.id,
            car="world",
            place=Place(name=f"world-{made.spec.textures}-{made.seed & 0xFFFF:04x}"),
            sensors=made.session_sensors(),
            conditions=conditions,
            licence="CC0-1.0",
            consent="no persons: rendered",
            source=ref.source,
        )

    def read(self, ref: SessionRef) -> Iterator[Frame | Skipped]:
        """The drive's frames, encoded as JPEG."""
        for frame in self._drive(ref):
            sensors = {
                f"{name}.jpg": simplejpeg.encode_jpeg(image, quality=self.jpeg_quality, colorspace="RGB")
                for name, image in frame.images.items()
            }
            yield Frame(timestamp_ns=frame.timestamp_ns, sensors=sensors, ego=frame.ego, labels=[frame.labels])

    def _rarity(self) -> Rarity:
        return Rarity(
            night=self.night, dusk=self.dusk, rain=self.rain, fog=self.fog, urban=self.urban,
            pedestrians_at_night=self.pedestrians_at_night, cyclists=self.cyclists, trucks=self.trucks,
        )  # fmt: skip

    def _seed(self, textures: str) -> int:
        return int(hash64("world", textures, self.seed)) >> 1

    def _spec(self, textures: Textures, number: int) -> DriveSpec:
        size = self.width_px, self.height_px
        seed = self._seed(textures)
        return self._rarity().spec(seed, number, textures, self.frames_per_session, self.rate_hz, size, self.cameras)

    def _ref(self, textures: Textures, number: int) -> SessionRef:
        spec = self._spec(textures, number)
        facts: dict[str, Any] = {name: getattr(spec, name) for name in spec.__slots__}
        facts = {name: getattr(value, "value", value) for name, value in facts.items()}
        facts |= {"textures": textures, "number": number, "seed": self.seed, "jpeg_quality": self.jpeg_quality}
        return SessionRef(
            f"world-{textures}-{number:04d}", f"world:seed={self.seed}", facts | {"generation": GENERATION}
        )

    def _drive(self, ref: SessionRef) -> Drive:
        textures, number = ref.options["textures"], ref.options["number"]
        return drive(self._spec(textures, number), int(hash64(self._seed(textures), number)) >> 1)
