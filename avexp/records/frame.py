"""A frame: what all sensors saw at one timestamp, as it goes into a shard."""

from dataclasses import dataclass, field
from typing import Literal

from avexp.records.labels import LabelFile, Labels
from avexp.records.record import Record


class EgoState(Record):
    """The car's own motion: the ``.ego.json`` part of a frame."""

    format: Literal[1] = 1
    speed_mps: float | None = None
    yaw_rate_radps: float | None = None
    steering_rad: float | None = None
    acceleration_mps2: float | None = None
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    altitude_m: float | None = None
    position_m: tuple[float, float, float] | None = None
    """In the session's own fixed frame."""
    heading_rad: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame in memory, before it is stored.

    Attributes:
        timestamp_ns: time in the session's clock [ns].
        sensors: encoded data by ``<sensor>.<extension>``, such as ``front.jpg``.
        ego: the car's motion, if known.
        labels: one entry an annotator; empty in a pool.
    """

    timestamp_ns: int
    sensors: dict[str, bytes]
    ego: EgoState | None = None
    labels: list[Labels] = field(default_factory=list)

    def parts(self) -> dict[str, bytes]:
        """The frame's parts by their name in a shard."""
        parts = dict(self.sensors)
        if self.ego is not None:
            parts["ego.json"] = self.ego.to_json()
        if self.labels:
            parts["labels.json"] = LabelFile(labels=self.labels).to_json()
        return parts
