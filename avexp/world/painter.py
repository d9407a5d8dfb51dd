"""Paints the things of a scene, far to near, and keeps who covers whom in an id buffer."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from avexp.world.ambience import Ambience
from avexp.world.camera import Camera, clip_near
from avexp.world.ground import SHIFT, fixed_point
from avexp.world.look import Image, as_scalar
from avexp.world.mesh import Code, Mesh, Stick
from avexp.world.scene import BRAKE_ON, HEAD_ON, TAIL_ON, Scene, Thing

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
CLUTTER_ID = 255
FIRST_ID = 2
NEAR_M = 0.35
SMALL_PX = 15.0
"""Below this height the far shape of a thing is painted."""
_WARM = np.array([1.05, 1.0, 0.9])


@dataclass(frozen=True, slots=True)
class Appearance:
    """How one labelled thing appears.

    Attributes:
        thing: it.
        box: x1, y1, x2, y2 of its silhouette, not clipped to the image [px].
        mark: its number in the id buffer.
        silhouette_px: pixels that it covers in the image if nothing were before it.
        roi: rows and columns of the image that hold it.
        shown: contrast that light and fog leave it, 0..1.
    """

    thing: Thing
    box: tuple[float, float, float, float]
    mark: int
    silhouette_px: int
    roi: tuple[slice, slice]
    shown: float


@dataclass(frozen=True, slots=True)
class Halo:
    """A lamp's halo to be added at the end: place [px], radius [px], colour."""

    x: float
    y: float
    radius: float
    colour: Floats


@dataclass(slots=True)
class _Crowd:
    """All vertices and faces of the visible things in one array each; ``first`` [N + 1] and ``first_face`` [N + 1]."""

    things: list[Thing]
    meshes: list[Mesh]
    first: Ints
    first_face: Ints
    points: Floats
    fixed: npt.NDArray[np.int32]
    pixels: Floats
    corners: npt.NDArray[np.int32]
    colours: list[list[float]]
    seen: list[bool]
    faces: Ints
    light: Floats
    through: Floats
    behind: npt.NDArray[np.bool_]
    order: Ints
    spread: Floats


