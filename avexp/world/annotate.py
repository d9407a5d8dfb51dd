"""Labels of a scene: read from geometry and from the id buffer, so that they are what the picture shows."""

import cv2
import numpy as np
import numpy.typing as npt

from avexp.records.labels import (
    Annotator,
    Box2D,
    Conditions,
    Cuboid,
    IgnoreRegion,
    Labels,
    Lane,
    Object,
    Path,
    Region,
)
from avexp.records.record import Point
from avexp.world.camera import Camera
from avexp.world.ground import ROAD_ID
from avexp.world.look import Image
from avexp.world.painter import Appearance
from avexp.world.render import Rendering
from avexp.world.scene import Scene, Thing

Floats = npt.NDArray[np.float64]
LEAST_HEIGHT = 8.0 / 360.0
"""Objects lower than this share of the image height are ignored, neither right nor wrong."""
MOST_HIDDEN = 0.8
LEAST_SHOWN = 0.12
"""Contrast below which fog or darkness hides an object."""
ANNOTATOR = Annotator(name="world", kind="world")


def annotate(scene: Scene, renderings: dict[str, Rendering]) -> Labels:
    """The labels of one time for all cameras that rendered it.

    Args:
        scene: the world.
        renderings: by sensor name.
    """
    boxes: dict[str, tuple[Thing, dict[str, Box2D]]] = {}
    ignore: list[IgnoreRegion] = []
    drivable: list[Region] = []
    for name, rendering in renderings.items():
        left = cv2.calcHist([rendering.ids], [0], None, [256], [0, 256]).ravel().tolist()
        for appearance in rendering.appearances:
            box, reason = _box(appearance, rendering, left[appearance.mark])
            if box is None:
                continue
            if reason:
                ignore.append(IgnoreRegion(sensor=name, box=(box.x1, box.y1, box.x2, box.y2), reason=reason))
            else:
                boxes.setdefault(appearance.thing.track, (appearance.thing, {}))[1][name] = box
        rings = road_rings(rendering.ids)
        if rings:
            drivable.append(Region(sensor=name, rings=rings))
    ambience = scene.ambience
    return Labels(
        annotator=ANNOTATOR,
        tasks=["objects", "lanes", "drivable", "path"],
        conditions=Conditions(light=ambience.light, weather=ambience.weather, road=scene.course.layout.kind),
        objects=_objects(scene, list(boxes.values())),
        lanes=_lanes(scene, renderings),
        drivable=drivable,
        path=_path(scene),
        ignore=ignore,
    )


def _box(appearance: Appearance, rendering: Rendering, visible_px: float) -> tuple[Box2D | None, str]:
    """The clipped box, and why it is to be ignored (empty where it counts); None where nothing of it is to be seen."""
    camera = rendering.camera
    x1, y1, x2, y2 = appearance.box
    a1, b1, a2, b2 = appearance.inside
    cx1, cy1 = max(x1, a1, 0.0), max(y1, b1, 0.0)
    cx2, cy2 = min(x2, a2, float(camera.width_px)), min(y2, b2, float(camera.height_px))
    if cx2 - cx1 < 1 or cy2 - cy1 < 1 or visible_px == 0:
        return None, ""
    hidden = 1 - visible_px / max(appearance.silhouette_px, visible_px)
    cut = 1 - (cx2 - cx1) * (cy2 - cy1) / max((x2 - x1) * (y2 - y1), 1e-6)
    box = Box2D(
        x1=round(cx1, 2),
        y1=round(cy1, 2),
        x2=round(cx2, 2),
        y2=round(cy2, 2),
        occlusion=round(max(hidden, 0.0), 3),
        truncation=round(cut, 3),
    )
    if hidden > MOST_HIDDEN:
        return box, "hidden"
    if cy2 - cy1 < LEAST_HEIGHT * camera.height_px or cx2 - cx1 < 3:
        return box, "small"
    if appearance.shown < LEAST_SHOWN:
        return box, "dark or in fog"
    return box, ""


def _objects(scene: Scene, views: list[tuple[Thing, dict[str, Box2D]]]) -> list[Object]:
    if not views:
        return []
    things = [thing for thing, _ in views]
    at = scene.ego.to_vehicle(np.array([(t.x, t.y) for t in things]))
    yaw = np.array([t.yaw for t in things]) - scene.ego.heading
    yaw = np.arctan2(np.sin(yaw), np.cos(yaw))
    sizes = np.array([t.size_m for t in things])
    cos, sin = np.cos(yaw), np.sin(yaw)
    # the car's origin in the objects' axes, and how far outside of their footprints it lies
    along, across = cos * at[:, 0] + sin * at[:, 1], cos * at[:, 1] - sin * at[:, 0]
    gap = np.maximum(np.abs(np.stack([along, across], axis=1)) - sizes[:, :2] / 2, 0.0)
    distance = np.hypot(gap[:, 0], gap[:, 1])
    base = np.array([t.base_m for t in things])
    rows = np.round(np.column_stack([at, base + sizes[:, 2] / 2, sizes, yaw, distance]), 3).tolist()
    return [
        Object(
            category=thing.category or "",
            track_id=thing.track,
            box2d=boxes,
            box3d=Cuboid(center_m=(x, y, z), size_m=(long, wide, high), yaw_rad=turn),
            distance_m=far,
            attributes={"state": thing.state} if thing.state else {},
        )
        for (thing, boxes), (x, y, z, long, wide, high, turn, far) in zip(views, rows, strict=True)
    ]


