"""Shapes beside the road: signs, traffic lights, lamp posts, house fronts, fences, and clutter that looks like objects."""

import numpy as np

from avexp.world.mesh import Code, Colour, Mesh, MeshBuilder

STEEL: Colour = (120, 124, 128)
BACK = (-1.0, 0.0, 0.0)
LAMP_COLOURS: dict[str, Colour] = {"red": (255, 50, 40), "yellow": (255, 190, 40), "green": (60, 255, 150)}


def make_sign(rng: np.random.Generator) -> tuple[Mesh, Mesh, tuple[float, float, float]]:
    """A plate that faces traffic coming from behind (-x), its pole, and the plate's size [m]."""
    kind = rng.choice(["limit", "warning", "give_way", "stop", "blue", "board"], p=[0.27, 0.2, 0.13, 0.08, 0.2, 0.12])
    radius, base = rng.uniform(0.32, 0.46), rng.uniform(1.6, 2.4)
    b = MeshBuilder()
    centre = (0.0, 0.0, base + radius)
    white, red, black = (236.0, 236.0, 232.0), (200.0, 24.0, 30.0), (25.0, 25.0, 28.0)
    yellow = (236.0, 190.0, 40.0) if rng.random() < 0.3 else white
    if kind == "limit":
        _plate(b, centre, radius, 8, red, 1.0)
        _plate(b, centre, radius, 8, white, 0.74)
        _digits(b, rng, centre, radius * 0.5, black)
    elif kind == "warning":
        _triangle(b, centre, radius, red, 1.0, 1)
        _triangle(b, centre, radius, yellow, 0.7, 1)
        b.rectangle("x", -0.03, (-0.05, base + radius * 0.55), (0.05, base + radius * 1.1), black, -1, Code.reflector)
    elif kind == "give_way":
        _triangle(b, centre, radius, red, 1.0, -1)
        _triangle(b, centre, radius, white, 0.66, -1)
    elif kind == "stop":
        _plate(b, centre, radius, 8, red, 1.0)
        b.rectangle(
            "x",
            -0.03,
            (-radius * 0.7, base + radius * 0.8),
            (radius * 0.7, base + radius * 1.2),
            white,
            -1,
            Code.reflector,
        )
    elif kind == "blue":
        _plate(b, centre, radius, 8, (30.0, 80.0, 180.0), 1.0)
        b.rectangle("x", -0.03, (-0.06, base + radius * 0.5), (0.06, base + radius * 1.5), white, -1, Code.reflector)
    else:
        radius = _board(b, rng, base, white)
    plate = b.build()
    pole = MeshBuilder()
    pole.stick((0.04, 0.0, 0.0), (0.04, 0.0, base + radius * 0.4), 0.04, STEEL)
    top = float(plate.vertices[:, 2].max())
    return plate, pole.build(), (0.06, 2 * radius, top - float(plate.vertices[:, 2].min()))


def _board(b: MeshBuilder, rng: np.random.Generator, base: float, white: Colour) -> float:
    """A direction board with two lines of writing; half its width [m]."""
    high, wide = rng.uniform(0.5, 0.8), rng.uniform(0.9, 1.4)
    colour = (20.0, 90.0, 60.0) if rng.random() < 0.5 else (30.0, 70.0, 160.0)
    b.rectangle("x", 0.0, (-wide / 2, base), (wide / 2, base + high), white, -1, Code.reflector)
    low, top = (-wide / 2 + 0.05, base + 0.05), (wide / 2 - 0.05, base + high - 0.05)
    b.rectangle("x", -0.01, low, top, colour, -1, Code.reflector)
    for row in range(2):
        z = base + high * (0.25 + 0.35 * row)
        end = (wide * rng.uniform(0.05, 0.4), z + 0.1)
        b.rectangle("x", -0.02, (-wide * 0.4, z), end, white, -1, Code.reflector)
    return float(wide / 2)


def make_sign_back(radius: float, base: float) -> Mesh:
    """The grey back of a sign for the other direction: looks like a sign and is none that concerns the car."""
    b = MeshBuilder()
    b.stick((0.04, 0.0, 0.0), (0.04, 0.0, base + radius), 0.04, STEEL)
    b.disc((0.0, 0.0, base + radius), radius, (130, 132, 134), -1, "x", corners=8 if radius > 0.38 else 4)
    return b.build()