class ThingPainter:
    """Paints one scene's things into one camera's image.

    Args:
        scene: what is there.
        camera: the camera, dipped as the body is.
        image: uint8 [H, W, 3].
        ids: uint8 [H, W] id buffer.
    """

    def __init__(self, scene: Scene, camera: Camera, image: Image, ids: Image) -> None:
        self.scene, self.camera, self.image, self.ids = scene, camera, image, ids
        self.appearances: list[Appearance] = []
        self.halos: list[Halo] = []
        self._chosen = self._visible()

    def _visible(self) -> tuple[Ints, Floats]:
        """Indices of the things that can be seen, and all things' x, y, yaw in the vehicle frame."""
        scene, camera = self.scene, self.camera
        poses = scene.ego.to_vehicle(scene.poses)
        poses[:, 2] = scene.poses[:, 2] - scene.ego.heading
        centre = camera.in_camera(np.concatenate([poses[:, :2], np.full((len(poses), 1), 1.0)], axis=1))
        depth, reach = centre[:, 2], scene.reach
        half = camera.width_px / 2 / camera.fx
        outside = (np.abs(centre[:, 0]) - reach * 1.6) > np.maximum(depth + reach, 0) * half
        heights = np.array([thing.mesh.height_m for thing in scene.things])
        tiny = camera.fy * heights / np.maximum(depth, 1.0) < 1.6
        keep = (depth > NEAR_M - reach) & ~outside & ~tiny & (depth < 320)
        return np.flatnonzero(keep), poses

    def shadows(self) -> list[Floats]:
        """Ground polygons [N, 2] in the vehicle frame that vehicles and trees darken."""
        ambience = self.scene.ambience
        c, s = np.cos(self.scene.ego.heading), np.sin(self.scene.ego.heading)
        sun = ambience.sun
        slant = np.array([c * sun[0] + s * sun[1], -s * sun[0] + c * sun[1]]) / max(sun[2], 0.15)
        index, poses = self._chosen
        polygons: list[Floats] = []
        for i in index:
            thing, (x, y, yaw) = self.scene.things[i], poses[i]
            if abs(x) > 90:
                continue
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            if thing.size_m[0] > 0 and thing.base_m == 0:
                half = np.array(thing.size_m[:2]) / 2 * 0.98
                foot = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ turn + (x, y)
                polygons.append(foot)
                if ambience.shadow > 0:
                    cast = foot * 0.96 + (x * 0.04, y * 0.04) - slant * thing.size_m[2] * 0.9
                    polygons.append(
                        cv2.convexHull(np.concatenate([foot, cast]).astype(np.float32))[:, 0].astype(np.float64)
                    )
            elif thing.mesh.sprite is not None and ambience.shadow > 0:
                polygons += _tree_shadow(thing.mesh, np.array([x, y]), slant)
        return polygons

    def paint(self) -> None:
        """Paint all things; fills ``appearances`` and ``halos``."""
        if len(self._chosen[0]) == 0:
            return
        crowd = self._gather()
        mark = FIRST_ID
        for i in crowd.order:
            thing = crowd.things[i]
            labelled = thing.category is not None and mark < CLUTTER_ID
            number = mark if labelled else CLUTTER_ID
            box = self._paint_one(crowd, int(i), number)
            if box is None:
                continue
            if labelled:
                mark += self._note(crowd, int(i), box, number)
            for glow in crowd.meshes[i].glows:
                self._halo(crowd, int(i), glow.vertex, glow.radius_m, np.array(glow.colour), glow.code, glow.facing)

    def _gather(self) -> _Crowd:
        index, all_poses = self._chosen
        poses = all_poses[index]
        things = [self.scene.things[i] for i in index]
        depth = self.camera.in_camera(np.concatenate([poses[:, :2], np.zeros((len(poses), 1))], axis=1))[:, 2]
        meshes = [
            t.mesh.far if t.mesh.far is not None and self.camera.fy * t.mesh.height_m < SMALL_PX * z else t.mesh
            for t, z in zip(things, depth, strict=True)
        ]
        counts = np.array([len(m.vertices) for m in meshes])
        first = np.concatenate([[0], np.cumsum(counts)])
        owner = np.repeat(np.arange(len(meshes)), counts)
        own = np.concatenate([m.vertices for m in meshes])
        cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        points = np.empty_like(own)
        points[:, 0] = poses[owner, 0] + cos[owner] * own[:, 0] - sin[owner] * own[:, 1]
        points[:, 1] = poses[owner, 1] + sin[owner] * own[:, 0] + cos[owner] * own[:, 1]
        points[:, 2] = own[:, 2]
        inside = self.camera.in_camera(points)
        z = inside[:, 2]
        safe = inside.copy()
        safe[:, 2] = np.maximum(z, NEAR_M)
        pixels = self.camera.pixels(safe)
        spread = np.concatenate([m.radii for m in meshes]) * self.camera.fx / safe[:, 2]
        behind = np.minimum.reduceat(z, first[:-1]) < NEAR_M
        farthest = np.maximum.reduceat(z, first[:-1])
        key = np.where([m.backdrop for m in meshes], farthest, depth)
        fixed = fixed_point(pixels)
        flipped = self._from_front(poses)
        faces = np.concatenate(
            [
                (m.faces[m.reverse] if flip else m.faces) + at
                for m, flip, at in zip(meshes, flipped, first, strict=False)
            ]
        )
        counts_f = np.array([len(m.faces) for m in meshes])
        face_owner = np.repeat(np.arange(len(meshes)), counts_f)
        colours, light, through = self._shade(things, meshes, flipped, poses, face_owner)
        corners = fixed[faces]
        seen = self._front_faces(pixels[faces]) | np.concatenate(
            [m.open[m.reverse] if f else m.open for m, f in zip(meshes, flipped, strict=True)]
        )
        return _Crowd(
            things, meshes, first, np.concatenate([[0], np.cumsum(counts_f)]), inside, fixed, pixels, corners,
            colours, seen.tolist(), faces, light, through, behind, np.argsort(-key, kind="stable"), spread,
        )  # fmt: skip

    def _from_front(self, poses: Floats) -> npt.NDArray[np.bool_]:
        """Whether the camera stands ahead of each thing's middle, in its own axes."""
        dx, dy = self.camera.position_m[0] - poses[:, 0], self.camera.position_m[1] - poses[:, 1]
        return np.asarray(np.cos(poses[:, 2]) * dx + np.sin(poses[:, 2]) * dy > 0)

    @staticmethod
    def _front_faces(corners: Floats) -> npt.NDArray[np.bool_]:
        """Whether each face [F, 8, 2] turns its outside to the camera: counter-clockwise, with y down."""
        after = np.roll(corners, -1, axis=1)
        area = (corners[..., 0] * after[..., 1] - after[..., 0] * corners[..., 1]).sum(axis=1)
        return np.asarray(area < 0)

    def _shade(
        self, things: list[Thing], meshes: list[Mesh], flipped: npt.NDArray[np.bool_], poses: Floats, owner: Ints
    ) -> tuple[list[list[float]], Floats, Floats]:
        """Colour of each face as seen; brightness [N, 3] and transmission [N] of each thing."""
        ambience = self.scene.ambience
        base = np.concatenate([m.colours[m.reverse] if f else m.colours for m, f in zip(meshes, flipped, strict=True)])
        normal = np.concatenate(
            [m.normals[m.reverse] if f else m.normals for m, f in zip(meshes, flipped, strict=True)]
        )
        codes = np.concatenate([m.codes[m.reverse] if f else m.codes for m, f in zip(meshes, flipped, strict=True)])
        through = np.exp(-ambience.fog_density_1pm * np.hypot(poses[:, 0], poses[:, 1]))
        beam = ambience.headlight(poses[:, 0], poses[:, 1])
        light = ambience.gain[None] + beam[:, None] * _WARM
        if len(base) == 0:
            return [], light, through
        cos, sin = np.cos(poses[:, 2])[owner], np.sin(poses[:, 2])[owner]
        nx, ny = cos * normal[:, 0] - sin * normal[:, 1], sin * normal[:, 0] + cos * normal[:, 1]
        shine = self._ambient_share(nx, ny, normal[:, 2], ambience)
        toward = np.clip(-nx, 0.12, 1.0)
        lit = base * (ambience.gain * shine[:, None] + (beam[owner] * toward)[:, None] * _WARM)
        lit[codes == Code.reflector] *= (1 + 3.5 * beam[owner])[codes == Code.reflector, None]
        lamps = np.array([t.lamps for t in things])[owner]
        for code, bit, colour in (
            (Code.head, HEAD_ON, (255, 252, 236)),
            (Code.tail, TAIL_ON, (205, 30, 26)),
            (Code.tail, BRAKE_ON, (255, 62, 48)),
        ):
            lit[(codes == code) & (lamps & bit > 0)] = colour
        always = codes == Code.lit
        lit[always] = base[always]
        if ambience.street:
            lit[codes == Code.window] = (214, 172, 104)
        t = through[owner][:, None]
        return np.clip(lit * t + ambience.fog_colour * (1 - t), 0, 255).tolist(), light, through

    def _ambient_share(self, nx: Floats, ny: Floats, nz: Floats, ambience: Ambience) -> Floats:
        """How bright a face is for its direction: open sky from above, and the sun from its side."""
        share = 0.72 + 0.2 * nz
        if ambience.shadow > 0:
            ego, sun = self.scene.ego, ambience.sun
            c, s = np.cos(ego.heading), np.sin(ego.heading)
            side = (c * sun[0] + s * sun[1]) * nx + (-s * sun[0] + c * sun[1]) * ny + sun[2] * nz
            share = share + 0.6 * ambience.shadow * np.maximum(side, 0)
        return np.asarray(share)

    def _paint_one(self, crowd: _Crowd, i: int, number: int) -> tuple[float, float, float, float] | None:
        """Paint a thing; its box, or None where it is not seen."""
        if crowd.behind[i]:
            return self._paint_cut(crowd, i, number)
        mesh, a, b = crowd.meshes[i], int(crowd.first[i]), int(crowd.first[i + 1])
        pixels, spread = crowd.pixels[a:b], crowd.spread[a:b, None]
        low, high = (pixels - spread).min(axis=0), (pixels + spread).max(axis=0)
        if mesh.sprite is not None:
            return self._paint_sprite(crowd, i, mesh.sprite, number)
        if high[0] < 0 or high[1] < 0 or low[0] > self.camera.width_px or low[1] > self.camera.height_px:
            return None
        f0, f1 = int(crowd.first_face[i]), int(crowd.first_face[i + 1])
        image, colours, seen, corners = self.image, crowd.colours, crowd.seen, crowd.corners
        for f in range(f0, f1):
            if seen[f]:
                cv2.fillConvexPoly(image, corners[f], colours[f], cv2.LINE_AA, SHIFT)
        if f1 > f0:
            hull = cv2.convexHull(crowd.fixed[np.unique(crowd.faces[f0:f1])])
            cv2.fillConvexPoly(self.ids, hull, number, cv2.LINE_8, SHIFT)
        if mesh.sticks:
            self._paint_sticks(crowd, i, mesh.sticks, number)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def _paint_sticks(self, crowd: _Crowd, i: int, sticks: tuple[Stick, ...], number: int) -> None:
        first = int(crowd.first[i])
        light, through = crowd.light[i] * 0.86, crowd.through[i]
        veil = self.scene.ambience.fog_colour * (1 - through)
        fixed = crowd.fixed
        depth = crowd.points[:, 2]
        for stick in sticks:
            a, b = first + stick.start, first + stick.end
            if depth[a] < NEAR_M or depth[b] < NEAR_M:
                continue
            base = np.array(stick.colour)
            colour = (base if stick.code == Code.lit else base * light) * through + veil
            paint = as_scalar(np.minimum(colour, 255))
            radius = stick.radius_m * self.camera.fx * 2 / (depth[a] + depth[b])
            thick = max(1, round(2 * radius))
            start, end = fixed[a].tolist(), fixed[b].tolist()
            if stick.start == stick.end:
                size = max(8, round(radius * 16))
                cv2.circle(self.image, start, size, paint, -1, cv2.LINE_AA, SHIFT)
                cv2.circle(self.ids, start, size, number, -1, cv2.LINE_8, SHIFT)
            else:
                cv2.line(self.image, start, end, paint, min(thick, 250), cv2.LINE_AA, SHIFT)
                cv2.line(self.ids, start, end, number, min(thick, 250), cv2.LINE_8, SHIFT)

    def _paint_cut(self, crowd: _Crowd, i: int, number: int) -> tuple[float, float, float, float] | None:
        """Paint a thing that reaches behind the camera: each face is clipped."""
        f0, f1 = int(crowd.first_face[i]), int(crowd.first_face[i + 1])
        parts = []
        for f in range(f0, f1):
            clipped = clip_near(crowd.points[crowd.faces[f]], NEAR_M)
            if len(clipped) < 3:
                continue
            pixels = self.camera.pixels(clipped)
            x, y = pixels[:, 0], pixels[:, 1]
            area = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
            if area < 0:
                fixed = fixed_point(pixels)
                cv2.fillConvexPoly(self.image, fixed, crowd.colours[f], cv2.LINE_AA, SHIFT)
                cv2.fillConvexPoly(self.ids, fixed, number, cv2.LINE_8, SHIFT)
            parts.append(pixels)
        if crowd.meshes[i].sticks:
            self._paint_sticks(crowd, i, crowd.meshes[i].sticks, number)
        if not parts:
            return None
        every = np.concatenate(parts)
        (x1, y1), (x2, y2) = every.min(axis=0), every.max(axis=0)
        return float(x1), float(y1), float(x2), float(y2)

    def _paint_sprite(
        self, crowd: _Crowd, i: int, sprite: tuple[str, float, float], number: int
    ) -> tuple[float, float, float, float] | None:
        name, width_m, _ = sprite
        base, top = crowd.pixels[crowd.first[i]], crowd.pixels[crowd.first[i] + 1]
        wide = width_m * self.camera.fx / crowd.points[crowd.first[i], 2]
        tall = float(base[1] - top[1])
        x1, x2, y1, y2 = base[0] - wide / 2, base[0] + wide / 2, top[1], base[1]
        left, right = max(int(x1), 0), min(int(np.ceil(x2)), self.camera.width_px)
        upper, lower = max(int(y1), 0), min(int(np.ceil(y2)), self.camera.height_px)
        if right - left < 1 or lower - upper < 1 or tall < 1.5:
            return None
        picture = self.scene.look.sprites[name]
        scale_x, scale_y = picture.shape[1] / wide, picture.shape[0] / tall
        matrix = np.array([[scale_x, 0, (left - x1) * scale_x], [0, scale_y, (upper - y1) * scale_y]])
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if scale_x < 3 else cv2.INTER_NEAREST)
        patch = cv2.warpAffine(picture, matrix, (right - left, lower - upper), flags=flags)
        light, through = float(crowd.light[i].mean()), float(crowd.through[i])
        veil = float(self.scene.ambience.fog_colour.mean()) * (1 - through)
        colour = cv2.convertScaleAbs(cv2.cvtColor(patch, cv2.COLOR_RGBA2RGB), alpha=light * through, beta=veil)
        solid = cv2.threshold(cv2.extractChannel(patch, 3), 110, 255, cv2.THRESH_BINARY)[1]
        cv2.copyTo(colour, solid, self.image[upper:lower, left:right])
        cv2.max(self.ids[upper:lower, left:right], solid, dst=self.ids[upper:lower, left:right])
        return float(x1), float(y1), float(x2), float(y2)

    def _note(self, crowd: _Crowd, i: int, box: tuple[float, float, float, float], number: int) -> int:
        """Record how a labelled thing appears; 1 where it is in the image."""
        x1, y1, x2, y2 = box
        rows = slice(max(int(y1) - 1, 0), min(int(y2) + 2, self.camera.height_px))
        columns = slice(max(int(x1) - 1, 0), min(int(x2) + 2, self.camera.width_px))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return 0
        silhouette = int(np.count_nonzero(self.ids[rows, columns] == number))
        thing = crowd.things[i]
        bright = (
            1.0 if thing.state not in (None, "off") or thing.lamps else min(1.0, float(crowd.light[i].max()) / 0.12)
        )
        shown = bright * float(crowd.through[i])
        self.appearances.append(Appearance(thing, box, number, silhouette, (rows, columns), shown))
        return 1

    def _halo(
        self, crowd: _Crowd, i: int, vertex: int, radius_m: float, colour: Floats, code: Code, facing: int
    ) -> None:
        thing, at = crowd.things[i], int(crowd.first[i]) + vertex
        bits = {Code.head: HEAD_ON, Code.tail: TAIL_ON | BRAKE_ON}.get(code, 0)
        depth = float(crowd.points[at, 2])
        if (bits and not thing.lamps & bits) or depth < 1.0:
            return
        ego = self.scene.ego
        away = float(np.cos(thing.yaw) * (ego.x - thing.x) + np.sin(thing.yaw) * (ego.y - thing.y))
        away /= max(float(np.hypot(ego.x - thing.x, ego.y - thing.y)), 1.0)
        strength = max(0.0, facing * away) if facing else 0.6
        x, y = float(crowd.pixels[at, 0]), float(crowd.pixels[at, 1])
        if strength < 0.1 or not (-40 < x < self.camera.width_px + 40 and -40 < y < self.camera.height_px + 40):
            return
        ix, iy = int(x), int(y)
        inside = 0 <= ix < self.camera.width_px and 0 <= iy < self.camera.height_px
        dark = 1.0 - 0.8 * min(1.0, float(self.scene.ambience.gain.mean()))
        brake = 1.5 if code == Code.tail and thing.lamps & BRAKE_ON else 1.0
        radius = radius_m * self.camera.fx / depth + 2.0
        glow = colour * strength * dark * brake * float(crowd.through[i])
        if inside:
            self.halos.append(Halo(x, y, radius, glow))


def _tree_shadow(mesh: Mesh, foot: Floats, slant: Floats) -> list[Floats]:
    """A stroke for the trunk and a blob for the crown."""
    if mesh.sprite is None or mesh.sprite[2] < 3:
        return []
    _, wide, tall = mesh.sprite
    across = np.array([-slant[1], slant[0]]) / max(float(np.hypot(*slant)), 1e-6) * 0.15
    crown, tip = foot - slant * tall * 0.65, foot - slant * tall * 0.4
    angles = np.arange(10) * 2 * np.pi / 10
    blob = crown + wide * 0.4 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return [np.stack([foot - across, foot + across, tip + across, tip - across]), blob]
