"""A scene as a camera sees it: pixels, and the id buffer that exact labels are read from."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from avexp.records.labels import Road
from avexp.world.ambience import Ambience
from avexp.world.camera import Camera
from avexp.world.facades import light_facades
from avexp.world.ground import GroundMaps, GroundPainter, make_maps
from avexp.world.look import Image
from avexp.world.optics import add_halos, develop
from avexp.world.painter import Appearance, ThingPainter
from avexp.world.scene import Scene
from avexp.world.sky import make_panorama, paint_sky

_KEPT = 12


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture with what labels need.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        ids: uint8 [H, W]: 0 nothing, 1 drivable road, 254 and 255 clutter, else the ``mark`` of an appearance.
        appearances: labelled things, far to near.
        camera: as it stood, dipped with the body.
    """

    image: Image
    ids: Image
    appearances: list[Appearance]
    camera: Camera


class Backdrops:
    """Keeps what does not change while a camera drives through one ambience: ground maps, panorama, house fronts."""

    def __init__(self) -> None:
        self._kept: dict[
            tuple[int, str, int, int, float, bytes], tuple[Ambience, GroundMaps, Image, dict[str, Image]]
        ] = {}

    def of(self, scene: Scene, camera: Camera) -> tuple[GroundMaps, Image, dict[str, Image]]:
        """Maps, panorama and house fronts for a camera as it is mounted."""
        pose = np.concatenate([camera.rotation.ravel(), camera.position_m]).tobytes()
        key = (id(scene.ambience), camera.name, camera.width_px, camera.height_px, camera.fx, pose)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            rows = int(camera.horizon_px) + 30
            kind, seed = scene.course.layout.kind, scene.ground.seed % 8
            panorama = make_panorama(scene.ambience, kind, seed, camera.fx, max(rows, 8), scene.look.domain)
            facades = light_facades(scene.look.facades, scene.ambience) if kind is Road.urban else {}
            self._kept[key] = (scene.ambience, make_maps(camera, scene.ambience), panorama, facades)
        return self._kept[key][1:]


@lru_cache(maxsize=1)
def _backdrops() -> Backdrops:
    return Backdrops()


def render(scene: Scene, camera: Camera) -> Rendering:
    """Paint a scene for a camera.

    Args:
        scene: the world at one time.
        camera: as it is mounted; the body's dip is added here.
    """
    cv2.setNumThreads(1)
    maps, panorama, facades = _backdrops().of(scene, camera)
    dipped = camera.pitched(scene.ego.pitch_rad)
    image = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
    ids = np.zeros((camera.height_px, camera.width_px), np.uint8)
    horizon = int(np.ceil(dipped.horizon_px))
    paint_sky(image, panorama, dipped, scene.ego.heading, horizon)
    things = ThingPainter(scene, dipped, image, ids, facades)
    GroundPainter(scene, dipped, image, ids).paint(maps, horizon, things.shadows())
    things.paint()
    add_halos(image, ids, things.halos, scene.ambience.wet)
    return Rendering(develop(image, scene, camera), ids, things.appearances, dipped)