def _plate(
    b: MeshBuilder, at: tuple[float, float, float], radius: float, corners: int, colour: Colour, share: float
) -> None:
    depth = -0.01 * (1 - share)
    b.disc((at[0] + depth, at[1], at[2]), radius * share, colour, -1, "x", Code.reflector, corners=corners)


def _triangle(
    b: MeshBuilder, at: tuple[float, float, float], radius: float, colour: Colour, share: float, up: int
) -> None:
    angles = np.radians([90, 210, 330]) * up
    r = radius * 1.15 * share
    middle = at[2] - up * radius * 0.2
    points = np.stack([np.full(3, -0.01 * (1 - share)), r * np.cos(angles), middle + r * np.sin(angles)], axis=1)
    b.face(points, colour, BACK, Code.reflector)


def _digits(
    b: MeshBuilder, rng: np.random.Generator, at: tuple[float, float, float], size: float, colour: Colour
) -> None:
    """Two glyphs of random seven-segment strokes."""
    for y in (0.45, -0.45):
        for z, across in ((0.6, True), (0.0, True), (-0.6, True), (0.3, False), (-0.3, False)):
            if rng.random() < 0.7:
                w, h = (0.3, 0.1) if across else (0.1, 0.3)
                shift = 0.0 if across else rng.choice([-0.25, 0.25])
                low = (at[1] + (y + shift - w) * size, at[2] + (z - h) * size)
                high = (at[1] + (y + shift + w) * size, at[2] + (z + h) * size)
                b.rectangle("x", -0.03, low, high, colour, -1, Code.reflector)


def make_light(state: str, base: float, horizontal: bool = False) -> tuple[Mesh, tuple[float, float, float]]:
    """A traffic light that faces traffic coming from behind (-x), in a state, and its size [m]."""
    b = MeshBuilder()
    wide, high, deep = 0.36, 1.0, 0.25
    if horizontal:
        wide, high = high, wide
    side = wide / 2
    b.frustum((0.0, deep, side, side), (0.0, deep, side, side), (base, base + high), {"all": (24, 26, 26)})
    for i, colour in enumerate(("red", "yellow", "green")):
        shift = (1 - i) * 0.31
        y, z = (shift, base + high / 2) if horizontal else (0.0, base + high / 2 + shift)
        on = state == colour
        r, g, blue = LAMP_COLOURS[colour]
        paint = (r, g, blue) if on else (r * 0.16, g * 0.14, blue * 0.14)
        b.disc((-0.02, y, z), 0.125, paint, -1, "x", Code.lit if on else Code.plain)
        if on:
            b.glow((-0.02, y, z), 0.34, (r, g, blue), Code.lit, -1)
    return b.build(), (deep, wide, high)


def make_light_post(base: float, arm_m: float) -> Mesh:
    """The post of a traffic light, with an arm over the road (to the left) where ``arm_m`` > 0."""
    b = MeshBuilder()
    b.stick((0.15, 0.0, 0.0), (0.15, 0.0, base + 0.9), 0.07, (90, 94, 96))
    if arm_m > 0:
        b.stick((0.2, 0.0, base + 0.8), (0.2, arm_m, base + 0.9), 0.06, (90, 94, 96))
    return b.build()


def make_lamp_post(height: float, arm_m: float, lit: bool) -> Mesh:
    """A street lamp whose arm reaches to the left."""
    b = MeshBuilder()
    b.stick((0.0, 0.0, 0.0), (0.0, 0.0, height), 0.08, (96, 100, 102))
    b.stick((0.0, 0.0, height), (0.0, arm_m, height + 0.3), 0.05, (96, 100, 102))
    head = (250.0, 214.0, 150.0) if lit else (150.0, 150.0, 146.0)
    b.stick((0.0, arm_m, height + 0.28), (0.0, arm_m + 0.5, height + 0.3), 0.1, head, Code.lit if lit else Code.plain)
    if lit:
        b.glow((0.0, arm_m + 0.3, height + 0.2), 1.0, (255, 205, 130), Code.lit, 0)
    return b.build()


