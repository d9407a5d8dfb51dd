"""How often what occurs: shares of conditions, and from them the drive of a session as a function of (seed, number)."""

from dataclasses import dataclass

import numpy as np

from avexp.core.counter_random import hash64, uniform
from avexp.core.errors import DataError
from avexp.records.labels import Light, Road, Weather
from avexp.world.look import Textures

_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveSpec:
    """What a drive is to be.

    Attributes:
        road, light, weather: its conditions.
        textures: appearance domain.
        frames: number of frames; ``rate_hz`` how many a second [1/s].
        width_px, height_px: image size.
        cameras: how many, 1 to 5.
        traffic: vehicles per kilometre and lane.
        trucks: share of trucks among them.
        pedestrians, cyclists: per kilometre of urban road.
        parked: share of parking places taken.
    """

    road: Road = Road.highway
    light: Light = Light.day
    weather: Weather = Weather.clear
    textures: Textures = "train"
    frames: int = 60
    rate_hz: float = 2.0
    width_px: int = 640
    height_px: int = 360
    cameras: int = 1
    traffic: float = 22.0
    trucks: float = 0.18
    pedestrians: float = 90.0
    cyclists: float = 12.0
    parked: float = 0.75

    def __post_init__(self) -> None:
        if self.frames < 1 or self.rate_hz <= 0:
            raise DataError("DriveSpec", f"frames={self.frames}, rate_hz={self.rate_hz}", "both must be positive")
        if self.width_px < 64 or self.height_px < 64:
            raise DataError("DriveSpec", f"{self.width_px}x{self.height_px} px is too small", "use 64 px or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rarity:
    """Shares 0..1 of sessions: ``night`` and ``dusk`` (the rest is day), ``rain`` and ``fog`` (the rest is clear),
    ``urban`` (the rest is highway); ``pedestrians_at_night`` is the share of urban night drives that have any.
    """

    night: float = 0.3
    dusk: float = 0.15
    rain: float = 0.2
    fog: float = 0.12
    urban: float = 0.5
    pedestrians_at_night: float = 0.8
    cyclists: float = 0.7
    trucks: float = 0.18

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DataError(f"rarity.{name}", f"{getattr(self, name)} is no share", "give a number from 0 to 1")
        for first, second in (("night", "dusk"), ("rain", "fog")):
            if getattr(self, first) + getattr(self, second) > 1.0:
                raise DataError(f"rarity.{first}", f"{first} + {second} exceed 1", "lower one of them")

    def spec(self, seed: int, number: int, textures: Textures, frames: int, rate_hz: float, size_px: tuple[int, int],
             cameras: int) -> DriveSpec:  # fmt: skip
        """The drive of session ``number``; conditions fill their shares evenly over successive numbers."""
        by_light, by_weather, by_road = strata(seed, number)
        light = Light.night if by_light < self.night else Light.dusk if by_light < self.night + self.dusk else Light.day
        weather = (
            Weather.rain
            if by_weather < self.rain
            else Weather.fog
            if by_weather < self.rain + self.fog
            else Weather.clear
        )
        road = Road.urban if by_road < self.urban else Road.highway
        draw = uniform(6, "world-rarity", seed, number)
        people = draw[0] < self.pedestrians_at_night or light is not Light.night
        return DriveSpec(
            road=road, light=light, weather=weather, textures=textures, frames=frames, rate_hz=rate_hz,
            width_px=size_px[0], height_px=size_px[1], cameras=cameras,
            traffic=10.0 + 26.0 * float(draw[1]),
            trucks=self.trucks * (0.5 if road is Road.urban else 1.4) * float(0.5 + draw[2]),
            pedestrians=(40.0 + 140.0 * float(draw[3])) if people else 0.0,
            cyclists=(8.0 + 30.0 * float(draw[4])) if draw[5] < self.cyclists else 0.0,
            parked=0.4 + 0.55 * float(draw[5]),
        )  # fmt: skip


def strata(seed: int, number: int) -> tuple[float, float, float]:
    """Three evenly spread numbers in [0, 1): a Sobol sequence (1967) with a digital shift drawn from the seed."""
    shift = hash64("world-strata", seed, np.arange(3, dtype=np.uint64)) >> np.uint64(64 - _BITS)
    values = []
    for dimension, directions in enumerate(_directions()):
        bits = 0
        for place, direction in enumerate(directions):
            if number >> place & 1:
                bits ^= direction
        values.append((bits ^ int(shift[dimension])) / (1 << _BITS))
    return values[0], values[1], values[2]


def _directions() -> tuple[list[int], list[int], list[int]]:
    """Direction numbers of the first three dimensions (primitive polynomials 1, x + 1, x^2 + x + 1)."""
    first = [1 << (_BITS - 1 - i) for i in range(_BITS)]
    second = [1 << (_BITS - 1)]
    for _ in range(1, _BITS):
        second.append(second[-1] ^ (second[-1] >> 1))
    third = [1 << (_BITS - 1), 3 << (_BITS - 2)]
    for i in range(2, _BITS):
        third.append(third[i - 2] ^ (third[i - 2] >> 2) ^ third[i - 1])
    return first, second, third
