"""The appearance domain: palettes, textures and sprites; ``train`` and ``val`` share none of them."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import generator
from avexp.world.facades import MOST_STOREYS, Facade, make_facade
from avexp.world.mesh import Colour
from avexp.world.vehicles import TRAIN_CARS, VAL_CARS, CarShape

Textures = Literal["train", "val"]
Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
VARIANTS = 4
"""Texture banks by domain; a drive uses one."""
FRONTS = 5
"""House fronts by number of storeys."""
TEXELS_PER_M = 12.0
"""Resolution of the ground texture [1/m]."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one domain."""

    cars: tuple[Colour, ...]
    walls: tuple[Colour, ...]
    coats: tuple[Colour, ...]
    skins: tuple[Colour, ...]
    terrain: tuple[Colour, ...]
    asphalt: tuple[Colour, ...]
    leaves: tuple[Colour, ...]
    shapes: tuple[CarShape, ...]


_TRAIN = Palette(
    ((28, 28, 31), (60, 62, 66), (112, 115, 120), (168, 170, 174), (226, 227, 228), (236, 236, 232), (34, 48, 92),
     (126, 22, 26), (176, 30, 28), (44, 70, 58), (92, 80, 66), (38, 84, 140), (186, 180, 160)),
    ((168, 150, 128), (196, 186, 168), (142, 92, 76), (120, 118, 116), (208, 200, 184), (158, 124, 98), (176, 168, 166)),
    ((34, 36, 42), (70, 74, 84), (120, 34, 36), (36, 60, 106), (200, 196, 186), (52, 76, 50), (196, 140, 52), (98, 68, 92)),
    ((226, 186, 156), (198, 150, 118), (140, 98, 72), (86, 60, 46)),
    ((88, 104, 56), (104, 112, 62), (116, 104, 74), (78, 92, 52)),
    ((92, 93, 95), (108, 108, 108), (82, 83, 86), (120, 118, 114)),
    ((56, 82, 38), (70, 92, 44), (84, 94, 40), (48, 70, 42)),
    TRAIN_CARS,
)  # fmt: skip
_VAL = Palette(
    ((22, 24, 30), (78, 78, 80), (134, 136, 138), (190, 192, 196), (238, 238, 238), (24, 40, 80), (150, 36, 34),
     (52, 88, 60), (196, 120, 40), (66, 58, 90), (150, 140, 116), (210, 200, 60), (60, 110, 130)),
    ((184, 164, 148), (150, 142, 132), (176, 112, 84), (134, 136, 142), (218, 210, 200), (140, 110, 92)),
    ((28, 30, 34), (84, 86, 92), (140, 50, 60), (52, 80, 120), (214, 206, 190), (70, 90, 60), (180, 170, 70), (110, 84, 70)),
    ((218, 176, 148), (188, 138, 104), (128, 86, 64), (74, 52, 42)),
    ((100, 108, 66), (126, 116, 82), (84, 98, 64), (112, 120, 80)),
    ((98, 98, 99), (86, 88, 92), (114, 112, 110), (76, 76, 80)),
    ((66, 86, 44), (92, 96, 48), (54, 76, 50), (110, 92, 44)),
    VAL_CARS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """One variant of a domain.

    Attributes:
        domain, variant: train or val, and which of its banks.
        palette: its colours.
        ground: uint8 [N, N], tiling brightness texture, 128 is neutral.
        sprites: by name, pictures uint8 [h, w, 3] with masks uint8 [h, w] of halving size.
        facades: house fronts by name, ``<storeys>-<number>``; ``walls`` their colours.
        noise: float32 [h, w, 3], unit normal noise.
        streaks: uint8 [h, w], rain streaks.
    """

    domain: Textures
    variant: int
    palette: Palette
    ground: Image
    sprites: dict[str, list[tuple[Image, Image]]]
    facades: dict[str, Facade]
    walls: dict[str, Colour]
    noise: npt.NDArray[np.float32]
    streaks: Image


def pick(rng: np.random.Generator, colours: tuple[Colour, ...], spread: float = 0.12) -> Colour:
    """A colour of a palette, a little off."""
    base = colours[int(rng.integers(0, len(colours)))]
    gain = rng.uniform(1 - spread, 1 + spread) * rng.uniform(1 - spread / 3, 1 + spread / 3, 3)
    r, g, b = (float(np.clip(part * k, 0, 255)) for part, k in zip(base, gain, strict=True))
    return r, g, b


def palette_of(textures: Textures) -> Palette:
    """The colours of a domain."""
    return _TRAIN if textures == "train" else _VAL


@lru_cache(maxsize=2 * VARIANTS)
def make_look(textures: Textures, variant: int) -> Look:
    """The banks of a variant: a pure function of its arguments, kept in memory."""
    rng = generator("world-look", textures, variant)
    palette = palette_of(textures)
    sprites = {f"tree{i}": _pyramid(_tree(rng, palette, textures)) for i in range(6)}
    sprites |= {f"bush{i}": _pyramid(_bush(rng, palette)) for i in range(4)}
    walls = {f"{n}-{k}": pick(rng, palette.walls) for n in range(1, MOST_STOREYS + 1) for k in range(FRONTS)}
    facades = {name: make_facade(rng, wall, int(name[0])) for name, wall in walls.items()}
    noise = rng.standard_normal((440, 720, 3), np.float32)
    return Look(textures, variant, palette, _ground(rng, textures), sprites, facades, walls, noise, _streaks(rng))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Noise of a length scale [px], tiling, about unit variance."""
    rows, columns = max(2, shape[0] // cell[0]), max(2, shape[1] // cell[1])
    coarse = rng.standard_normal((rows, columns)).astype(np.float32)
    wrapped = np.pad(coarse, 2, mode="wrap")
    scale_y, scale_x = shape[0] / rows, shape[1] / columns
    full = cv2.resize(
        wrapped, (round((columns + 4) * scale_x), round((rows + 4) * scale_y)), interpolation=cv2.INTER_CUBIC
    )
    y, x = round(2 * scale_y), round(2 * scale_x)
    return np.asarray(full[y : y + shape[0], x : x + shape[1]] * 1.3)


def _ground(rng: np.random.Generator, textures: Textures) -> Image:
    size = 1024
    grain = rng.standard_normal((size, size)).astype(np.float32)
    value = (
        128 + 9 * grain + 6 * smooth_noise(rng, (size, size), (4, 4)) + 7 * smooth_noise(rng, (size, size), (24, 24))
    )
    value += 8 * smooth_noise(rng, (size, size), (160, 160))
    texture = np.clip(value, 0, 255).astype(np.uint8)
    for _ in range(26 if textures == "train" else 34):
        _crack(rng, texture)
    for _ in range(14):
        centre = tuple(int(v) for v in rng.integers(60, size - 60, 2))
        axes = tuple(int(v) for v in rng.integers(6, 40, 2))
        patch = texture.copy()
        cv2.ellipse(
            patch, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(92, 116)), -1, cv2.LINE_AA
        )
        texture = cv2.addWeighted(texture, 0.6, patch, 0.4, 0)
    return np.asarray(texture)


def _crack(rng: np.random.Generator, texture: Image) -> None:
    steps = np.cumsum(rng.normal(0, 6, (24, 2)) + rng.normal(0, 6, 2), axis=0) + rng.uniform(0, len(texture), 2)
    cv2.polylines(texture, [np.round(steps).astype(np.int32)], False, float(rng.uniform(70, 105)), 1, cv2.LINE_AA)


def _tree(rng: np.random.Generator, palette: Palette, textures: Textures) -> Image:
    """A tree of 128 x 192 px that stands on its lower edge."""
    height, width = 192, 128
    image = np.zeros((height, width, 4), np.uint8)
    bark = (78, 62, 48) if textures == "train" else (104, 96, 86)
    trunk = rng.uniform(0.25, 0.42)
    half = rng.uniform(4, 8)
    foot = np.array(
        [
            [64 - half * 1.3, 192],
            [64 - half * 0.6, 192 * (1 - trunk)],
            [64 + half * 0.6, 192 * (1 - trunk)],
            [64 + half * 1.3, 192],
        ]
    )
    cv2.fillConvexPoly(image, np.round(foot).astype(np.int32), (*bark, 255))
    conic = rng.random() < (0.35 if textures == "train" else 0.5)
    crown_low, leaf = 192 * (1 - trunk * 0.8), pick(rng, palette.leaves, 0.2)
    for i in range(700):
        share = i / 700
        z = rng.uniform(0.0, 1.0)
        reach = (1 - z) * 52 + 4 if conic else 56 * np.sqrt(max(0.0, 1 - (2 * z - 1) ** 2)) + 3
        x = 64 + rng.uniform(-1, 1) * reach
        y = crown_low - z * (crown_low - 12)
        shade = 0.55 + 0.5 * z + 0.25 * share * rng.random() - 0.12 * (x - 64) / 64
        paint = tuple(float(np.clip(part * shade, 0, 255)) for part in leaf)
        cv2.circle(image, (int(x), int(y)), int(rng.uniform(2, 9) * (1 - 0.5 * share)) + 1, (*paint, 255), -1)
    return image


def _pyramid(picture: Image) -> list[tuple[Image, Image]]:
    """Picture and mask at full, half, quarter and eighth size; colour runs on under the mask's edge."""
    levels = []
    for k in range(4):
        size = (picture.shape[1] >> k, picture.shape[0] >> k)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        share = np.maximum(small[..., 3:], 1).astype(np.float32) / 255
        colour = np.clip(small[..., :3] / share, 0, 255).astype(np.uint8)
        mask = cv2.threshold(np.ascontiguousarray(small[..., 3]), 110, 255, cv2.THRESH_BINARY)[1]
        levels.append((np.ascontiguousarray(colour), np.asarray(mask, np.uint8)))
    return levels


def _bush(rng: np.random.Generator, palette: Palette) -> Image:
    image = np.zeros((96, 128, 4), np.uint8)
    leaf = pick(rng, palette.leaves, 0.2)
    for _ in range(380):
        z = rng.random() ** 1.5
        x, y = 64 + rng.uniform(-1, 1) * 54 * np.sqrt(1 - z * z), 92 - z * 80
        shade = 0.45 + 0.6 * z + rng.uniform(-0.15, 0.15)
        paint = tuple(float(np.clip(part * shade, 0, 255)) for part in leaf)
        cv2.circle(image, (int(x), int(y)), int(rng.uniform(2, 7)), (*paint, 255), -1)
    return image


def _streaks(rng: np.random.Generator) -> Image:
    image = np.zeros((440, 720), np.uint8)
    for _ in range(520):
        x, y, length = rng.uniform(0, 720), rng.uniform(-20, 440), rng.uniform(6, 34)
        end = (int(x + length * 0.12), int(y + length))
        cv2.line(image, (int(x), int(y)), end, float(rng.uniform(8, 46)), 1, cv2.LINE_AA)
    return np.asarray(cv2.blur(image, (1, 3)))


def as_scalar(colour: Any) -> tuple[float, float, float]:
    """A colour in the form that cv2 takes."""
    return float(colour[0]), float(colour[1]), float(colour[2])
