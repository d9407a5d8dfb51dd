"""Paints the things of a scene, far to near, and keeps who covers whom in an id buffer."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avexp.world.camera import Camera, clip_near
from avexp.world.crowd import NEAR_M, SMALL_PX, Crowd, Gatherer, vehicle_poses, visible
from avexp.world.ground import SHIFT, fixed_point
from avexp.world.look import Image
from avexp.world.mesh import Code, Colour, Glow, Mesh
from avexp.world.scene import BRAKE_ON, HEAD_ON, TAIL_ON, Scene, Thing

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]
CLUTTER_ID, LAMP_ID = 255, 254
"""What the id buffer holds where things without a label are seen: those with lamps are told from the rest."""
FIRST_ID = 2
SHADOW_REACH_M = 42.0


_LAMP_BITS: dict[int, int] = {Code.head: HEAD_ON, Code.tail: TAIL_ON | BRAKE_ON}


@dataclass(frozen=True, slots=True)
class Appearance:
    """How one labelled thing appears.

    Attributes:
        thing: it.
        box: x1, y1, x2, y2 of its silhouette, not clipped to the image [px].
        inside: the box of the part of the silhouette that lies in the image [px].
        mark: its number in the id buffer.
        silhouette_px: pixels that it covers in the image if nothing were before it.
        shown: contrast that light and fog leave it, 0..1.
    """

    thing: Thing
    box: Box
    inside: Box
    mark: int
    silhouette_px: int
    shown: float


@dataclass(frozen=True, slots=True)
class Halo:
    """A lamp's halo to be added at the end, where the id buffer still shows its thing: place, radius [px], colour."""

    x: float
    y: float
    radius: float
    colour: Colour
    mark: int


