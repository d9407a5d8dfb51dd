"""Shapes of things: coloured faces, sticks (capsules), lamps and a sprite, in the thing's own axes.

Own axes: x forward, y left, z up [m], origin on the ground below the middle. A face has up to eight corners (padded
by repeating the last); it is seen from the side on which its corners run counter-clockwise.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Colour = tuple[float, float, float]
"""Red, green, blue, 0..255."""
CORNERS = 8


class Code(IntEnum):
    """How a face answers to light."""

    plain = 0
    head = 1
    tail = 2
    brake = 3
    lit = 4
    """Always shines in its own colour."""
    reflector = 5
    """Throws headlights back: signs, number plates."""
    window = 6
    """Shines in the dark: lit windows."""


@dataclass(frozen=True, slots=True)
class Glow:
    """A lamp's halo at a vertex; ``facing`` is +1 or -1 where it shines along or against x only, else 0."""

    vertex: int
    radius_m: float
    colour: Colour
    code: Code
    facing: int


@dataclass(frozen=True, slots=True)
class Mesh:
    """A shape, packed so that many can be joined by few concatenations.

    Attributes:
        vertices: [V, 4], x, y, z, and by how much sticks reach beyond the vertex.
        faces: int [F, 8] in painting order seen from behind.
        facts: [F, 8], colour (3), normal (3), Code, whether it is seen from both sides.
        sticks: [K, 7], start, end, radius, colour (3), whether it shines.
        glows: lamps' halos.
        sprite: name of a picture that stands upright on vertex 0, and its width and height [m].
        radius_m: reach from the origin, for culling.
        height_m: height above the ground.
        outline: int [O], the vertices of faces.
        reverse: the same shape in painting order seen from the front; None where the order is the same.
        far: a simpler shape for small appearances.
        facade: name of a picture of a house front, whose corners are vertices 0 to 3: upper left, upper right, lower
            right, lower left.
        backdrop: painted by its farthest point, such as a house front.
    """

    vertices: Floats
    faces: Ints
    facts: Floats
    sticks: Floats
    glows: tuple[Glow, ...]
    sprite: tuple[str, float, float] | None
    radius_m: float
    height_m: float
    outline: Ints
    reverse: "Mesh | None" = None
    far: "Mesh | None" = None
    backdrop: bool = False
    facade: str | None = None


