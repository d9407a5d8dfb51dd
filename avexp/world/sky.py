"""What lies beyond the road: sky with clouds, and a skyline of hills, trees or houses, as a panorama by heading."""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import generator
from avexp.records.labels import Light, Road, Weather
from avexp.world.ambience import Ambience
from avexp.world.camera import Camera
from avexp.world.look import as_scalar, smooth_noise

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def paint_sky(image: Image, panorama: Image, camera: Camera, heading_rad: float, horizon: int) -> None:
    """Copy the part of a panorama that a camera sees into the rows above the horizon."""
    if horizon <= 0:
        return
    rows = min(horizon, image.shape[0])
    around = panorama.shape[1]
    start = round(-(heading_rad + camera.yaw_rad) * camera.fx - camera.cx) % around
    top = panorama.shape[0] - horizon
    source = panorama[max(top, 0) : max(top, 0) + rows]
    first = min(image.shape[1], around - start)
    skipped = max(-top, 0)
    image[:skipped] = panorama[0, 0]
    image[skipped:rows, :first] = source[: rows - skipped, start : start + first]
    if first < image.shape[1]:
        image[skipped:rows, first:] = source[: rows - skipped, : image.shape[1] - first]


def make_panorama(ambience: Ambience, road: Road, seed: int, focal_px: float, height_px: int, domain: str) -> Image:
    """uint8 [height, 2 pi focal, 3]; its last row is the horizon."""
    rng = generator("world-sky", domain, seed)
    width = round(2 * np.pi * focal_px)
    share = (np.linspace(1.0, 0.0, height_px) ** 0.8)[:, None, None]
    sky = ambience.sky_top * share + ambience.sky_low * (1 - share)
    image: npt.NDArray[np.float32] = np.broadcast_to(sky, (height_px, width, 3)).astype(np.float32)
    clouds = _clouds(seed, domain, width, height_px)
    if ambience.weather is Weather.fog:
        clouds = clouds * 0.15
    bright = ambience.sky_low * 1.08 if ambience.light is not Light.night else ambience.sky_low * 1.3
    image += clouds[..., None] * (bright.astype(np.float32) - image) * np.float32(0.75)
    panorama = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    _skyline(rng, panorama, ambience, road, focal_px)
    return panorama


@lru_cache(maxsize=8)
def _clouds(seed: int, domain: str, width: int, height: int) -> npt.NDArray[np.float32]:
    rng = generator("world-clouds", domain, seed)
    half = (height // 2 + 1, width // 2 + 1)
    noise = 0.9 * smooth_noise(rng, half, (18, 70)) + 0.5 * smooth_noise(rng, half, (6, 20))
    full = cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(full * 0.5 + rng.uniform(-0.25, 0.35), 0, 1))


def _skyline(rng: np.random.Generator, image: Image, ambience: Ambience, road: Road, focal_px: float) -> None:
    """Layers from far to near, each less faded into the haze."""
    height, width = image.shape[:2]
    for share, tall in ((0.25, 0.05), (0.5, 0.035), (0.8, 0.03)):
        fade = share * np.exp(-ambience.fog_density_1pm * 120)
        base = np.array([70.0, 82, 70]) if road is Road.highway else np.array([110.0, 104, 100])
        colour = base * rng.uniform(0.6, 1.1) * ambience.gain * fade + ambience.fog_colour * (1 - fade)
        if road is Road.urban and share > 0.3:
            _blocks(rng, image, colour, tall * focal_px, ambience)
            continue
        knots = rng.uniform(0.2, 1.0, 60) * tall * focal_px
        knots[-1] = knots[0]
        line = np.interp(np.arange(width), np.linspace(0, width, 60), knots)
        line += 1.2 * rng.standard_normal(width) * (share > 0.7)
        points = np.stack([np.arange(width), height - line], axis=1)
        ring = np.vstack([points, [[width, height], [0, height]]])
        cv2.fillPoly(image, [np.round(ring).astype(np.int32)], as_scalar(colour))


def _blocks(rng: np.random.Generator, image: Image, colour: Floats, tall: float, ambience: Ambience) -> None:
    height, width = image.shape[:2]
    x = 0.0
    while x < width:
        wide, high = rng.uniform(12, 60), tall * rng.uniform(0.3, 1.5)
        shade = as_scalar(np.clip(colour * rng.uniform(0.8, 1.15), 0, 255))
        cv2.rectangle(image, (int(x), int(height - high)), (int(x + wide), height), shade, -1)
        if ambience.street and ambience.fog_density_1pm < 0.015:
            for _ in range(int(wide * high / 90)):
                at = (int(rng.uniform(x, x + wide)), int(rng.uniform(height - high, height)))
                cv2.circle(image, at, 0, (200, 160, 90), -1)
        x += wide + rng.uniform(-6, 14)
