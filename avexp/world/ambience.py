"""Light and weather of a drive: how bright what is, how far one sees, who has lamps on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.records.labels import Light, Road, Weather

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ambience:
    """Light and weather.

    Attributes:
        light, weather: the conditions that the labels name.
        gain: [3] RGB, brightness of a surface in ambient light (1 = its own colour).
        beam: brightness that the car's own headlights add at their brightest, 0 where off.
        fog_colour: [3] RGB, what far things fade into.
        fog_density_1pm: share lost per metre [1/m].
        sky_top, sky_low: [3] RGB at the zenith and the horizon.
        sun: [3] direction to the sun, and ``shadow``: darkness of cast shadows 0..1.
        lamps: whether vehicles have lamps on; ``street``: whether street lamps and windows shine.
        noise: standard deviation of sensor noise [grey levels].
        exposure_s: for motion blur [s].
        wet: wetness of the road 0..1.
    """

    light: Light
    weather: Weather
    gain: Floats
    beam: float
    fog_colour: Floats
    fog_density_1pm: float
    sky_top: Floats
    sky_low: Floats
    sun: Floats
    shadow: float
    lamps: bool
    street: bool
    noise: float
    exposure_s: float
    wet: float

    @property
    def sight_m(self) -> float:
        """Range of lane labels [m]: what a person would still draw."""
        by_fog = 2.6 / self.fog_density_1pm
        return float(np.clip(by_fog, 35.0, 60.0 if self.light is Light.night else 100.0))

    def headlight(self, x: Floats, y: Floats) -> Floats:
        """Brightness that the car's headlights add at points of the vehicle frame [m]."""
        if self.beam == 0.0:
            return np.zeros(np.broadcast(x, y).shape)
        ahead = x - 3.5
        reach = np.hypot(ahead, y)
        angle = np.arctan2(y, np.maximum(ahead, 1e-3))
        cone = np.exp(-((angle / 0.42) ** 2)) * (ahead > 0)
        return np.asarray(self.beam * cone * np.minimum(1.0, 1.6 / (1.0 + (reach / 17.0) ** 2)))


def make_ambience(rng: np.random.Generator, light: Light, weather: Weather, road: Road) -> Ambience:
    """A random ambience of these conditions."""
    warm = rng.uniform(-0.06, 0.06)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    dull = weather in (Weather.rain, Weather.fog)
    if light is Light.day:
        level = rng.uniform(0.72, 0.9) if dull else rng.uniform(0.85, 1.15)
        top = np.array([150.0, 156, 165]) if dull else np.array([96.0, 140, 200]) * rng.uniform(0.8, 1.1)
        low = np.array([196.0, 200, 204]) if dull else np.array([205.0, 216, 226])
        gain, elevation, shadow, noise, exposure = (
            level * tint,
            rng.uniform(0.4, 1.1),
            rng.uniform(0.35, 0.6),
            2.5,
            0.003,
        )
    elif light is Light.dusk:
        level = rng.uniform(0.28, 0.45)
        gain = level * tint * np.array([1.08, 0.98, 1.02])
        top, low = np.array([70.0, 82, 120]) * level * 2.0, np.array([226.0, 158, 118]) * (0.5 + level)
        low = np.array([150.0, 146, 150]) if dull else low
        elevation, shadow, noise, exposure = 0.16, 0.0 if dull else rng.uniform(0.0, 0.25), 4.5, 0.010
    else:
        level = rng.uniform(0.09, 0.16) if road is Road.urban else rng.uniform(0.04, 0.07)
        gain = level * np.array([1.1, 1.0, 0.88]) if road is Road.urban else level * np.array([0.95, 1.0, 1.1])
        top, low = np.array([7.0, 8, 14]), np.array([30.0, 26, 24]) if road is Road.urban else np.array([15.0, 16, 22])
        elevation, shadow, noise, exposure = 0.8, 0.0, 7.0, 0.020
    night, dim = light is Light.night, light is not Light.day
    density = {Weather.rain: rng.uniform(0.005, 0.010), Weather.fog: rng.uniform(0.018, 0.04)}.get(weather, 0.0016)
    fog = low * (0.9 if not night else 1.0) + (np.array([22.0, 21, 20]) if night and weather is Weather.fog else 0.0)
    azimuth = rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    return Ambience(
        light, weather, np.asarray(gain), (1.0 if night else 0.25 if dim else 0.0), np.asarray(fog), density, top, low, sun,
        0.0 if dull else shadow, dim or dull, dim, noise * rng.uniform(0.7, 1.3), exposure,
        rng.uniform(0.6, 1.0) if weather is Weather.rain else 0.0,
    )  # fmt: skip
