"""Paints the ground of a scene: terrain, road, side streets, paint, seams, shadows, and the light on all of it."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avexp.world.ambience import Ambience
from avexp.world.camera import Camera, clip_near
from avexp.world.course import Course
from avexp.world.look import TEXELS_PER_M, Image, as_scalar
from avexp.world.scene import Scene

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
ROAD_ID = 1
"""What the id buffer holds where the drivable surface is seen."""
UNIT = 200.0
"""Grey level of the light maps that stands for brightness 1."""
SHIFT = 4
LEVELS = 5


MOST_DIP_RAD = 0.08
"""The body dips no further: so many rows more come into view."""


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
    rows = camera.height_px - int(camera.horizon_px) + max(24, int(np.ceil(MOST_DIP_RAD * camera.fy)))
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


_STEPS = np.concatenate(
    [-np.geomspace(150, 9, 14), np.linspace(-8, 10, 46), np.linspace(11, 31, 11), np.geomspace(34, 400, 26)]
)
"""Where the road's edges are sampled, from the car [m]: densely where the image's lower border cuts them."""


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
        self.seen_from = self.near / 0.7

    def paint(self, maps: GroundMaps, horizon: int, shadows: tuple[Floats, list[Floats]]) -> None:
        """All of the ground.

        Args:
            maps: of this camera and ambience.
            horizon: first row of the ground.
            shadows: footprints [N, 4, 2] and cast shadows, each [M, 2], in the vehicle frame.
        """
        first = max(horizon, 0)
        if first >= self.image.shape[0]:
            return
        rows = self.image[first:]
        size = (self.image.shape[1], self.image.shape[0])
        cv2.rectangle(self.image, (0, first), size, as_scalar(self.scene.ground.terrain), -1)
        self._surfaces()
        self._paint_marks()
        self._light(rows, maps, first, max(-horizon, 0), shadows)

    def _camera_points(self, s: Floats, d: Floats) -> Floats:
        world = self.course.points(s, d)
        flat = self.scene.ego.to_vehicle(world)
        return self.camera.in_camera(np.concatenate([flat, np.zeros((*flat.shape[:-1], 1))], axis=-1))

    def _polygon(self, points: Floats) -> npt.NDArray[np.int32] | None:
        """Pixels of a polygon of C in fixed point, clipped; None where it is not seen."""
        if points[:, 2].max() < self.seen_from:
            return None
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
        s = centre + _STEPS[(near_s - centre - 1 < _STEPS) & (far_s - centre > _STEPS)]
        left, right = layout.surface
        edges = [left, right, left + layout.sidewalk_m, right - layout.sidewalk_m, left + 0.16, right - 0.16]
        edges += list(layout.other) if layout.other else []
        edges += [d + w / 2 for d, w in style.seams] + [d - w / 2 for d, w in style.seams]
        grid = self._camera_points(s[:, None], np.array(edges)[None])
        ahead = np.asarray((grid[..., 2] > self.near).all(axis=1))
        first = int(np.argmax(ahead))
        # rows of the grid that begin below the image need no clipping
        whole = bool(ahead[first:].all()) and bool(grid[first, :, 2].max() < self.seen_from)
        grid, s = (grid[first:], s[first:]) if whole else (grid, s)
        fixed = fixed_point(self.camera.pixels(grid)) if whole else None

        def strip(a: int, b: int, until: int | None = None) -> npt.NDArray[np.int32] | None:
            if fixed is not None:
                return np.concatenate([fixed[:until, a], fixed[:until, b][::-1]])
            return self._polygon(np.concatenate([grid[:until, a], grid[:until, b][::-1]]))

        if layout.sidewalk_m:
            self._fill(strip(2, 3), style.sidewalk)
            self._fill(strip(4, 5), style.sidewalk * 1.12)
        if layout.other:
            self._fill(strip(6, 7), style.asphalt * 1.03)
        self._paint_blots(street=True)
        self._fill(strip(0, 1), style.asphalt, road=True)
        count = len(style.seams)
        reach = int(np.searchsorted(s, centre + 38))
        for i in range(count):
            self._fill(strip(len(edges) - 2 * count + i, len(edges) - count + i, reach), style.asphalt * 0.62)
        self._paint_blots(street=False)

    def _paint_blots(self, street: bool) -> None:
        """Side streets, or repaired places."""
        blots, ego_s = self.scene.ground.blots, self.scene.ego.s_m
        low, high = max(self.span[0], ego_s - 60), min(self.span[1], ego_s + (150 if street else 60))
        a, b = np.searchsorted(blots.s_m, (low, high))
        chosen = a + np.flatnonzero(blots.street[a:b] == street)
        if len(chosen) == 0:
            return
        flat = self.scene.ego.to_vehicle(blots.corners[chosen])
        points = self.camera.in_camera(np.concatenate([flat, np.zeros((*flat.shape[:-1], 1))], axis=-1))
        depth = points[..., 2]
        whole = np.asarray((depth > self.near).all(axis=1)).tolist()
        fixed = fixed_point(self.camera.pixels(np.maximum(points, [-1e9, -1e9, self.near])))
        for row, i in enumerate(chosen.tolist()):
            polygon = fixed[row] if whole[row] else self._polygon(points[row])
            self._fill(polygon, self.scene.ground.asphalt * blots.shade[i], road=street)

    def _paint_marks(self) -> None:
        """All paint as quads, by brightness level, drawn in one call a level."""
        style = self.scene.ground
        near, far = max(self.span[0], self.scene.ego.s_m - 60), min(self.span[1], self.scene.ego.s_m + 130)
        part = style.marks.between(near, far)
        flat = self.scene.ego.to_vehicle(style.marks.corners[part])
        points = self.camera.in_camera(np.concatenate([flat, np.zeros((*flat.shape[:-1], 1))], axis=-1))
        depth = points[..., 2]
        whole = np.asarray((depth > self.near).all(axis=1))
        cut = ~whole & np.asarray((depth > self.seen_from).any(axis=1))
        pixels = self.camera.pixels(np.maximum(points, [-1e9, -1e9, self.near]))
        # paint narrower than a pixel covers only part of it
        thin = np.clip(np.hypot(*(pixels[:, 0] - pixels[:, 3]).T) / 1.3, 0.15, 1.0)
        thin = np.where(style.marks.wide[part] | cut, 1.0, thin)
        level = np.ceil((1 - style.marks.wear[part]) * thin * LEVELS).astype(np.int64)
        level += np.where(style.marks.yellow[part], LEVELS + 1, 0)
        fixed = fixed_point(pixels)
        white, gold = np.full(3, 235.0) * style.paint, np.array([225.0, 180, 60]) * style.paint
        for k in np.unique(level[whole | cut]).tolist():
            chosen = level == k
            polygons = list(fixed[chosen & whole])
            polygons += [p for p in map(self._polygon, points[chosen & cut]) if p is not None]
            share = k % (LEVELS + 1) / LEVELS
            shade = style.asphalt + ((gold if k > LEVELS else white) - style.asphalt) * share
            cv2.fillPoly(self.image, polygons, as_scalar(shade), cv2.LINE_AA, SHIFT)

    def _light(
        self, rows: Image, maps: GroundMaps, first: int, skip: int, shadows: tuple[Floats, list[Floats]]
    ) -> None:
        height, width = rows.shape[:2]
        part = slice(skip, skip + height)
        texture = self._texture(width, height, first)
        texture = cv2.add(cv2.multiply(texture, maps.sharp[part], scale=1 / 255), maps.flat[part])
        texture = cv2.multiply(texture, self._shadow_mask(width, height, first, *shadows), scale=1 / 255)
        cv2.multiply(rows, cv2.cvtColor(texture, cv2.COLOR_GRAY2BGR), dst=rows, scale=1 / 128)
        cv2.multiply(rows, maps.light[part], dst=rows, scale=1 / UNIT)
        cv2.add(rows, maps.veil[part], dst=rows)

    def _shadow_mask(self, width: int, height: int, first: int, feet: Floats, shades: list[Floats]) -> Image:
        """uint8 [height, width], 255 where no shadow falls."""
        mask = np.full((height, width), 255, np.uint8)
        polygons = [*shades, *feet]
        if not polygons:
            return mask
        ambience = self.scene.ambience
        cast, contact = 255 * (1 - ambience.shadow), 255 * (0.42 if ambience.beam < 1 else 0.7)
        every = np.concatenate(polygons)
        points = self.camera.in_camera(np.concatenate([every, np.zeros((len(every), 1))], axis=1))
        fixed = fixed_point(self.camera.pixels(np.maximum(points, [-1e9, -1e9, self.near])))
        fixed[:, 1] -= first << SHIFT
        ahead = (points[:, 2] >= self.near).tolist()
        at = 0
        for number, polygon in enumerate(polygons):
            end = at + len(polygon)
            dark = cast if number < len(shades) else contact
            if all(ahead[at:end]):
                cv2.fillConvexPoly(mask, fixed[at:end], dark, cv2.LINE_AA, SHIFT)
            elif (pixels := self._polygon(points[at:end])) is not None:
                cv2.fillConvexPoly(mask, pixels - np.array([0, first << SHIFT], np.int32), dark, cv2.LINE_AA, SHIFT)
            at = end
        return np.asarray(cv2.blur(mask, (3, 3)))

    def _texture(self, width: int, height: int, first: int) -> Image:
        """The tiling ground texture as the camera sees it on the flat ground: one homography, at half resolution."""
        camera, ego = self.camera, self.scene.ego
        x_px, y_px = 1 / camera.fx, 1 / camera.fy
        inverse = np.array([[x_px, 0, -camera.cx * x_px], [0, y_px, -camera.cy * y_px], [0, 0, 1]])
        ray = camera.rotation @ inverse @ np.array([[2.0, 0, 1.0], [0, 2.0, first + 1.0], [0, 0, 1]])
        x, y, z = camera.position_m
        vehicle = np.stack([x * ray[2] - z * ray[0], y * ray[2] - z * ray[1], ray[2]])
        size = len(self.scene.look.ground)
        c, s = np.cos(ego.heading) * TEXELS_PER_M, np.sin(ego.heading) * TEXELS_PER_M
        tile = [(p * TEXELS_PER_M) % size for p in (ego.x, ego.y)]
        matrix = np.array([[c, -s, tile[0]], [s, c, tile[1]], [0, 0, 1]]) @ vehicle
        small = cv2.warpPerspective(
            self.scene.look.ground,
            matrix,
            ((width + 1) // 2, (height + 1) // 2),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def fixed_point(pixels: Floats) -> npt.NDArray[np.int32]:
    """Pixels (centre of the first at 0.5) in the fixed point that cv2 takes (centre of the first at 0)."""
    return np.round((np.clip(pixels, -60000, 60000) - 0.5) * (1 << SHIFT)).astype(np.int32)