class MeshBuilder:
    """Collects a mesh, face by face, in painting order; ``part`` begins a part with its place along x."""

    def __init__(self) -> None:
        self._vertices: list[list[float]] = []
        self._faces: list[list[int]] = []
        self._facts: list[tuple[float, ...]] = []
        self._places: list[float] = []
        self._sticks: list[tuple[float, ...]] = []
        self._part_x = 0.0
        self.glows: list[Glow] = []
        self.sprite: tuple[str, float, float] | None = None
        self.facade: str | None = None

    def part(self, x_m: float) -> None:
        """What follows is one convex part around x."""
        self._part_x = x_m

    def vertex(self, x: float, y: float, z: float) -> int:
        """Add a vertex."""
        self._vertices.append([x, y, z, 0.0])
        return len(self._vertices) - 1

    def face(
        self,
        points: Floats,
        colour: Colour,
        outward: tuple[float, float, float],
        code: Code = Code.plain,
        open_: bool = False,
    ) -> None:
        """Add a face [N <= 8, 3]; its corners are turned so that it looks ``outward``."""
        corners = points.tolist()
        normal = _normal(corners)
        if sum(a * b for a, b in zip(normal, outward, strict=True)) < 0:
            corners.reverse()
            normal = (-normal[0], -normal[1], -normal[2])
        first = len(self._vertices)
        self._vertices += [[*corner, 0.0] for corner in corners]
        self._faces.append([first + min(i, len(corners) - 1) for i in range(CORNERS)])
        self._facts.append((*colour, *normal, float(code), float(open_)))
        self._places.append(self._part_x)

    def rectangle(
        self, axis: str, at: float, low: tuple[float, float], high: tuple[float, float], colour: Colour, sign: int,
        code: Code = Code.plain,
    ) -> None:  # fmt: skip
        """A rectangle across an axis: ``x`` (spans y, z), ``y`` (spans x, z) or ``z`` (spans x, y)."""
        corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        place = "xyz".index(axis)
        points = np.insert(np.array(corners, np.float64), place, at, axis=1)
        outward = np.zeros(3)
        outward[place] = sign
        self.face(points, colour, (float(outward[0]), float(outward[1]), float(outward[2])), code)

    def frustum(self, bottom: tuple[float, float, float, float], top: tuple[float, float, float, float], z: tuple[float, float],
                colours: dict[str, Colour]) -> dict[str, Floats]:  # fmt: skip
        """A box with its own bottom and top rectangle (x0, x1, half width at x0, half width at x1).

        Args:
            bottom: lower rectangle.
            top: upper rectangle.
            z: lower and upper height [m].
            colours: by side: rear, front, left, right, top; ``all`` for the rest; a side named with None is left out.

        Returns:
            Corner points [4, 3] of the sides, bottom first, for insets.
        """
        (a0, a1, aw0, aw1), (b0, b1, bw0, bw1) = bottom, top
        low, high = z
        sides = {
            "rear": ([(a0, -aw0, low), (a0, aw0, low), (b0, bw0, high), (b0, -bw0, high)], (-1.0, 0.0, 0.2)),
            "front": ([(a1, -aw1, low), (a1, aw1, low), (b1, bw1, high), (b1, -bw1, high)], (1.0, 0.0, 0.2)),
            "left": ([(a0, aw0, low), (a1, aw1, low), (b1, bw1, high), (b0, bw0, high)], (0.0, 1.0, 0.2)),
            "right": ([(a0, -aw0, low), (a1, -aw1, low), (b1, -bw1, high), (b0, -bw0, high)], (0.0, -1.0, 0.2)),
            "top": ([(b0, -bw0, high), (b1, -bw1, high), (b1, bw1, high), (b0, bw0, high)], (0.0, 0.0, 1.0)),
        }
        corners: dict[str, Floats] = {}
        for name, (points, outward) in sides.items():
            corners[name] = np.array(points, np.float64)
            self.face(corners[name], colours.get(name, colours["all"]), outward)
        return corners

    def inset(self, side: Floats, span: tuple[float, float, float, float], colour: Colour, outward: tuple[float, float, float],
              code: Code = Code.plain) -> None:  # fmt: skip
        """A patch of a frustum's side: (from, to) along it and (from, to) upwards, as shares."""
        u0, u1, v0, v1 = span
        places = [(u0, v0), (u1, v0), (u1, v1), (u0, v1)]
        points = [
            (1 - v) * ((1 - u) * side[0] + u * side[1]) + v * ((1 - u) * side[3] + u * side[2]) for u, v in places
        ]
        self.face(np.array(points), colour, outward, code)

    def disc(self, centre: tuple[float, float, float], radius: float, colour: Colour, sign: int, axis: str = "y",
             code: Code = Code.plain, open_: bool = False, corners: int = CORNERS) -> None:  # fmt: skip
        """A regular polygon across the y or x axis: wheels, lamps, round signs."""
        angles = (np.arange(corners) + 0.5) * 2 * np.pi / corners
        a, b = radius * np.cos(angles), radius * np.sin(angles)
        zero = np.zeros(corners)
        points = np.stack([a, zero, b] if axis == "y" else [zero, a, b], axis=1) + np.array(centre)
        self.face(points, colour, (0.0, sign, 0.0) if axis == "y" else (sign, 0.0, 0.0), code, open_)

    def stick(self, start: tuple[float, float, float], end: tuple[float, float, float], radius: float, colour: Colour,
              code: Code = Code.plain) -> None:  # fmt: skip
        """A capsule."""
        a, b = self.vertex(*start), self.vertex(*end)
        self._vertices[a][3] = self._vertices[b][3] = radius
        self._sticks.append((a, b, radius, *colour, float(code == Code.lit)))

    def glow(self, at: tuple[float, float, float], radius: float, colour: Colour, code: Code, facing: int) -> None:
        """A lamp's halo."""
        self.glows.append(Glow(self.vertex(*at), radius, colour, code, facing))

    def build(self, far: Mesh | None = None, backdrop: bool = False) -> Mesh:
        """The mesh."""
        if self.sprite is not None and not self._vertices:
            self.vertex(0.0, 0.0, 0.0)
            self.vertex(0.0, 0.0, self.sprite[2])
        vertices = np.array(self._vertices, np.float64).reshape(-1, 4)
        faces = np.array(self._faces, np.int64).reshape(-1, CORNERS)
        facts = np.array(self._facts, np.float64).reshape(-1, 8)
        sticks = np.array(self._sticks, np.float64).reshape(-1, 7)
        reach = float((np.hypot(vertices[:, 0], vertices[:, 1]) + vertices[:, 3]).max())
        if self.sprite is not None:
            reach = max(reach, self.sprite[1] / 2)
        rest = (sticks, tuple(self.glows), self.sprite, reach, float(vertices[:, 2].max()), np.unique(faces))
        places = np.array(self._places)
        reverse = None
        if len(places) and places.min() < places.max():
            from_front = np.argsort(places, kind="stable")
            reverse = Mesh(vertices, faces[from_front], facts[from_front], *rest, None, far, backdrop)
        # seen from behind, the part that is farther ahead is painted first
        order = np.argsort(-places, kind="stable") if len(places) else np.zeros(0, np.int64)
        return Mesh(vertices, faces[order], facts[order], *rest, reverse, far, backdrop, self.facade)


def _normal(corners: list[list[float]]) -> tuple[float, float, float]:
    """Unit normal by Newell's method, counter-clockwise side; works for any planar polygon."""
    x = y = z = 0.0
    for (x0, y0, z0), (x1, y1, z1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        x += (y0 - y1) * (z0 + z1)
        y += (z0 - z1) * (x0 + x1)
        z += (x0 - x1) * (y0 + y1)
    length = max((x * x + y * y + z * z) ** 0.5, 1e-12)
    return x / length, y / length, z / length
