"""Paints the ground of a scene: terrain, road, side streets, paint, seams, shadows, and the light on all of it."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avexp.core.counter_random import uniform
from avexp.records.labels import LaneType, Road
from avexp.world.ambience import Ambience
from avexp.world.camera import Camera, clip_near
from avexp.world.course import Course
from avexp.world.look import TEXELS_PER_M, Image, as_scalar
from avexp.world.scene import Scene
from avexp.world.traffic import stop_line

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROAD_ID = 1
"""What the id buffer holds where the drivable surface is seen."""
UNIT = 200.0
"""Grey level of the light maps that stands for brightness 1."""
SHIFT = 4
LEVELS = 5


@dataclass(frozen=True, slots=True)
class GroundMaps:
    """Per-pixel maps of one camera and ambience for the rows below the horizon, first row first.

    Attributes:
        light: uint8 [K, W, 3], brightness times what fog lets through, UNIT is 1.
        veil: uint8 [K, W, 3], fog and wet sheen to add.
        sharp: uint8 [K, W], how much of the ground's texture is left, 255 all; ``flat`` its complement times 128.
    """

    light: Image
    veil: Image
    sharp: Image
    flat: Image


def make_maps(camera: Camera, ambience: Ambience) -> GroundMaps:
    """The maps of a camera."""
    rows = camera.height_px - int(camera.horizon_px) + 24
    depth = camera.position_m[2] * camera.fy / (np.arange(rows) + 0.5)[:, None]
    lateral = -(np.arange(camera.width_px) + 0.5 - camera.cx)[None] / camera.fx * depth
    c, s = np.cos(camera.yaw_rad), np.sin(camera.yaw_rad)
    x, y = camera.position_m[0] + c * depth - s * lateral, camera.position_m[1] + s * depth + c * lateral
    through = np.exp(-ambience.fog_density_1pm * np.hypot(depth, lateral))[..., None]
    beam = ambience.headlight(x, y)[..., None]
    warm = np.array([1.05, 1.0, 0.9])
    light = (ambience.gain * (1 - 0.25 * ambience.wet) + beam * warm * (1 - 0.35 * ambience.wet)) * through
    sheen = ambience.wet * 0.5 / (1 + (9.0 / np.maximum(depth, 1.0)) ** 2)[..., None]
    veil = ambience.fog_colour * (1 - through) + ambience.sky_low * sheen * through
    sharp = np.broadcast_to(1 / (1 + (depth / 26.0) ** 2), (rows, camera.width_px)) * (1 - 0.4 * ambience.wet)
    return GroundMaps(_bytes(light * UNIT), _bytes(veil), _bytes(sharp * 255), _bytes((1 - sharp) * 128))


def _bytes(values: Floats) -> Image:
    return np.ascontiguousarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


class GroundPainter:
    """Paints one scene's ground into one camera's image.

    Args:
        scene: what is there.
        camera: the camera, dipped as the body is.
        image: uint8 [H, W, 3].
        ids: uint8 [H, W] id buffer.
    """

    def __init__(self, scene: Scene, camera: Camera, image: Image, ids: Image) -> None:
        self.scene, self.camera, self.image, self.ids = scene, camera, image, ids
        self.course: Course = scene.course
        turned = abs(camera.yaw_rad)
        behind = 16.0 if turned < 0.3 else 150.0
        ahead = 400.0 if turned < 0.3 else 200.0 if turned < 1.3 else 30.0
        self.span = (scene.ego.s_m - behind, min(scene.ego.s_m + ahead, self.course.length_m - 2))
        self.near = camera.ground_near_m

    def paint(self, maps: GroundMaps, horizon: int, shadows: list[Floats]) -> None:
        """All of the ground.

        Args:
            maps: of this camera and ambience.
            horizon: first row of the ground.
            shadows: polygons [N, 2] of cast shadows in the vehicle frame.
        """
        first = max(horizon, 0)
        if first >= self.image.shape[0]:
            return
        rows = self.image[first:]
        rows[:] = self.scene.ground.terrain
        self._surfaces()
        self._paint_marks()
        self._light(rows, maps, first, max(-horizon, 0), shadows)

    def _camera_points(self, s: Floats, d: Floats) -> Floats:
        world = self.course.points(s, d)
        flat = self.scene.ego.to_vehicle(world)
        return self.camera.in_camera(np.concatenate([flat, np.zeros((*flat.shape[:-1], 1))], axis=-1))

    def _polygon(self, points: Floats) -> npt.NDArray[np.int32] | None:
        """Pixels of a polygon of C in fixed point, clipped; None where it is not seen."""
        clipped = clip_near(points, self.near)
        if len(clipped) < 3:
            return None
        return fixed_point(self.camera.pixels(clipped))

    def _fill(self, polygon: npt.NDArray[np.int32] | None, colour: Floats, road: bool = False) -> None:
        if polygon is None:
            return
        cv2.fillPoly(self.image, [polygon], as_scalar(colour), cv2.LINE_AA, SHIFT)
        if road:
            cv2.fillPoly(self.ids, [polygon], ROAD_ID, cv2.LINE_8, SHIFT)

    def _surfaces(self) -> None:
        layout, style = self.course.layout, self.scene.ground
        near_s, far_s = self.span
        centre = self.scene.ego.s_m
        steps = np.concatenate([-np.geomspace(150, 3, 22), np.linspace(0, 30, 11), np.geomspace(34, 400, 28)])
        s = centre + steps[(steps > near_s - centre - 1) & (steps < far_s - centre)]
        left, right = layout.surface
        edges = [left, right, left + layout.sidewalk_m, right - layout.sidewalk_m, left + 0.16, right - 0.16]
        edges += list(layout.other) if layout.other else []
        edges += [d + w / 2 for d, w in style.seams] + [d - w / 2 for d, w in style.seams]
        grid = self._camera_points(s[:, None], np.array(edges)[None])

        def strip(a: int, b: int, until: int | None = None) -> npt.NDArray[np.int32] | None:
            return self._polygon(np.concatenate([grid[:until, a], grid[:until, b][::-1]]))

        if layout.sidewalk_m:
            self._fill(strip(2, 3), style.sidewalk)
            self._fill(strip(4, 5), style.sidewalk * 1.12)
        if layout.other:
            self._fill(strip(6, 7), style.asphalt * 1.03)
        self._side_streets()
        self._fill(strip(0, 1), style.asphalt, road=True)
        count = len(style.seams)
        reach = int(np.searchsorted(s, centre + 38))
        for i in range(count):
            self._fill(strip(len(edges) - 2 * count + i, len(edges) - count + i, reach), style.asphalt * 0.62)
        self._patches()

    def _side_streets(self) -> None:
        left, right = self.course.layout.surface
        for j in self.course.junctions:
            if self.span[0] < j.s_m < min(self.span[1], self.scene.ego.s_m + 180):
                half = j.width_m / 2
                for near, far in ((left - 0.3, left + 60), (right + 0.3, right - 60)):
                    # straight, as the street is, whatever the road's curvature
                    base = self.course.points(
                        np.array([j.s_m - half - 2.5, j.s_m + half + 2.5, j.s_m - half, j.s_m + half]), np.array(near)
                    )
                    _, _, heading, _ = self.course.at(np.array(j.s_m))
                    out = np.array([-np.sin(heading), np.cos(heading)])
                    bend = base[2:] + out * np.sign(far) * 2.8
                    tip = bend + out * (far - near)
                    ring = np.stack([base[0], bend[0], tip[0], tip[1], bend[1], base[1]])
                    flat = self.scene.ego.to_vehicle(np.concatenate([ring, np.zeros((6, 1))], axis=1))
                    self._fill(self._polygon(self.camera.in_camera(flat)), self.scene.ground.asphalt * 0.97, road=True)

    def _patches(self) -> None:
        ego_s = self.scene.ego.s_m
        for s, d, long, wide, dark in self.scene.ground.patches:
            if self.span[0] < s < min(ego_s + 70, self.span[1]):
                along = np.array([s, s + long / 2, s + long, s + long, s + long / 2, s])
                points = self._camera_points(along, np.array([d, d, d, d + wide, d + wide, d + wide]))
                self._fill(self._polygon(points), self.scene.ground.asphalt * dark)

    def _paint_marks(self) -> None:
        """All paint as quads, by brightness level, drawn in one call a level."""
        ego_s, style = self.scene.ego.s_m, self.scene.ground
        low, high = max(self.span[0], 0.0), min(self.span[1], ego_s + 130)
        marks = [*self._lines(low, high), *self._across(low, high)]
        s = np.concatenate([mark[0] for mark in marks])
        d = np.concatenate([mark[1] for mark in marks])
        wear = np.concatenate([mark[2] for mark in marks])
        yellow = np.concatenate([mark[3] for mark in marks])
        points = self._camera_points(s, d)
        whole = (points[..., 2] > self.near).all(axis=1)
        cut = ~whole & (points[..., 2] > self.near).any(axis=1)
        pixels = self.camera.pixels(np.where(whole[:, None, None], points, 1.0))
        # paint narrower than a pixel covers only part of it
        thin = np.clip(np.linalg.norm(pixels[:, 0] - pixels[:, 3], axis=1) / 1.3, 0.15, 1.0)
        wide = np.abs(d[:, 0] - d[:, 3]) > 0.4
        level = np.round((1 - wear) * np.where(wide | ~whole, 1.0, thin) * LEVELS).astype(int)
        fixed = fixed_point(pixels)
        white, gold = np.full(3, 235.0) * style.paint, np.array([225.0, 180, 60]) * style.paint
        for k in range(1, LEVELS + 1):
            for is_yellow, colour in ((False, white), (True, gold)):
                chosen = (level == k) & (yellow == is_yellow)
                polygons = list(fixed[chosen & whole])
                polygons += [p for p in map(self._polygon, points[chosen & cut]) if p is not None]
                if polygons:
                    shade = style.asphalt + (colour - style.asphalt) * k / LEVELS
                    cv2.fillPoly(self.image, polygons, as_scalar(shade), cv2.LINE_AA, SHIFT)

    def _lines(self, low: float, high: float) -> list[tuple[Floats, Floats, Floats, Floats]]:
        """Quads (s [N, 4], d [N, 4], wear [N], yellow [N]) of the lane boundaries."""
        layout, style = self.course.layout, self.scene.ground
        boundaries = [(b.offset_m, b.type, b.yellow) for b in layout.boundaries if b.painted]
        if layout.other:
            wide = layout.other[0] - layout.other[1]
            boundaries += [(layout.other[1] + 0.8, LaneType.edge, False), (layout.other[0] - 1.7, LaneType.edge, False)]
            count = len([1 for _, way in layout.lanes if way < 0])
            step = (wide - 2.5) / count
            boundaries += [(layout.other[1] + 0.8 + step * (i + 1), LaneType.dashed, False) for i in range(count - 1)]
        marks = []
        for number, (offset, kind, yellow) in enumerate(boundaries):
            dash, gap = layout.dash_m if kind is LaneType.dashed else (5.0, 0.0)
            index = np.arange(int(low / (dash + gap)), int(high / (dash + gap)) + 1)
            start = index * (dash + gap)
            keep = np.ones(len(index), bool)
            for j in self.course.junctions:
                keep &= (start + dash < j.s_m - j.width_m / 2 - 6) | (start > j.s_m + j.width_m / 2 + 2)
            draw = uniform(2, np.uint64(style.seed + number), index.astype(np.uint64))
            wear = np.clip(
                style.wear + 0.5 * (draw[:, 0] - 0.5) * (style.wear + 0.1) + (draw[:, 1] < 0.08 * style.wear), 0, 1
            )
            wear, start = wear[keep], start[keep]
            half = 0.085 if layout.kind is Road.highway else 0.065
            for shift in (-0.17, 0.17) if kind is LaneType.double else (0.0,):
                s = np.stack([start, start + dash, start + dash, start], axis=1)
                d = np.broadcast_to(offset + shift + half * np.array([1.0, 1.0, -1.0, -1.0]), s.shape)
                marks.append((s, d, wear, np.full(len(start), float(yellow))))
        return marks

    def _across(self, low: float, high: float) -> list[tuple[Floats, Floats, Floats, Floats]]:
        """Zebra crossings, stop lines and arrows."""
        layout, style = self.course.layout, self.scene.ground
        left, right = layout.surface
        quads: list[tuple[float, float, float, float]] = []
        for c in self.course.crossings:
            if low < c < high - 40:
                quads += [(c - 1.5, c + 1.5, d, d + 0.5) for d in np.arange(right + 0.5, left - 0.5, 1.0)]
        ends = [d for d, way in layout.lanes if way > 0]
        width = abs(layout.lanes[0][0] - layout.lanes[1][0]) if len(ends) > 1 else 3.0
        for j in self.course.junctions:
            line = stop_line(j)
            if low < line < high - 50:
                quads.append((line + 0.6, line + 1.0, min(ends) - width / 2 + 0.2, max(ends) + width / 2 - 0.2))
                for d in ends:
                    quads += [(line - 12, line - 9, d - 0.08, d + 0.08)]
                    quads += [
                        (line - 9.0 + 0.25 * i, line - 8.75 + 0.25 * i, d - 0.32 + 0.08 * i, d + 0.32 - 0.08 * i)
                        for i in range(4)
                    ]
        if not quads:
            return []
        a, b, c0, c1 = np.array(quads).T
        s, d = np.stack([a, b, b, a], axis=1), np.stack([c1, c1, c0, c0], axis=1)
        return [(s, d, np.full(len(a), style.wear * 0.8), np.zeros(len(a)))]

    def _light(self, rows: Image, maps: GroundMaps, first: int, skip: int, shadows: list[Floats]) -> None:
        height, width = rows.shape[:2]
        part = slice(skip, skip + height)
        texture = self._texture(width, height, first)
        texture = cv2.add(cv2.multiply(texture, maps.sharp[part], scale=1 / 255), maps.flat[part])
        ambience = self.scene.ambience
        mask = np.full((height, width), 255, np.uint8)
        dark = 255 * (1 - max(ambience.shadow, 0.45 if ambience.beam == 0 else 0.3))
        for polygon in shadows:
            flat = np.concatenate([polygon, np.zeros((len(polygon), 1))], axis=1)
            pixels = self._polygon(self.camera.in_camera(flat))
            if pixels is not None:
                cv2.fillConvexPoly(mask, pixels - np.array([0, first << SHIFT], np.int32), dark, cv2.LINE_AA, SHIFT)
        texture = cv2.multiply(texture, cv2.blur(mask, (3, 3)), scale=1 / 255)
        cv2.multiply(rows, cv2.cvtColor(texture, cv2.COLOR_GRAY2BGR), dst=rows, scale=1 / 128)
        cv2.multiply(rows, maps.light[part], dst=rows, scale=1 / UNIT)
        cv2.add(rows, maps.veil[part], dst=rows)

    def _texture(self, width: int, height: int, first: int) -> Image:
        """The tiling ground texture as the camera sees it on the flat ground: one homography."""
        camera, ego = self.camera, self.scene.ego
        inverse = np.array(
            [[1 / camera.fx, 0, -camera.cx / camera.fx], [0, 1 / camera.fy, -camera.cy / camera.fy], [0, 0, 1]]
        )
        ray = camera.rotation @ inverse @ np.array([[1.0, 0, 0.5], [0, 1.0, first + 0.5], [0, 0, 1]])
        x, y, z = camera.position_m
        vehicle = np.stack([x * ray[2] - z * ray[0], y * ray[2] - z * ray[1], ray[2]])
        size = len(self.scene.look.ground)
        c, s = np.cos(ego.heading) * TEXELS_PER_M, np.sin(ego.heading) * TEXELS_PER_M
        tile = [(p * TEXELS_PER_M) % size for p in (ego.x, ego.y)]
        world = np.array([[c, -s, tile[0]], [s, c, tile[1]], [0, 0, 1]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix = world @ vehicle
        return np.asarray(
            cv2.warpPerspective(
                self.scene.look.ground, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP
            )
        )


def fixed_point(pixels: Floats) -> npt.NDArray[np.int32]:
    """Pixels (centre of the first at 0.5) in the fixed point that cv2 takes (centre of the first at 0)."""
    return np.round((np.clip(pixels, -60000, 60000) - 0.5) * (1 << SHIFT)).astype(np.int32)