def _lanes(scene: Scene, renderings: dict[str, Rendering]) -> list[Lane]:
    """All boundaries of the carriageway, by place seen from the car."""
    layout, ego = scene.course.layout, scene.ego
    far = np.geomspace(20.0, scene.ambience.sight_m, 26)
    ahead_only = all(abs(r.camera.yaw_rad) < 0.3 for r in renderings.values())
    back = np.zeros(0) if ahead_only else np.concatenate([-far[::-1], np.arange(-19.0, -6.0)])
    s = ego.s_m + np.concatenate([back, np.arange(-6.0, 20.0), far])
    s = s[(s > 0) & (s < scene.course.length_m - 2)]
    offsets = np.array([b.offset_m for b in layout.boundaries])
    ground = ego.to_vehicle(scene.course.points(s[:, None], offsets[None]))
    ground = np.concatenate([ground, np.zeros((*ground.shape[:2], 1))], axis=2)
    left = int((offsets > ego.d_m).sum())
    lines = {name: _image_lines(r.camera, ground) for name, r in renderings.items()}
    rounded = np.round(ground, 3).tolist()
    begin = int(np.searchsorted(s, ego.s_m))
    lanes = []
    for i, boundary in enumerate(layout.boundaries):
        image = {name: of_camera[i] for name, of_camera in lines.items() if len(of_camera[i]) > 1}
        if image:
            position = i - left if i < left else i - left + 1
            points = [(x, y, z) for x, y, z in (row[i] for row in rounded[begin:])]
            lanes.append(Lane(id=f"b{i}", type=boundary.type, position=position, image=image, ground_m=points))
    return lanes


def _image_lines(camera: Camera, points: Floats) -> list[list[Point]]:
    """The longest visible piece of each ground polyline of V as pixels, near to far, cut at the image's border.

    Args:
        camera: the camera.
        points: [P, L, 3], L polylines.
    """
    inside = camera.in_camera(points)
    ahead = inside[..., 2] > camera.ground_near_m
    pixels = camera.pixels(np.maximum(inside, [-1e9, -1e9, camera.ground_near_m]))
    size = np.array([camera.width_px, camera.height_px], np.float64)
    within = ahead & ((pixels >= 0) & (pixels <= size)).all(axis=2)
    backwards = (inside[0, :, 2] > inside[-1, :, 2]).tolist()
    rounded, visible, before = np.round(pixels, 2), within.T.tolist(), ahead.T.tolist()
    edge = (float(camera.width_px), float(camera.height_px))
    return [_piece(rounded[:, i].tolist(), before[i], visible[i], edge, backwards[i]) for i in range(points.shape[1])]


def _piece(
    pixels: list[list[float]], ahead: list[bool], within: list[bool], size: tuple[float, float], backwards: bool
) -> list[Point]:
    """The longest piece of one polyline that is within the image."""
    a = b = start = 0
    for at, inside in enumerate([*within, False]):
        if not inside:
            if at - start > b - a:
                a, b = start, at
            start = at + 1
    if a == b:
        return []
    line = [(x, y) for x, y in pixels[a:b]]
    if a > 0 and ahead[a - 1]:
        line.insert(0, _on_border(pixels[a], pixels[a - 1], size))
    if b < len(pixels) and ahead[b]:
        line.append(_on_border(pixels[b - 1], pixels[b], size))
    if backwards:
        line.reverse()
    return line


def _on_border(inner: list[float], outer: list[float], size: tuple[float, float]) -> Point:
    """Where the way from a point in the image to one outside leaves it."""
    share = 1.0
    for start, end, most in zip(inner, outer, size, strict=True):
        if end > most:
            share = min(share, (most - start) / (end - start))
        elif end < 0:
            share = min(share, start / (start - end))
    x, y = (start + (end - start) * share for start, end in zip(inner, outer, strict=True))
    return round(min(max(x, 0.0), size[0]), 2), round(min(max(y, 0.0), size[1]), 2)


def road_rings(ids: Image) -> list[list[Point]]:
    """Outlines [px] of the visible road, holes included, approximated within about a pixel."""
    mask = cv2.compare(ids, ROAD_ID, cv2.CMP_EQ)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    for contour in contours:
        if len(contour) < 3 or cv2.contourArea(contour) < 12:
            continue
        ring = cv2.approxPolyDP(contour, 0.9, True)
        if len(ring) >= 3:
            rings.append([(x + 0.5, y + 0.5) for x, y in ring[:, 0].tolist()])
    return rings


def _path(scene: Scene) -> Path:
    times, xy = scene.future[:, 0], scene.future[:, 1:]
    return Path(
        times_s=np.round(times, 3).tolist(),
        positions_m=[(x, y) for x, y in np.round(xy, 3).tolist()],
        curvature_1pm=round(scene.curvature_1pm, 6),
    )
