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
    cx1, cy1, cx2, cy2 = max(x1, 0.0), max(y1, 0.0), min(x2, camera.width_px), min(y2, camera.height_px)
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
    s = ego.s_m + np.concatenate([np.arange(-6.0, 20.0, 1.0), np.geomspace(20.0, scene.ambience.sight_m, 26)])
    s = s[(s > 0) & (s < scene.course.length_m - 2)]
    offsets = np.array([b.offset_m for b in layout.boundaries])
    ground = ego.to_vehicle(scene.course.points(s[:, None], offsets[None]))
    ground = np.concatenate([ground, np.zeros((*ground.shape[:2], 1))], axis=2)
    left = np.flatnonzero(offsets > ego.d_m)
    lanes = []
    for i, boundary in enumerate(layout.boundaries):
        position = i - len(left) if i < len(left) else i - len(left) + 1
        lines = {name: line for name, r in renderings.items() if len(line := _image_line(r.camera, ground[:, i])) > 1}
        if not lines:
            continue
        ahead = ground[ground[:, i, 0] > 0, i]
        points = [(x, y, 0.0) for x, y, _ in np.round(ahead, 3).tolist()]
        lanes.append(Lane(id=f"b{i}", type=boundary.type, position=position, image=lines, ground_m=points))
    return lanes


def _image_line(camera: Camera, points: Floats) -> list[Point]:
    """The longest visible piece of a ground polyline [N, 3] of V as pixels, near to far, cut at the image's border."""
    inside = camera.in_camera(points)
    ahead = inside[:, 2] > camera.ground_near_m
    if ahead.sum() < 2:
        return []
    pixels = camera.pixels(inside[ahead])
    low, high = np.zeros(2), np.array([camera.width_px, camera.height_px], np.float64)
    within = ((pixels >= low) & (pixels <= high)).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], within.astype(np.int8), [0]])))
    if len(edges) == 0:
        return []
    starts, ends = edges[::2], edges[1::2]
    best = int(np.argmax(ends - starts))
    a, b = int(starts[best]), int(ends[best])
    line = [pixels[a:b]]
    if a > 0:
        line.insert(0, _on_border(pixels[a], pixels[a - 1], high)[None])
    if b < len(pixels):
        line.append(_on_border(pixels[b - 1], pixels[b], high)[None])
    joined = np.concatenate(line)
    if camera.in_camera(points[0])[2] > camera.in_camera(points[-1])[2]:
        joined = joined[::-1]
    return [(x, y) for x, y in np.round(joined, 2).tolist()]


def _on_border(inner: Floats, outer: Floats, size: Floats) -> Floats:
    """Where the way from a point in the image to one outside leaves it."""
    step = outer - inner
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(step > 0, (size - inner) / step, np.where(step < 0, -inner / step, np.inf))
    return np.asarray(np.clip(inner + step * float(np.clip(shares.min(), 0, 1)), 0, size))


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
