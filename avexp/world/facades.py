"""House fronts as pictures: walls with courses, windows with frames, doors, shops; some windows shine in the dark."""

import cv2
import numpy as np
import numpy.typing as npt

from avexp.world.ambience import Ambience
from avexp.world.mesh import Colour

Image = npt.NDArray[np.uint8]
Facade = tuple[Image, Image]
"""uint8 [h, w, 3] in its own colours, and uint8 [h, w] where windows shine."""
WIDTH_PX, STOREY_PX = 192, 44
MOST_STOREYS = 4


def make_facade(rng: np.random.Generator, wall: Colour, storeys: int) -> Facade:
    """A front of some storeys, its foot on the lower edge."""
    height = STOREY_PX * storeys + 12
    grain = rng.normal(0, 5, (height, WIDTH_PX, 1)) + rng.normal(0, 4, (height, 1, 1))
    image = np.ascontiguousarray(np.clip(np.array(wall) + grain, 0, 255).astype(np.uint8))
    shine = np.zeros((height, WIDTH_PX), np.uint8)
    dim = tuple(part * 0.72 for part in wall)
    if rng.random() < 0.5:  # courses of brick or panels
        for y in range(0, height, int(rng.integers(4, 9))):
            cv2.line(image, (0, y), (WIDTH_PX, y), tuple(part * 0.9 for part in wall), 1)
    cv2.rectangle(image, (0, 0), (WIDTH_PX, int(rng.integers(4, 9))), dim, -1)
    cv2.rectangle(image, (0, height - int(rng.integers(3, 8))), (WIDTH_PX, height), dim, -1)
    count = int(rng.integers(3, 7))
    pitch = WIDTH_PX / count
    wide, high = pitch * rng.uniform(0.35, 0.62), rng.uniform(18, 27)
    frame = (225, 222, 214) if rng.random() < 0.6 else tuple(part * 0.5 for part in wall)
    shop, balcony = rng.random() < 0.3, rng.random() < 0.3
    door = int(rng.integers(0, count))
    for storey in range(storeys):
        foot = height - STOREY_PX * storey
        if storey == 0 and shop:
            _shop(rng, image, shine, foot)
            continue
        for i in range(count):
            x = (i + 0.5) * pitch
            if storey == 0 and i == door:
                colour = tuple(float(v) for v in rng.uniform(30, 110, 3))
                cv2.rectangle(image, (int(x - 8), foot - 32), (int(x + 8), foot), colour, -1)
                continue
            _window(rng, image, shine, (x - wide / 2, foot - 13 - high, x + wide / 2, foot - 13), frame)
            if balcony and storey > 0 and i % 2:
                cv2.rectangle(image, (int(x - pitch * 0.45), foot - 20), (int(x + pitch * 0.45), foot - 8), dim, -1)
    return image, shine


def _window(
    rng: np.random.Generator,
    image: Image,
    shine: Image,
    box: tuple[float, float, float, float],
    frame: tuple[float, ...],
) -> None:
    x1, y1, x2, y2 = (int(v) for v in box)
    cv2.rectangle(image, (x1 - 2, y1 - 2), (x2 + 2, y2 + 2), frame, -1)
    glass = rng.uniform(35, 95) * np.array([0.85, 1.0, 1.15])
    cv2.rectangle(image, (x1, y1), (x2, y2), tuple(float(v) for v in glass), -1)
    cv2.line(image, ((x1 + x2) // 2, y1), ((x1 + x2) // 2, y2), frame, 1)
    if rng.random() < 0.3:  # a curtain or blind
        cv2.rectangle(image, (x1, y1), (x2, int(y1 + (y2 - y1) * rng.uniform(0.2, 0.9))), (190, 186, 176), -1)
    if rng.random() < 0.3:
        cv2.rectangle(shine, (x1, y1), (x2, y2), float(rng.uniform(110, 235)), -1)


def _shop(rng: np.random.Generator, image: Image, shine: Image, foot: int) -> None:
    sign = tuple(float(v) for v in rng.uniform(20, 220, 3))
    cv2.rectangle(image, (4, foot - 32), (WIDTH_PX - 4, foot - 3), (52, 60, 68), -1)
    cv2.rectangle(image, (2, foot - 42), (WIDTH_PX - 2, foot - 33), sign, -1)
    for _ in range(14):  # goods, posters, letters
        x, y = int(rng.uniform(8, WIDTH_PX - 24)), int(rng.uniform(foot - 40, foot - 10))
        colour = tuple(float(v) for v in rng.uniform(30, 240, 3))
        cv2.rectangle(image, (x, y), (x + int(rng.uniform(3, 16)), y + int(rng.uniform(3, 9))), colour, -1)
    if rng.random() < 0.5:
        cv2.rectangle(shine, (4, foot - 32), (WIDTH_PX - 4, foot - 3), float(rng.uniform(90, 200)), -1)


def light_facades(facades: dict[str, Facade], ambience: Ambience) -> dict[str, Image]:
    """The fronts as they look in an ambience, before haze."""
    lit = {}
    for name, (image, shine) in facades.items():
        shade = image * (ambience.gain * 0.8).astype(np.float32)
        if ambience.street:
            glow = shine[..., None].astype(np.float32) / 255
            shade = shade + glow * (np.array([232, 186, 112], np.float32) - shade)
        lit[name] = np.clip(shade, 0, 255).astype(np.uint8)
    return lit
