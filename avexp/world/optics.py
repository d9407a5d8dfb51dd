"""What lens, rain and sensor do to a picture: halos, drops, streaks, blur, noise."""

import zlib
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import uniform
from avexp.records.labels import Weather
from avexp.world.camera import Camera
from avexp.world.look import Image, Textures, make_look
from avexp.world.painter import Halo
from avexp.world.scene import Scene


@lru_cache(maxsize=64)
def _disc(radius: int) -> npt.NDArray[np.float32]:
    """A halo of peak 1: a bright core in a wide skirt, [2r+1, 2r+1, 1]."""
    grid = np.arange(-radius, radius + 1) / max(radius, 1)
    square = grid[:, None] ** 2 + grid[None] ** 2
    shape = 0.75 * np.exp(-square * 14) + 0.25 * np.exp(-square * 4)
    return np.asarray((shape * np.clip(1.2 - square, 0, 1))[..., None], np.float32)


@lru_cache(maxsize=1024)
def _glow(radius: int, stretch: int, colour: tuple[int, int, int]) -> Image:
    """A coloured halo, stretched downwards by a factor."""
    disc = _disc(radius)[..., 0]
    if stretch > 1:
        disc = cv2.resize(disc, (disc.shape[1], disc.shape[0] * stretch))
    return np.asarray(np.clip(disc[..., None] * np.array(colour, np.float32), 0, 255).astype(np.uint8))


def add_halos(image: Image, ids: Image, halos: list[Halo], wet: float) -> None:
    """Add the lamps' halos, and their smears on a wet road."""
    for halo in halos:
        if ids[int(halo.y), int(halo.x)] != halo.mark:
            continue
        radius = min(max(int(halo.radius), 3), 56)
        radius = radius if radius < 12 else radius // 4 * 4
        r, g, b = (int(part) // 24 * 24 for part in halo.colour)
        _add(image, _glow(radius, 1, (r, g, b)), int(halo.x), int(halo.y))
        if wet > 0 and radius > 3:
            dim = 0.28 * wet
            smear = _glow(radius, 3, (int(r * dim), int(g * dim), int(b * dim)))
            _add(image, smear, int(halo.x), int(halo.y) + radius * 4)


def _add(image: Image, light: Image, x: int, y: int) -> None:
    half_y, half_x = light.shape[0] // 2, light.shape[1] // 2
    top, left = max(y - half_y, 0), max(x - half_x, 0)
    bottom, right = min(y + half_y + 1, image.shape[0]), min(x + half_x + 1, image.shape[1])
    part = light[top - y + half_y : bottom - y + half_y, left - x + half_x : right - x + half_x]
    bottom = top + part.shape[0]
    if part.size:
        spot = image[top:bottom, left:right]
        cv2.add(spot, part, dst=spot)


@lru_cache(maxsize=8)
def _noise_banks(textures: Textures, variant: int, sigma: float) -> tuple[Image, Image]:
    """Positive and negative part of the sensor noise."""
    scaled = make_look(textures, variant).noise * np.float32(sigma)
    return np.maximum(scaled, 0).round().astype(np.uint8), np.maximum(-scaled, 0).round().astype(np.uint8)


def develop(image: Image, scene: Scene, camera: Camera) -> Image:
    """Rain, blur and noise."""
    ambience = scene.ambience
    draw = scene.frame_seed ^ zlib.crc32(camera.name.encode())
    height, width = image.shape[:2]
    if ambience.weather is Weather.rain:
        y, x = draw % 71, (draw >> 8) % 73
        bright = round(float(np.clip(ambience.gain.mean() * 0.9 + 0.08, 0.12, 0.8)), 1)
        image = cv2.add(image, _cover(_streaks(scene.look.domain, scene.look.variant, bright), height, width, y, x))
        _drops(image, scene)
    way = abs(scene.ego.yaw_rate_radps) * ambience.exposure_s * camera.fx
    if way > 1.5:
        image = cv2.blur(image, (min(2 * int(way / 2) + 1, 9), 1))
    jolt = scene.ego.speed_mps * ambience.exposure_s
    if jolt > 0.12:
        lower = image[int(height * 0.72) :]
        cv2.blur(lower, (1, 3 if jolt < 0.35 else 5), dst=lower)
    image = cv2.GaussianBlur(image, (3, 3), 0.55 if ambience.weather is Weather.clear else 0.7)
    plus, minus = _noise_banks(scene.look.domain, scene.look.variant, round(ambience.noise, 1))
    y, x = (draw >> 16) % 79, (draw >> 24) % 77
    image = cv2.add(image, _cover(plus, height, width, y, x))
    return np.asarray(cv2.subtract(image, _cover(minus, height, width, y, x)))


def _cover(bank: Image, height: int, width: int, y: int, x: int) -> Image:
    """A window of a bank, tiled where the image is larger."""
    if bank.shape[0] < height + y or bank.shape[1] < width + x:
        times = (-(-(height + y) // bank.shape[0]), -(-(width + x) // bank.shape[1]), 1)[: bank.ndim]
        bank = np.tile(bank, times)
    return np.asarray(bank[y : y + height, x : x + width])


def _drops(image: Image, scene: Scene) -> None:
    """Drops on the glass: each shows the scene upside down, blurred. They stay for some seconds, then others come."""
    height, width = image.shape[:2]
    for u, v, size in _drop_places(scene.ground.seed, int(scene.t_s / 3.0))[: int(10 * scene.ambience.wet)]:
        radius = max(int((2 + 7 * size**3) * width / 640), 1)
        x, y = int(u * (width - 4 * radius)) + radius, int(v * (height - 4 * radius)) + radius
        spot = image[y : y + 2 * radius, x : x + 2 * radius]
        wide = image[max(y - 3 * radius, 0) : y + 5 * radius, max(x - 3 * radius, 0) : x + 5 * radius]
        lens = cv2.flip(cv2.resize(wide, (2 * radius, 2 * radius), interpolation=cv2.INTER_LINEAR), 0)
        cv2.copyTo(lens, _drop_mask(radius), spot)


@lru_cache(maxsize=8)
def _streaks(textures: Textures, variant: int, bright: float) -> Image:
    """Rain streaks as they add to a picture."""
    dimmed = cv2.convertScaleAbs(make_look(textures, variant).streaks, alpha=bright)
    return np.asarray(cv2.cvtColor(dimmed, cv2.COLOR_GRAY2BGR))


@lru_cache(maxsize=16)
def _drop_places(seed: int, epoch: int) -> list[list[float]]:
    """Place and size of drops, as shares."""
    places: list[list[float]] = uniform(3 * 10, "world-drops", seed, epoch).reshape(-1, 3).tolist()
    return places


@lru_cache(maxsize=32)
def _drop_mask(radius: int) -> Image:
    mask = np.zeros((2 * radius, 2 * radius), np.uint8)
    cv2.ellipse(mask, (radius, radius), (max(radius - 1, 1), max(int(radius * 0.85), 1)), 0, 0, 360, 255, -1)
    return mask
