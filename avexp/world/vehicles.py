"""Shapes of cars and trucks: bodies with windows, lights, wheels and plates, in many proportions and colours."""

from dataclasses import dataclass

import numpy as np

from avexp.world.mesh import Code, Colour, Mesh, MeshBuilder

DARK: Colour = (22, 22, 25)
GLASS: Colour = (38, 46, 56)
TYRE: Colour = (16, 16, 17)
HEAD: Colour = (235, 235, 225)
TAIL: Colour = (150, 18, 22)
REAR, FRONT, UP = (-1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
HEADLIGHT: Colour = (255, 246, 222)
TAILLIGHT: Colour = (255, 40, 30)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle's shape and size: length, width, height [m]."""

    mesh: Mesh
    size_m: tuple[float, float, float]
    category: str


@dataclass(frozen=True, slots=True)
class CarShape:
    """Proportions: cabin from ``cabin[0]`` to ``cabin[1]`` (shares of length from the rear) at the belt, its roof
    likewise; heights in metres.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    belt: float
    cabin: tuple[float, float]
    roof: tuple[float, float]


TRAIN_CARS = (
    CarShape((4.4, 4.9), (1.75, 1.88), (1.40, 1.50), 0.62, (0.10, 0.74), (0.22, 0.56)),
    CarShape((3.7, 4.3), (1.66, 1.80), (1.44, 1.56), 0.60, (0.01, 0.77), (0.05, 0.60)),
    CarShape((4.5, 5.0), (1.84, 1.98), (1.65, 1.82), 0.61, (0.01, 0.76), (0.05, 0.62)),
    CarShape((4.6, 4.9), (1.78, 1.86), (1.45, 1.52), 0.61, (0.00, 0.75), (0.06, 0.58)),
    CarShape((4.9, 5.6), (1.90, 2.05), (1.95, 2.35), 0.50, (0.00, 0.90), (0.01, 0.76)),
)
VAL_CARS = (
    CarShape((4.3, 4.8), (1.74, 1.86), (1.36, 1.46), 0.64, (0.13, 0.71), (0.27, 0.55)),
    CarShape((3.5, 4.1), (1.62, 1.76), (1.48, 1.62), 0.57, (0.00, 0.80), (0.03, 0.64)),
    CarShape((4.6, 5.1), (1.86, 2.00), (1.70, 1.88), 0.63, (0.00, 0.74), (0.09, 0.60)),
    CarShape((4.7, 5.3), (1.88, 2.00), (1.80, 2.20), 0.54, (0.00, 0.87), (0.02, 0.72)),
)


def make_car(rng: np.random.Generator, shapes: tuple[CarShape, ...], colour: Colour) -> Vehicle:
    """A random car of some body style."""
    shape = shapes[int(rng.integers(0, len(shapes)))]
    length, width, height = rng.uniform(*shape.length), rng.uniform(*shape.width), rng.uniform(*shape.height)
    half, side = length / 2, width / 2
    belt, clear = shape.belt * height, rng.uniform(0.17, 0.26)
    b = MeshBuilder()
    radius, axle = rng.uniform(0.30, 0.36), length * rng.uniform(0.29, 0.32)
    _wheels(b, (-axle, axle), side - 0.12, radius, inner=True)
    b.rectangle("z", clear, (-half * 0.95, -side * 0.9), (half * 0.95, side * 0.9), DARK, -1)
    nose = rng.uniform(0.0, 0.12)
    body = b.frustum(
        (-half, half, side * 0.96, side * 0.92),
        (-half + 0.06, half - 0.05 - nose, side, side * 0.94),
        (clear, belt),
        {"all": colour, "top": _shade(colour, 1.05)},
    )
    _ends(b, rng, body, half)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        b.inset(body[name], (0.0, 1.0, 0.0, 0.2), DARK, (0.0, sign, 0.0))
        b.inset(body[name], (0.36, 0.365, 0.2, 1.0), _shade(colour, 0.55), (0.0, sign, 0.0))
        b.inset(body[name], (0.60, 0.605, 0.2, 1.0), _shade(colour, 0.55), (0.0, sign, 0.0))
    _wheels(b, (-axle, axle), side + 0.01, radius, inner=False)
    x0, x1 = (-half + 0.08 + length * share for share in shape.cabin)
    r0, r1 = (-half + 0.08 + length * share for share in shape.roof)
    cabin = b.frustum(
        (x0, min(x1, half - 0.2), side * 0.97, side * 0.95),
        (r0, r1, side * 0.78, side * 0.76),
        (belt, height),
        {"all": colour, "top": _shade(colour, 1.1) if rng.random() < 0.85 else DARK},
    )
    b.inset(cabin["rear"], (0.09, 0.91, 0.14, 0.88), GLASS, REAR)
    b.inset(cabin["front"], (0.06, 0.94, 0.08, 0.92), GLASS, FRONT)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        b.inset(cabin[name], (0.06, 0.46, 0.12, 0.86), GLASS, (0.0, sign, 0.0))
        b.inset(cabin[name], (0.50, 0.93, 0.12, 0.86), GLASS, (0.0, sign, 0.0))
        b.rectangle("x", x1 - 0.35, (sign * side, belt), (sign * (side + 0.16), belt + 0.14), _shade(colour, 0.8), -1)
    _lamps(b, half, side * 0.74, belt * 0.82)
    return Vehicle(
        b.build(far=_far_car(length, width, height, belt, clear, colour, shape)), (length, width, height), "car"
    )


def _ends(b: MeshBuilder, rng: np.random.Generator, body: dict[str, np.ndarray], half: float) -> None:
    """Lamps, plates, bumpers and grille."""
    wide, low = rng.uniform(0.14, 0.26), rng.uniform(0.5, 0.62)
    rear, front = body["rear"], body["front"]
    b.inset(rear, (0.0, 1.0, 0.0, 0.24), DARK, REAR)
    for u in ((0.02, wide), (1 - wide, 0.98)):
        b.inset(rear, (*u, low, 0.92), TAIL, REAR, Code.tail)
        b.inset(front, (*u, 0.55, 0.86), HEAD, FRONT, Code.head)
    b.inset(rear, (0.37, 0.63, 0.34, 0.52), (215, 215, 200), REAR)
    b.inset(front, (0.3, 0.7, 0.36, 0.8), DARK, FRONT)
    b.inset(front, (0.0, 1.0, 0.0, 0.22), DARK, FRONT)
    b.inset(front, (0.38, 0.62, 0.22, 0.36), (215, 215, 200), FRONT)


def _lamps(b: MeshBuilder, half: float, y: float, z: float) -> None:
    for sign in (-1.0, 1.0):
        b.glow((half, sign * y, z * 0.95), 0.75, HEADLIGHT, Code.head, 1)
        b.glow((-half, sign * y, z), 0.28, TAILLIGHT, Code.tail, -1)


def _far_car(
    length: float, width: float, height: float, belt: float, clear: float, colour: Colour, shape: CarShape
) -> Mesh:
    b = MeshBuilder()
    half, side = length / 2, width / 2
    b.frustum((-half, half, side, side), (-half, half, side, side), (0.0, clear + 0.12), {"all": DARK})
    body = b.frustum((-half, half, side, side), (-half, half, side, side), (clear + 0.12, belt), {"all": colour})
    for u in ((0.0, 0.2), (0.8, 1.0)):
        b.inset(body["rear"], (*u, 0.5, 0.95), TAIL, REAR, Code.tail)
        b.inset(body["front"], (*u, 0.5, 0.9), HEAD, FRONT, Code.head)
    x0, x1 = (-half + length * share for share in shape.cabin)
    r0, r1 = (-half + length * share for share in shape.roof)
    sides = dict.fromkeys(("rear", "front", "left", "right"), GLASS)
    b.frustum((x0, x1, side, side), (r0, r1, side * 0.8, side * 0.8), (belt, height), {"all": colour, **sides})
    _lamps(b, half, side * 0.74, belt * 0.85)
    return b.build()


def _wheels(b: MeshBuilder, places: tuple[float, ...], y: float, radius: float, inner: bool) -> None:
    # an octagon that stands on its side touches the ground with its apothem
    tyre = radius / float(np.cos(np.pi / 8))
    for x in places:
        for sign in (-1, 1):
            b.disc((x, sign * y, radius), tyre, TYRE, sign, open_=inner)
            if not inner:
                b.disc((x, sign * (y + 0.005), radius), radius * 0.6, (128, 130, 134), sign, corners=6)


def make_truck(rng: np.random.Generator, colour: Colour, cargo: Colour) -> Vehicle:
    """A random truck: box truck, articulated truck or bus."""
    kind = rng.choice(["box", "semi", "bus"], p=[0.4, 0.35, 0.25])
    if kind == "bus":
        return _bus(rng, colour)
    length = rng.uniform(6.5, 9.5) if kind == "box" else rng.uniform(13.0, 16.5)
    width, height = rng.uniform(2.3, 2.55), rng.uniform(2.9, 3.6) if kind == "box" else rng.uniform(3.6, 4.0)
    half, side = length / 2, width / 2
    cab, gap = rng.uniform(1.7, 2.2), 0.15 if kind == "box" else 0.6
    b = MeshBuilder()
    bed = rng.uniform(0.95, 1.15)
    rear_axles = (-half + 1.0, -half + 2.2) if kind == "semi" else (-half + 1.6,)
    axles = (*rear_axles, half - cab - 0.9, half - 1.1) if kind == "semi" else (*rear_axles, half - 1.1)
    b.part(0.0)
    _wheels(b, axles, side - 0.2, 0.5, inner=True)
    box_end = half - cab - gap
    box = b.frustum((-half, box_end, side, side), (-half, box_end, side, side), (bed, height), {"all": cargo})
    b.rectangle("x", -half + 0.05, (-side * 0.85, 0.55), (side * 0.85, bed), DARK, -1)
    for u in ((0.03, 0.15), (0.85, 0.97)):
        b.inset(box["rear"], (*u, 0.0, 0.05), TAIL, REAR, Code.tail)
    b.inset(box["rear"], (0.49, 0.51, 0.06, 0.98), _shade(cargo, 0.6), REAR)
    b.inset(box["rear"], (0.0, 1.0, 0.05, 0.075), (200, 60, 40), REAR, Code.reflector)
    stripe: Colour = (float(rng.uniform(30, 220)), float(rng.uniform(30, 220)), float(rng.uniform(30, 220)))
    v0 = rng.uniform(0.2, 0.5)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        b.inset(box[name], (0.08, 0.92, v0, v0 + rng.uniform(0.1, 0.35)), stripe, (0.0, sign, 0.0))
        b.rectangle("y", sign * side * 0.95, (-half + 0.3, 0.5), (box_end, bed), DARK, int(sign))
    if rng.random() < 0.5:
        b.inset(box["rear"], (0.1, 0.9, 0.45, 0.75), stripe, REAR)
    _wheels(b, axles[:-1], side - 0.02, 0.5, inner=False)
    b.part(length)
    _cab(b, (half - cab, half), side * 0.97, min(height - 0.2, rng.uniform(2.5, 3.1)), colour)
    for sign in (-1.0, 1.0):
        b.glow((half, sign * side * 0.8, 0.85), 0.85, HEADLIGHT, Code.head, 1)
        b.glow((-half, sign * side * 0.8, bed + 0.1), 0.3, TAILLIGHT, Code.tail, -1)
    return Vehicle(b.build(), (length, width, height), "truck")


def _cab(b: MeshBuilder, x: tuple[float, float], side: float, height: float, colour: Colour) -> None:
    cab = b.frustum((*x, side, side), (x[0], x[1] - 0.15, side, side * 0.97), (0.45, height), {"all": colour})
    b.inset(cab["front"], (0.06, 0.94, 0.5, 0.86), GLASS, FRONT)
    b.inset(cab["front"], (0.25, 0.75, 0.12, 0.4), DARK, FRONT)
    for u in ((0.03, 0.2), (0.8, 0.97)):
        b.inset(cab["front"], (*u, 0.1, 0.22), HEAD, FRONT, Code.head)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        b.inset(cab[name], (0.4, 0.95, 0.52, 0.84), GLASS, (0.0, sign, 0.0))
    _wheels(b, (x[1] - 1.1,), side, 0.5, inner=False)


def _bus(rng: np.random.Generator, colour: Colour) -> Vehicle:
    length, width, height = rng.uniform(9.0, 12.5), rng.uniform(2.45, 2.55), rng.uniform(2.9, 3.3)
    half, side = length / 2, width / 2
    b = MeshBuilder()
    _wheels(b, (-half * 0.55, half * 0.6), side - 0.2, 0.48, inner=True)
    body = b.frustum(
        (-half, half, side, side), (-half, half - 0.1, side * 0.98, side * 0.98), (0.32, height), {"all": colour}
    )
    b.inset(body["rear"], (0.12, 0.88, 0.5, 0.88), GLASS, REAR)
    b.inset(body["front"], (0.05, 0.95, 0.35, 0.82), GLASS, FRONT)
    b.inset(body["front"], (0.15, 0.85, 0.86, 0.97), (240, 180, 60), FRONT, Code.lit)
    for u in ((0.02, 0.12), (0.88, 0.98)):
        b.inset(body["rear"], (*u, 0.12, 0.3), TAIL, REAR, Code.tail)
        b.inset(body["front"], (*u, 0.08, 0.2), HEAD, FRONT, Code.head)
    for name, sign in (("left", 1.0), ("right", -1.0)):
        b.inset(body[name], (0.0, 1.0, 0.0, 0.1), DARK, (0.0, sign, 0.0))
        for i in range(6):
            b.inset(body[name], (0.03 + i * 0.16, 0.17 + i * 0.16, 0.45, 0.85), GLASS, (0.0, sign, 0.0), Code.window)
    _wheels(b, (-half * 0.55, half * 0.6), side, 0.48, inner=False)
    for sign in (-1.0, 1.0):
        b.glow((half, sign * side * 0.85, 0.8), 0.8, HEADLIGHT, Code.head, 1)
        b.glow((-half, sign * side * 0.85, 0.9), 0.3, TAILLIGHT, Code.tail, -1)
    return Vehicle(b.build(), (length, width, height), "truck")


def _shade(colour: Colour, gain: float) -> Colour:
    r, g, b = (min(255.0, part * gain) for part in colour)
    return r, g, b