class ThingPainter:
    """Paints one scene's things into one camera's image.

    Args:
        scene: what is there.
        camera: the camera, dipped as the body is.
        image: uint8 [H, W, 3].
        ids: uint8 [H, W] id buffer.
        facades: pictures of house fronts in the scene's light.
    """

    def __init__(self, scene: Scene, camera: Camera, image: Image, ids: Image, facades: dict[str, Image]) -> None:
        self.scene, self.camera, self.image, self.ids, self.facades = scene, camera, image, ids, facades
        self.appearances: list[Appearance] = []
        self.halos: list[Halo] = []
        self._poses = vehicle_poses(scene)
        self._index = visible(scene, camera, self._poses)
        self._veil = float(scene.ambience.fog_colour.mean())
        self._dark = 1.0 - 0.8 * min(1.0, float(scene.ambience.gain.mean()))

    def shadows(self) -> tuple[Floats, list[Floats]]:
        """Ground that things darken, in the vehicle frame: footprints [N, 4, 2], and cast shadows, each [M, 2]."""
        scene = self.scene
        ambience = scene.ambience
        c, s = np.cos(scene.ego.heading), np.sin(scene.ego.heading)
        sun = ambience.sun
        slant = np.array([c * sun[0] + s * sun[1], -s * sun[0] + c * sun[1]]) / max(sun[2], 0.15)
        near = self._index[np.abs(self._poses[self._index, 0]) < SHADOW_REACH_M]
        solid = np.array([i for i in near if scene.things[i].size_m[0] > 0 and scene.things[i].base_m == 0], np.int64)
        half = np.array([scene.things[i].size_m for i in solid]).reshape(-1, 3) / 2 * 0.98
        yaw = self._poses[solid, 2]
        corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])[None] * half[:, None, :2]
        cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        turned = [cos * corner[..., 0] - sin * corner[..., 1], sin * corner[..., 0] + cos * corner[..., 1]]
        feet = np.stack(turned, axis=-1) + self._poses[solid, None, :2]
        if ambience.shadow == 0:
            return feet, []
        cast = feet - slant * (half[:, 2] * 1.8)[:, None, None]
        both = np.concatenate([feet, cast], axis=1).astype(np.float32)
        shades = [cv2.convexHull(pair)[:, 0].astype(np.float64) for pair in both]
        for i in near:
            if scene.things[i].mesh.sprite is not None:
                shades += _tree_shadow(scene.things[i].mesh, self._poses[i, :2], slant)
        return feet, shades

    def paint(self) -> None:
        """Paint all things; fills ``appearances`` and ``halos``."""
        if len(self._index) == 0:
            return
        crowd = Gatherer(self.scene, self.camera, self._poses, self._index).crowd()
        mark = FIRST_ID
        for i in crowd.order:
            thing, mesh = crowd.things[i], crowd.meshes[i]
            labelled = thing.category is not None and mark < LAMP_ID
            number = mark if labelled else LAMP_ID if mesh.glows else CLUTTER_ID
            x1, y1, x2, y2 = crowd.boxes[i]
            box: Box | None = (x1, y1, x2, y2)
            if crowd.behind[i]:
                box = self._paint_cut(crowd, i, number)
            elif mesh.sprite is not None:
                self._paint_sprite(crowd, i, mesh.sprite)
            else:
                self._paint_whole(crowd, i, number)
            if box is not None and labelled:
                mark += self._note(crowd, i, box, number)
            for glow in mesh.glows:
                if thing.lamps or glow.code == Code.lit:
                    self._halo(crowd, i, glow, number)

    def _paint_whole(self, crowd: Crowd, i: int, number: int) -> None:
        image, colours, corners = self.image, crowd.colours, crowd.corners
        first, end = crowd.face_at[i], crowd.face_at[i + 1]
        for f in range(first, end):
            cv2.fillConvexPoly(image, corners[f], colours[f], cv2.LINE_AA, SHIFT)
        if crowd.meshes[i].facade is not None:
            self._paint_facade(crowd, i)
        x1, y1, x2, y2 = crowd.boxes[i]
        small = y2 - y1 < SMALL_PX and (end > first or number < LAMP_ID)
        if small:
            cv2.rectangle(self.ids, (int(x1 + 0.5), int(y1 + 0.5)), (int(x2 - 0.5), int(y2 - 0.5)), number, -1)
        elif end > first:
            at, mesh = crowd.vertex_at[i], crowd.meshes[i]
            points = crowd.fixed[mesh.outline + at] if len(mesh.sticks) else crowd.fixed[at : crowd.vertex_at[i + 1]]
            cv2.fillConvexPoly(self.ids, cv2.convexHull(points), number, cv2.LINE_8, SHIFT)
        if crowd.stick_at[i + 1] > crowd.stick_at[i]:
            self._paint_sticks(crowd, i, number, small)

    def _paint_facade(self, crowd: Crowd, i: int) -> None:
        """A picture on an upright plane: the plane's homography, cut to what lies before the camera."""
        at = crowd.vertex_at[i]
        corners = crowd.points[at : at + 4]
        picture = self.facades[crowd.meshes[i].facade or ""]
        (ax, _, az), (bx, _, bz) = corners[:2].tolist()
        if ax * bz - az * bx > 0:
            return  # seen from behind
        cut = crowd.behind[i]
        shape = self.camera.pixels(clip_near(corners, NEAR_M)) if cut else crowd.pixels[at : at + 4]
        (x1, y1), (x2, y2) = shape.min(axis=0).tolist(), shape.max(axis=0).tolist()
        left, right = max(int(x1), 0), min(int(x2) + 1, self.camera.width_px)
        top, bottom = max(int(y1), 0), min(int(y2) + 1, self.camera.height_px)
        if right <= left or bottom <= top:
            return
        through = float(crowd.through[i])
        veil = self._veil * (1 - through)
        fixed = (
            fixed_point(shape - (left, top)) if cut else crowd.fixed[at : at + 4] - ((left << SHIFT), (top << SHIFT))
        )
        if x2 - x1 < 14:
            mean = picture[:, picture.shape[1] // 2].mean(axis=0) * through + veil
            cv2.fillConvexPoly(self.image[top:bottom, left:right], fixed, mean.tolist(), cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(self.ids[top:bottom, left:right], fixed, CLUTTER_ID, cv2.LINE_8, SHIFT)
            return
        across, down = (corners[1] - corners[0]) / picture.shape[1], (corners[3] - corners[0]) / picture.shape[0]
        camera = self.camera
        # large fronts are drawn at half resolution: the picture has no finer detail
        step = 2 if right - left > 110 else 1
        shift_x, shift_y = left + step / 2, top + step / 2
        lens = np.array([[camera.fx, 0, camera.cx - shift_x], [0, camera.fy, camera.cy - shift_y], [0, 0, step]])
        matrix = np.linalg.inv(lens @ np.stack([across, down, corners[0]], axis=1))
        size = (right - left, bottom - top)
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if x2 - x1 > 70 else cv2.INTER_NEAREST)
        small = (-(-size[0] // step), -(-size[1] // step))
        patch = cv2.warpPerspective(picture, matrix, small, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        cv2.convertScaleAbs(patch, dst=patch, alpha=through, beta=veil)
        if step > 1:
            patch = cv2.resize(patch, size, interpolation=cv2.INTER_LINEAR)
        mask = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_8, SHIFT)
        cv2.copyTo(patch, mask, self.image[top:bottom, left:right])
        cv2.max(self.ids[top:bottom, left:right], mask, dst=self.ids[top:bottom, left:right])

    def _paint_sticks(self, crowd: Crowd, i: int, number: int, small: bool = False) -> None:
        image, ids = self.image, self.ids
        for start, end, thick, colour in crowd.sticks[crowd.stick_at[i] : crowd.stick_at[i + 1]]:
            if start == end:
                cv2.circle(image, start, thick * 8, colour, -1, cv2.LINE_AA, SHIFT)
                if not small:
                    cv2.circle(ids, start, thick * 8, number, -1, cv2.LINE_8, SHIFT)
            else:
                cv2.line(image, start, end, colour, thick, cv2.LINE_AA, SHIFT)
                if not small and (thick > 1 or number < LAMP_ID):
                    cv2.line(ids, start, end, number, thick, cv2.LINE_8, SHIFT)

    def _paint_cut(self, crowd: Crowd, i: int, number: int) -> Box | None:
        """Paint a thing that reaches behind the camera: each face is clipped."""
        parts = []
        at = crowd.vertex_at[i]
        for f in range(crowd.face_at[i], crowd.face_at[i + 1]):
            clipped = clip_near(crowd.points[crowd.faces[f]], NEAR_M)
            if len(clipped) < 3:
                continue
            pixels = self.camera.pixels(clipped)
            fixed = fixed_point(pixels)
            cv2.fillConvexPoly(self.image, fixed, crowd.colours[f], cv2.LINE_AA, SHIFT)
            cv2.fillConvexPoly(self.ids, fixed, number, cv2.LINE_8, SHIFT)
            parts.append(pixels)
        if crowd.meshes[i].facade is not None:
            self._paint_facade(crowd, i)
        self._paint_sticks(crowd, i, number)
        ahead = crowd.points[at : crowd.vertex_at[i + 1], 2] > NEAR_M
        if ahead.any():
            parts.append(crowd.pixels[at : crowd.vertex_at[i + 1]][ahead])
        if not parts:
            return None
        every = np.concatenate(parts)
        (x1, y1), (x2, y2) = every.min(axis=0).tolist(), every.max(axis=0).tolist()
        return x1, y1, x2, y2

    def _paint_sprite(self, crowd: Crowd, i: int, sprite: tuple[str, float, float]) -> None:
        name, width_m, _ = sprite
        at = crowd.vertex_at[i]
        (base_x, base_y), (_, top_y) = crowd.pixels[at : at + 2].tolist()
        wide = width_m * self.camera.fx / float(crowd.points[at, 2])
        tall = base_y - top_y
        x1, x2 = base_x - wide / 2, base_x + wide / 2
        left, right = max(int(x1), 0), min(int(x2) + 1, self.camera.width_px)
        upper, lower = max(int(top_y), 0), min(int(base_y) + 1, self.camera.height_px)
        if right - left < 1 or lower - upper < 1 or tall < 2.0:
            return
        pyramid = self.scene.look.sprites[name]
        level = 0
        while level + 1 < len(pyramid) and pyramid[level][0].shape[0] > 1.8 * tall:
            level += 1
        picture, solid = pyramid[level]
        scale_x, scale_y = picture.shape[1] / wide, picture.shape[0] / tall
        matrix = np.array([[scale_x, 0, (left - x1) * scale_x], [0, scale_y, (upper - top_y) * scale_y]])
        size = (right - left, lower - upper)
        if x1 >= 0 and x2 < self.camera.width_px and top_y >= 0 and base_y < self.camera.height_px:
            colour = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
            mask = cv2.resize(solid, size, interpolation=cv2.INTER_NEAREST)
        else:
            colour = cv2.warpAffine(picture, matrix, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
            mask = cv2.warpAffine(solid, matrix, size, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST)
        light, through = float(crowd.light[i].sum()) / 3, float(crowd.through[i])
        veil = self._veil * (1 - through)
        cv2.convertScaleAbs(colour, dst=colour, alpha=light * through, beta=veil)
        cv2.copyTo(colour, mask, self.image[upper:lower, left:right])
        cv2.max(self.ids[upper:lower, left:right], mask, dst=self.ids[upper:lower, left:right])

    def _note(self, crowd: Crowd, i: int, box: Box, number: int) -> int:
        """Record how a labelled thing appears; 1 where it is in the image."""
        x1, y1, x2, y2 = box
        top, bottom = max(int(y1) - 1, 0), min(int(y2) + 2, self.camera.height_px)
        left, right = max(int(x1) - 1, 0), min(int(x2) + 2, self.camera.width_px)
        if bottom <= top or right <= left:
            return 0
        inside = box
        if min(x1, y1) < 0 or x2 > self.camera.width_px or y2 > self.camera.height_px:
            # what of it is in the image need not reach as far as what is outside of it
            mask = cv2.compare(self.ids[top:bottom, left:right], number, cv2.CMP_EQ)
            silhouette = cv2.countNonZero(mask)
            x, y, wide, high = cv2.boundingRect(mask)
            inside = (left + x, top + y, left + x + wide, top + y + high)
        else:
            # what is too small to count needs no share of occlusion
            small = bottom - top < 10
            silhouette = 0 if small else int(np.count_nonzero(self.ids[top:bottom, left:right] == number))
        thing = crowd.things[i]
        shining = thing.state not in (None, "off") or thing.lamps
        bright = 1.0 if shining else min(1.0, float(crowd.light[i].max()) / 0.12)
        self.appearances.append(Appearance(thing, box, inside, number, silhouette, bright * float(crowd.through[i])))
        return 1

    def _halo(self, crowd: Crowd, i: int, glow: Glow, number: int) -> None:
        thing, at = crowd.things[i], crowd.vertex_at[i] + glow.vertex
        bits = _LAMP_BITS.get(glow.code, 0)
        depth = float(crowd.points[at, 2])
        x, y = crowd.pixels[at].tolist()
        inside = 0 <= x < self.camera.width_px and 0 <= y < self.camera.height_px
        if (bits and not thing.lamps & bits) or depth < 1.0 or not inside:
            return
        ego = self.scene.ego
        dx, dy = ego.x - thing.x, ego.y - thing.y
        away = (math.cos(thing.yaw) * dx + math.sin(thing.yaw) * dy) / max(math.hypot(dx, dy), 1.0)
        strength = max(0.0, glow.facing * away) if glow.facing else 0.6
        if strength < 0.1:
            return
        brake = 1.5 if glow.code == Code.tail and thing.lamps & BRAKE_ON else 1.0
        radius = glow.radius_m * self.camera.fx / depth + 2.0
        gain = strength * self._dark * brake * float(crowd.through[i])
        red, green, blue = glow.colour
        self.halos.append(Halo(x, y, radius, (red * gain, green * gain, blue * gain), number))


def _tree_shadow(mesh: Mesh, foot: Floats, slant: Floats) -> list[Floats]:
    """A stroke for the trunk and blobs for the crown."""
    if mesh.sprite is None or mesh.sprite[2] < 3:
        return []
    _, wide, tall = mesh.sprite
    across = np.array([-slant[1], slant[0]]) / max(float(np.hypot(*slant)), 1e-6) * 0.15
    tip = foot - slant * tall * 0.4
    angles = np.arange(8) * np.pi / 4
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    crown = foot - slant * tall * 0.65
    blobs = [crown + wide * (k * circle + shift) for k, shift in ((0.3, 0.1), (0.26, -0.14))]
    return [np.stack([foot - across, foot + across, tip + across, tip - across]), *blobs]
