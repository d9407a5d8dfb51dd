"""Shapes of people: pedestrians by phase of their step, and cyclists by phase of their pedals, made of capsules."""

from itertools import pairwise

import numpy as np

from avexp.world.mesh import Code, Colour, Mesh, MeshBuilder

PHASES = 8
"""Number of poses in one step cycle."""
STRIDE_M = 1.45
"""Way of one full step cycle at 1.75 m height [m]."""


def make_pedestrian(
    rng: np.random.Generator, height: float, coat: Colour, trousers: Colour, skin: Colour
) -> tuple[Mesh, ...]:
    """PHASES poses of one person; drawn once from ``rng`` so that all show the same clothes."""
    scale = height / 1.75
    hair = _mix(skin, (30, 24, 20), rng.uniform(0.5, 1.0))
    bulk = rng.uniform(0.85, 1.25)
    skirt, bag, hat, umbrella = rng.random(4) < (0.2, 0.3, 0.2, 0.12)
    bag_colour: Colour = (float(rng.uniform(20, 160)), float(rng.uniform(20, 120)), float(rng.uniform(20, 120)))
    still = rng.random() < 0.15
    poses = []
    for k in range(PHASES):
        swing = 0.0 if still else np.sin(2 * np.pi * k / PHASES)
        lift = 0.0 if still else np.cos(2 * np.pi * k / PHASES)
        b = MeshBuilder()
        _legs(b, scale, bulk, swing, lift, trousers)
        if skirt:
            b.stick((0, 0, 0.72 * scale), (0, 0, 0.9 * scale), 0.2 * scale, coat)
        b.stick((-0.04 * swing * scale, 0.19 * scale, 1.36 * scale), (0.2 * -swing * scale, 0.23 * scale, 0.86 * scale),
                0.05 * scale, _mix(coat, (0, 0, 0), 0.15))  # fmt: skip
        b.stick((0, 0, 1.0 * scale), (0.02, 0, 1.32 * scale), 0.165 * bulk * scale, coat)
        b.stick((0, 0.08 * scale, 1.38 * scale), (0, -0.08 * scale, 1.38 * scale), 0.1 * bulk * scale, coat)
        b.stick((0.04 * swing * scale, -0.19 * scale, 1.36 * scale), (0.2 * swing * scale, -0.23 * scale, 0.86 * scale),
                0.05 * scale, _mix(coat, (0, 0, 0), 0.15))  # fmt: skip
        if bag:
            b.stick((-0.2 * scale, 0, 1.1 * scale), (-0.2 * scale, 0, 1.3 * scale), 0.12 * scale, bag_colour)
        _head(b, scale, skin, coat if hat else hair)
        if umbrella:
            _umbrella(b, scale, bag_colour)
        far = _far_pedestrian(scale, bulk, swing, coat, trousers, hair, umbrella)
        poses.append(b.build(far))
    return tuple(poses)


def _far_pedestrian(
    scale: float, bulk: float, swing: float, coat: Colour, trousers: Colour, hair: Colour, umbrella: bool
) -> Mesh:
    """The same person in few strokes, for small appearances."""
    b = MeshBuilder()
    for side in (1.0, -1.0):
        foot = ((0.34 * swing * side + 0.05) * scale, 0.1 * side * scale, 0.07 * scale)
        b.stick((0, 0.08 * side * scale, 0.85 * scale), foot, 0.075 * scale, trousers)
    b.stick((0, 0, 0.95 * scale), (0, 0, 1.36 * scale), 0.19 * bulk * scale, coat)
    b.stick((0, 0, 1.63 * scale), (0, 0, 1.66 * scale), 0.11 * scale, hair)
    if umbrella:
        b.stick((0.05, -0.4, 1.92 * scale), (0.05, 0.2, 1.92 * scale), 0.14, coat)
    return b.build()


def _legs(b: MeshBuilder, scale: float, bulk: float, swing: float, lift: float, trousers: Colour) -> None:
    for side in (1.0, -1.0):
        reach, bend = 0.34 * swing * side, max(0.0, lift * side)
        knee = ((0.5 * reach + 0.1 * bend) * scale, 0.1 * side * scale, 0.5 * scale)
        foot = ((reach - 0.12 * bend) * scale, 0.1 * side * scale, (0.07 + 0.1 * bend) * scale)
        b.stick((0, 0.09 * side * scale, 0.92 * scale), knee, 0.085 * bulk * scale, trousers)
        b.stick(knee, foot, 0.06 * bulk * scale, _mix(trousers, (0, 0, 0), 0.12))
        b.stick(foot, (foot[0] + 0.14 * scale, foot[1], foot[2] - 0.02), 0.05 * scale, (24, 22, 22))


def _head(b: MeshBuilder, scale: float, skin: Colour, hair: Colour) -> None:
    b.stick((0, 0, 1.44 * scale), (0, 0, 1.5 * scale), 0.05 * scale, skin)
    b.stick((-0.02 * scale, 0, 1.66 * scale), (-0.02 * scale, 0, 1.66 * scale), 0.11 * scale, hair)
    b.stick((0.03 * scale, 0, 1.61 * scale), (0.03 * scale, 0, 1.63 * scale), 0.092 * scale, skin)


