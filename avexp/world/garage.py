"""The stock that drives draw from: vehicles, people and things of a domain, each made once a process."""

from functools import lru_cache

import numpy as np

from avexp.core.counter_random import generator
from avexp.world import furniture
from avexp.world.figures import make_cyclist, make_pedestrian
from avexp.world.look import Textures, palette_of, pick
from avexp.world.mesh import Mesh
from avexp.world.vehicles import Vehicle, make_car, make_truck

CARS, TRUCKS, PEOPLE, CYCLISTS, CLUTTER, SIGNS = 180, 44, 48, 20, 56, 40
"""How many of each a domain has."""
Person = tuple[tuple[Mesh, ...], float]
"""Poses by phase, and height [m]."""
Sign = tuple[Mesh, Mesh, tuple[float, float, float]]
"""Plate, pole and the plate's size [m]."""


def any_vehicle(rng: np.random.Generator, textures: Textures, trucks: float) -> Vehicle:
    """A car, or with this chance a truck."""
    return any_truck(rng, textures) if rng.random() < trucks else any_car(rng, textures)


def any_car(rng: np.random.Generator, textures: Textures) -> Vehicle:
    """A car."""
    return _car(textures, int(rng.integers(0, CARS)))


def any_truck(rng: np.random.Generator, textures: Textures) -> Vehicle:
    """A truck or bus."""
    return _truck(textures, int(rng.integers(0, TRUCKS)))


def any_person(rng: np.random.Generator, textures: Textures) -> Person:
    """A pedestrian."""
    return _person(textures, int(rng.integers(0, PEOPLE)))


def any_cyclist(rng: np.random.Generator, textures: Textures) -> tuple[Mesh, ...]:
    """A cyclist, by phase."""
    return _cyclist(textures, int(rng.integers(0, CYCLISTS)))


def any_clutter(rng: np.random.Generator, textures: Textures) -> Mesh:
    """Something that could be taken for an object."""
    return _clutter(textures, int(rng.integers(0, CLUTTER)))


def any_sign(rng: np.random.Generator, textures: Textures) -> Sign:
    """A sign."""
    return _sign(textures, int(rng.integers(0, SIGNS)))


@lru_cache(maxsize=2 * CARS)
def _car(textures: Textures, number: int) -> Vehicle:
    rng, palette = generator("world-car", textures, number), palette_of(textures)
    return make_car(rng, palette.shapes, pick(rng, palette.cars))


@lru_cache(maxsize=2 * TRUCKS)
def _truck(textures: Textures, number: int) -> Vehicle:
    rng, palette = generator("world-truck", textures, number), palette_of(textures)
    return make_truck(rng, pick(rng, palette.cars), pick(rng, palette.walls if rng.random() < 0.5 else palette.cars))


@lru_cache(maxsize=2 * PEOPLE)
def _person(textures: Textures, number: int) -> Person:
    rng, palette = generator("world-person", textures, number), palette_of(textures)
    height = float(rng.uniform(1.0, 1.4) if rng.random() < 0.12 else rng.uniform(1.55, 1.95))
    coat, trousers, skin = pick(rng, palette.coats), pick(rng, palette.coats), pick(rng, palette.skins)
    return make_pedestrian(rng, height, coat, trousers, skin), height


@lru_cache(maxsize=2 * CYCLISTS)
def _cyclist(textures: Textures, number: int) -> tuple[Mesh, ...]:
    rng, palette = generator("world-cyclist", textures, number), palette_of(textures)
    coat, trousers, skin = pick(rng, palette.coats), pick(rng, palette.coats), pick(rng, palette.skins)
    return make_cyclist(rng, coat, trousers, skin, pick(rng, palette.cars))


@lru_cache(maxsize=2 * CLUTTER)
def _clutter(textures: Textures, number: int) -> Mesh:
    return furniture.make_clutter(generator("world-clutter", textures, number))


@lru_cache(maxsize=2 * SIGNS)
def _sign(textures: Textures, number: int) -> Sign:
    return furniture.make_sign(generator("world-sign", textures, number))