def make_clutter(rng: np.random.Generator) -> Mesh:
    """Something that could be taken for an object: mailbox, bollard, bin, hydrant, cabinet, post, billboard, container."""
    kind = rng.choice(["mailbox", "bollard", "bin", "cabinet", "post", "billboard", "container", "stump"],
                      p=[0.14, 0.16, 0.14, 0.14, 0.16, 0.08, 0.06, 0.12])  # fmt: skip
    colour: Colour = (float(rng.uniform(30, 200)), float(rng.uniform(30, 190)), float(rng.uniform(30, 190)))
    b = MeshBuilder()
    if kind == "mailbox":
        b.stick((0, 0, 0), (0, 0, 1.0), 0.05, (90, 80, 70))
        b.frustum((-0.2, 0.2, 0.16, 0.16), (-0.2, 0.2, 0.14, 0.14), (1.0, 1.4), {"all": colour})
    elif kind == "bollard":
        b.stick((0, 0, 0.08), (0, 0, 0.9), 0.09, (190, 60, 40) if rng.random() < 0.4 else (110, 110, 110))
        b.stick((0, 0, 0.7), (0, 0, 0.75), 0.095, (225, 225, 220))
    elif kind == "bin":
        b.frustum((-0.3, 0.3, 0.28, 0.28), (-0.35, 0.35, 0.33, 0.33), (0.05, 1.1), {"all": colour, "top": (40, 40, 40)})
    elif kind == "cabinet":
        b.frustum((-0.25, 0.25, 0.5, 0.5), (-0.25, 0.25, 0.5, 0.5), (0.0, rng.uniform(1.0, 1.7)), {"all": colour})
    elif kind == "post":
        top = rng.uniform(1.5, 2.2)
        b.stick((0, 0, 0.1), (0, 0, top), rng.uniform(0.08, 0.2), colour)
        b.stick((0, 0, top), (0, 0, top), rng.uniform(0.1, 0.16), (200, 170, 140) if rng.random() < 0.5 else colour)
    elif kind == "billboard":
        wide, low = rng.uniform(2.0, 3.6), rng.uniform(0.8, 2.2)
        for y in (-wide * 0.35, wide * 0.35):
            b.stick((0.1, y, 0.0), (0.1, y, low), 0.07, STEEL)
        b.rectangle("x", 0.0, (-wide / 2, low), (wide / 2, low + 1.8), colour, -1)
        for _ in range(4):
            y, z = rng.uniform(-wide * 0.45, wide * 0.2), low + rng.uniform(0.1, 1.2)
            paint = (float(rng.uniform(0, 255)), float(rng.uniform(0, 255)), float(rng.uniform(0, 255)))
            b.rectangle("x", -0.02, (y, z), (y + rng.uniform(0.2, 0.9), z + rng.uniform(0.15, 0.55)), paint, -1)
    elif kind == "container":
        b.frustum((-2.0, 2.0, 0.95, 0.95), (-2.1, 2.1, 1.0, 1.0), (0.1, 1.6), {"all": colour})
    else:
        b.stick((0, 0, 0.1), (0, 0, rng.uniform(0.5, 1.4)), rng.uniform(0.14, 0.3), (74, 58, 44))
    return b.build()


def make_front(length: float, wall: Colour, storeys: int, facade: str) -> Mesh:
    """A house along x whose front, a picture, looks to the right (-y)."""
    b = MeshBuilder()
    height, half, depth = 3.1 * storeys + 0.8, length / 2, 8.0
    for x, y, z in ((-half, 0.0, height), (half, 0.0, height), (half, 0.0, 0.0), (-half, 0.0, 0.0)):
        b.vertex(x, y, z)
    b.facade = facade
    dim: Colour = (wall[0] * 0.8, wall[1] * 0.8, wall[2] * 0.8)
    for x, sign in ((-half, -1), (half, 1)):
        b.rectangle("x", x, (0.0, 0.0), (depth, height), dim, sign)
    return b.build(backdrop=True)


def make_rail(length: float, tall: bool) -> Mesh:
    """One piece of guardrail (or concrete wall) along x, seen from both sides."""
    b = MeshBuilder()
    half = length / 2
    if tall:
        for sign in (-1, 1):
            b.rectangle("y", sign * 0.12, (-half, 0.0), (half, 0.85), (150, 148, 142), sign)
        b.rectangle("z", 0.85, (-half, -0.12), (half, 0.12), (168, 166, 160), 1)
    else:
        for x in (-half, 0.0):
            b.stick((x, 0.0, 0.03), (x, 0.0, 0.5), 0.05, (96, 98, 100))
        for sign in (-1, 1):
            b.rectangle("y", sign * 0.03, (-half, 0.42), (half, 0.75), (140, 144, 148), sign)
            b.rectangle("y", sign * 0.04, (-half, 0.56), (half, 0.61), (98, 100, 104), sign)
    return b.build(backdrop=True)