def _umbrella(b: MeshBuilder, scale: float, colour: Colour) -> None:
    b.stick((0.12, -0.2, 1.2 * scale), (0.05, -0.1, 2.0 * scale), 0.015, (40, 40, 40))
    angles = np.arange(8) * np.pi / 4
    rim = np.stack([0.5 * np.cos(angles), 0.5 * np.sin(angles) - 0.1, np.full(8, 1.86 * scale)], axis=1)
    top = np.array([0.05, -0.1, 2.06 * scale])
    for i in range(8):
        b.face(
            np.array([rim[i], rim[(i + 1) % 8], top]), _mix(colour, (0, 0, 0), 0.25 * (i % 2)), (0, 0, 1), open_=True
        )


def make_cyclist(
    rng: np.random.Generator, coat: Colour, trousers: Colour, skin: Colour, frame: Colour
) -> tuple[Mesh, ...]:
    """PHASES poses of one cyclist on a bicycle."""
    helmet = (float(rng.uniform(30, 240)), float(rng.uniform(30, 240)), float(rng.uniform(30, 240)))
    upright = rng.uniform(0.0, 0.25)
    poses = []
    for k in range(PHASES):
        angle = 2 * np.pi * k / PHASES
        b = MeshBuilder()
        for x in (-0.52, 0.52):
            _wheel(b, x, 0.34)
        hub, head, seat, crank = (-0.52, 0.0, 0.34), (0.38, 0.0, 0.9), (-0.15, 0.0, 0.92), (-0.05, 0.0, 0.3)
        for start, end in (
            (hub, crank),
            (crank, seat),
            (crank, head),
            (seat, head),
            (hub, seat),
            (head, (0.52, 0.0, 0.34)),
        ):
            b.stick(start, end, 0.025, frame)
        b.stick((0.4, -0.26, 1.0), (0.4, 0.26, 1.0), 0.02, (20, 20, 20))
        for side in (1.0, -1.0):
            turn = angle + (0.0 if side > 0 else np.pi)
            foot = (-0.05 + 0.17 * np.cos(turn), 0.1 * side, 0.3 + 0.17 * np.sin(turn))
            knee = (0.5 * (foot[0] - 0.15) + 0.22, 0.1 * side, 0.5 * (foot[2] + 0.98) + 0.1)
            b.stick((-0.15, 0.09 * side, 0.98), knee, 0.085, trousers)
            b.stick(knee, foot, 0.06, trousers)
            b.stick(foot, (foot[0] + 0.14, foot[1], foot[2]), 0.05, (24, 22, 22))
        chest = (0.22 - upright, 0.0, 1.38 + 0.3 * upright)
        b.stick((-0.15, 0.0, 1.02), chest, 0.155, coat)
        for side in (1.0, -1.0):
            b.stick((chest[0], 0.18 * side, chest[2]), (0.4, 0.22 * side, 1.02), 0.05, _mix(coat, (0, 0, 0), 0.2))
        b.stick((chest[0] + 0.08, 0, 1.62), (chest[0] + 0.08, 0, 1.64), 0.1, skin)
        b.stick((chest[0] + 0.05, 0, 1.68), (chest[0] + 0.05, 0, 1.69), 0.115, helmet)
        b.disc((-0.6, 0.0, 0.7), 0.04, (190, 20, 20), -1, "x", Code.tail)
        b.glow((-0.6, 0.0, 0.7), 0.12, (255, 40, 30), Code.tail, -1)
        b.glow((0.45, 0.0, 0.95), 0.3, (255, 250, 235), Code.head, 1)
        poses.append(b.build(_far_cyclist(chest, coat, trousers, helmet, frame)))
    return tuple(poses)


def _far_cyclist(
    chest: tuple[float, float, float], coat: Colour, trousers: Colour, helmet: Colour, frame: Colour
) -> Mesh:
    """The same cyclist in few strokes, for small appearances."""
    b = MeshBuilder()
    for x in (-0.52, 0.52):
        rim = [(x + 0.31 * dx, 0.0, 0.34 + 0.31 * dz) for dx, dz in ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, 0))]
        for start, end in pairwise(rim):
            b.stick(start, end, 0.035, (22, 22, 24))
    b.stick((-0.3, 0.0, 0.4), (0.4, 0.0, 0.85), 0.03, frame)
    b.stick((-0.15, 0.0, 0.95), (0.0, 0.1, 0.3), 0.11, trousers)
    b.stick((-0.15, 0.0, 1.02), chest, 0.18, coat)
    b.stick((chest[0] + 0.07, 0, 1.64), (chest[0] + 0.07, 0, 1.68), 0.11, helmet)
    b.glow((-0.6, 0.0, 0.7), 0.12, (255, 40, 30), Code.tail, -1)
    b.glow((0.45, 0.0, 0.95), 0.3, (255, 250, 235), Code.head, 1)
    return b.build()


def _wheel(b: MeshBuilder, x: float, radius: float) -> None:
    corners = 8
    angles = np.arange(corners + 1) * 2 * np.pi / corners
    rim = [(x + radius * np.cos(a), 0.0, radius + radius * np.sin(a)) for a in angles]
    for start, end in pairwise(rim):
        b.stick(start, end, 0.03, (22, 22, 24))
    b.stick(rim[1], rim[5], 0.008, (120, 120, 120))
    b.stick(rim[3], rim[7], 0.008, (120, 120, 120))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, blue = (p * (1 - share) + q * share for p, q in zip(a, b, strict=True))
    return r, g, blue
