"""The things that a camera sees, gathered into few arrays: projected, shaded and sorted in one go."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avexp.world.camera import Camera
from avexp.world.ground import fixed_point
from avexp.world.mesh import Code, Mesh
from avexp.world.scene import BRAKE_ON, HEAD_ON, TAIL_ON, Scene, Thing

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NEAR_M = 0.35
SMALL_PX = 26.0
"""Below this height the far shape of a thing is painted."""
LEAST_HEIGHT_PX = 4.0
"""Things lower than this are not painted."""
LEAST_AREA_PX = 1.4
"""Faces and sticks that cover less are not painted."""
_WARM = np.array([1.05, 1.0, 0.9])
_SHINING = (
    (Code.head, HEAD_ON, (255, 252, 236)),
    (Code.tail, TAIL_ON, (205, 30, 26)),
    (Code.tail, BRAKE_ON, (255, 62, 48)),
)
StickPaint = tuple[list[int], list[int], int, list[float]]
"""What cv2.line takes: start, end (fixed point), thickness [px], colour."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Visible things. N things, V vertices, F faces and K sticks that are seen, in the order of the things.

    Attributes:
        things, meshes: N.
        order: indices of the things in the image, far to near.
        points: [V, 3] of the camera; ``pixels`` [V, 2]; ``fixed`` the same in fixed point.
        vertex_at, face_at, stick_at: N + 1 positions where each thing's begin.
        faces: int [F, 8]; ``corners`` [F, 8, 2] in fixed point; ``colours``, F.
        sticks: K.
        boxes: [N, 4], x1, y1, x2, y2 [px].
        behind: N, whether part of it lies behind the camera.
        light: [N, 3] brightness, ``through`` [N] what fog lets through.
    """

    things: list[Thing]
    meshes: list[Mesh]
    order: list[int]
    points: Floats
    pixels: Floats
    fixed: npt.NDArray[np.int32]
    vertex_at: list[int]
    face_at: list[int]
    stick_at: list[int]
    faces: Ints
    corners: npt.NDArray[np.int32]
    colours: list[list[float]]
    sticks: list[StickPaint]
    boxes: list[list[float]]
    behind: list[bool]
    light: Floats
    through: Floats


def vehicle_poses(scene: Scene) -> Floats:
    """x, y, yaw [N, 3] of all things in the vehicle frame."""
    poses = scene.ego.to_vehicle(scene.poses)
    poses[:, 2] = scene.poses[:, 2] - scene.ego.heading
    return poses


def visible(scene: Scene, camera: Camera, poses: Floats) -> Ints:
    """Indices of the things that may be in the image."""
    centre = camera.in_camera(np.concatenate([poses[:, :2], np.full((len(poses), 1), 1.0)], axis=1))
    depth, reach = centre[:, 2], scene.reach
    half = camera.width_px / 2 / camera.fx
    # distance to the planes through the image's left and right border
    outside = np.abs(centre[:, 0]) - depth * half > reach * np.hypot(1.0, half)
    tiny = camera.fy * scene.prominence < LEAST_HEIGHT_PX * np.maximum(depth, 1.0)
    return np.flatnonzero((depth > NEAR_M - reach) & ~outside & ~tiny & (depth < 320))


class Gatherer:
    """Projects, shades and sorts some of a scene's things; ``crowd`` is the result.

    Args:
        scene: what is there.
        camera: the camera.
        poses: of all things, in the vehicle frame.
        index: the things to gather.
    """

    def __init__(self, scene: Scene, camera: Camera, poses: Floats, index: Ints) -> None:
        self.scene, self.camera = scene, camera
        self.poses = poses[index]
        self.things = [scene.things[i] for i in index]
        flat = np.concatenate([self.poses[:, :2], np.zeros((len(index), 1))], axis=1)
        self.depth = camera.in_camera(flat)[:, 2]
        self.meshes = self._meshes()
        self.vertex_count = np.array([len(m.vertices) for m in self.meshes])
        self.starts = np.concatenate([[0], np.cumsum(self.vertex_count)[:-1]])
        self.owner = np.repeat(np.arange(len(self.meshes)), self.vertex_count)
        self.cos, self.sin = np.cos(self.poses[:, 2]), np.sin(self.poses[:, 2])
        self.through = np.exp(-scene.ambience.fog_density_1pm * np.hypot(self.poses[:, 0], self.poses[:, 1]))
        self.beam = scene.ambience.headlight(self.poses[:, 0], self.poses[:, 1])
        self.light = scene.ambience.gain[None] + self.beam[:, None] * _WARM

    def crowd(self) -> Crowd:
        """All of it."""
        camera = self.camera
        own = np.concatenate([m.vertices for m in self.meshes])
        placed = self._placed(own)
        points = camera.in_camera(placed)
        z = points[:, 2]
        safe = points.copy()
        np.maximum(safe[:, 2], NEAR_M, out=safe[:, 2])
        pixels = camera.pixels(safe)
        spread = (own[:, 3] * camera.fx / safe[:, 2])[:, None]
        low, high = np.minimum.reduceat(pixels - spread, self.starts), np.maximum.reduceat(pixels + spread, self.starts)
        behind = np.minimum.reduceat(z, self.starts) < NEAR_M
        fixed = fixed_point(pixels)
        faces, colours, face_at = self._faces(placed, pixels, behind)
        sticks, stick_at = self._sticks(points, pixels, fixed)
        return Crowd(
            self.things, self.meshes, self._order(points, low, high, behind), points, pixels, fixed,
            [*self.starts.tolist(), len(own)], face_at, stick_at, faces, fixed[faces], colours, sticks,
            np.concatenate([low, high], axis=1).tolist(), behind.tolist(), self.light, self.through,
        )  # fmt: skip

    def _meshes(self) -> list[Mesh]:
        """Each thing's mesh, simple where small, in the painting order for its side."""
        dx, dy = self.camera.position_m[0] - self.poses[:, 0], self.camera.position_m[1] - self.poses[:, 1]
        front = (np.cos(self.poses[:, 2]) * dx + np.sin(self.poses[:, 2]) * dy > 0).tolist()
        meshes = []
        for thing, z, ahead in zip(self.things, self.depth.tolist(), front, strict=True):
            mesh = thing.mesh
            if mesh.far is not None and self.camera.fy * mesh.height_m < SMALL_PX * z:
                mesh = mesh.far
            meshes.append(mesh.reverse if ahead and mesh.reverse is not None else mesh)
        return meshes

    def _placed(self, own: Floats) -> Floats:
        """All vertices in the vehicle frame."""
        pose = np.column_stack([self.poses[:, :2], self.cos, self.sin])[self.owner]
        points = np.empty((len(own), 3))
        points[:, 0] = pose[:, 0] + pose[:, 2] * own[:, 0] - pose[:, 3] * own[:, 1]
        points[:, 1] = pose[:, 1] + pose[:, 3] * own[:, 0] + pose[:, 2] * own[:, 1]
        points[:, 2] = own[:, 2]
        return points

    def _order(self, points: Floats, low: Floats, high: Floats, behind: Bools) -> list[int]:
        """Things in the image, far to near."""
        camera = self.camera
        within = (high > 0).all(axis=1) & (low < np.array([camera.width_px, camera.height_px])).all(axis=1)
        sprites = np.array([m.sprite is not None for m in self.meshes])
        z = points[:, 2]
        backdrops = np.array([m.backdrop for m in self.meshes])
        farthest = np.maximum.reduceat(z, self.starts) if backdrops.any() or behind.any() else self.depth
        key = np.where(backdrops, farthest, self.depth)
        cut = behind & (farthest > NEAR_M)
        if cut.any():
            # what reaches behind the camera is seen only if not all of it lies beyond one border
            half, up = camera.width_px / 2 / camera.fx, (camera.height_px - camera.cy) / camera.fy
            sides = np.stack([points[:, 0] + half * z, half * z - points[:, 0], up * z - points[:, 1]], axis=1)
            cut &= (np.maximum.reduceat(sides, self.starts) > 0).all(axis=1)
        order = np.argsort(-key, kind="stable")
        seen = (within & ~behind) | cut | (sprites & ~behind)
        found: list[int] = order[seen[order]].tolist()
        return found

    def _faces(self, placed: Floats, pixels: Floats, behind: Bools) -> tuple[Ints, list[list[float]], list[int]]:
        """Faces that show their outside, their colours, and where each thing's begin."""
        counts = np.array([len(m.faces) for m in self.meshes])
        owner = np.repeat(np.arange(len(counts)), counts)
        faces = np.concatenate([m.faces for m in self.meshes]) + self.starts[owner][:, None]
        facts = np.concatenate([m.facts for m in self.meshes])
        cos, sin = self.cos[owner], self.sin[owner]
        normal = np.empty((len(faces), 3))
        normal[:, 0] = cos * facts[:, 3] - sin * facts[:, 4]
        normal[:, 1] = sin * facts[:, 3] + cos * facts[:, 4]
        normal[:, 2] = facts[:, 5]
        away = ((placed[faces[:, 0]] - self.camera.position_m) * normal).sum(axis=1)
        seen = np.flatnonzero((away < 0) | (facts[:, 7] > 0))
        area = np.abs(_double_area(pixels[faces[seen]]))
        seen = seen[(area > 2 * LEAST_AREA_PX) | behind[owner[seen]]]
        owner, facts = owner[seen], facts[seen]
        face_at = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(counts)))]).tolist()
        return faces[seen], self._shade(owner, facts, normal[seen]), face_at

    def _shade(self, owner: Ints, facts: Floats, normal: Floats) -> list[list[float]]:
        """Colour of each face as seen."""
        ambience = self.scene.ambience
        base, codes = facts[:, :3], facts[:, 6].astype(np.int64)
        beam = self.beam[owner]
        share = _ambient_share(self.scene, normal)
        lit = base * (ambience.gain * share[:, None] + (beam * np.clip(-normal[:, 0], 0.12, 1.0))[:, None] * _WARM)
        mirror = codes == Code.reflector
        lit[mirror] *= (1 + 3.5 * beam)[mirror, None]
        lamps = np.array([t.lamps for t in self.things])[owner]
        for code, bit, colour in _SHINING:
            lit[(codes == code) & (lamps & bit > 0)] = colour
        lit[codes == Code.lit] = base[codes == Code.lit]
        if ambience.street:
            lit[codes == Code.window] = (214, 172, 104)
        through = self.through[owner][:, None]
        colours: list[list[float]] = np.clip(lit * through + ambience.fog_colour * (1 - through), 0, 255).tolist()
        return colours

    def _sticks(
        self, points: Floats, pixels: Floats, fixed: npt.NDArray[np.int32]
    ) -> tuple[list[StickPaint], list[int]]:
        """What cv2.line needs for each stick that is seen, and where each thing's begin."""
        counts = np.array([len(m.sticks) for m in self.meshes])
        owner = np.repeat(np.arange(len(counts)), counts)
        facts = np.concatenate([m.sticks for m in self.meshes])
        ends = facts[:, :2].astype(np.int64) + self.starts[owner][:, None]
        depth = points[ends, 2]
        radius = facts[:, 2] * self.camera.fx * 2 / np.maximum(depth.sum(axis=1), NEAR_M)
        length = np.abs(pixels[ends[:, 0]] - pixels[ends[:, 1]]).sum(axis=1)
        seen = np.flatnonzero((depth > NEAR_M).all(axis=1) & ((length + 2 * radius) * 2 * radius > LEAST_AREA_PX))
        owner, facts, ends = owner[seen], facts[seen], ends[seen]
        through, base = self.through[owner][:, None], facts[:, 3:6]
        lit = np.where(facts[:, 6:] > 0, base, base * self.light[owner] * 0.86)
        colour = np.minimum(lit * through + self.scene.ambience.fog_colour * (1 - through), 255).tolist()
        thick = np.clip(np.round(2 * radius[seen]), 1, 250).astype(int).tolist()
        starts, stops = fixed[ends[:, 0]].tolist(), fixed[ends[:, 1]].tolist()
        stick_at = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(counts)))]).tolist()
        return list(zip(starts, stops, thick, colour, strict=True)), stick_at


def _double_area(corners: Floats) -> Floats:
    """Twice the signed area of faces [F, 8, 2]."""
    x, y = corners[..., 0], corners[..., 1]
    inner = (x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(axis=1)
    return np.asarray(inner + x[:, -1] * y[:, 0] - x[:, 0] * y[:, -1])


def _ambient_share(scene: Scene, normal: Floats) -> Floats:
    """How bright a face is for its direction: open sky from above, and the sun from its side."""
    share = 0.72 + 0.2 * normal[:, 2]
    if scene.ambience.shadow > 0:
        sun = scene.ambience.sun
        c, s = np.cos(scene.ego.heading), np.sin(scene.ego.heading)
        side = normal @ np.array([c * sun[0] + s * sun[1], -s * sun[0] + c * sun[1], sun[2]])
        share = share + 0.6 * scene.ambience.shadow * np.maximum(side, 0)
    return np.asarray(share)
