"""A pinhole camera of the vehicle: where points of the vehicle frame appear in its image.

Axes: V vehicle (x forward, y left, z up, origin on the ground), C camera (x right, y down, z forward), pixels with
the centre of the first at 0.5.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from avexp.core.errors import DataError
from avexp.records.session import Extrinsics, Intrinsics, Sensor

Floats = npt.NDArray[np.float64]
FORWARD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""Camera axes in vehicle axes for a camera that looks straight ahead."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera.

    Attributes:
        name: sensor name.
        width_px, height_px: image size.
        fx, fy, cx, cy: focal lengths and principal point [px].
        rotation: [3, 3], turns camera axes into vehicle axes.
        position_m: [3], in the vehicle frame.
    """

    name: str
    width_px: int
    height_px: int
    fx: float
    fy: float
    cx: float
    cy: float
    rotation: Floats
    position_m: Floats

    @staticmethod
    def from_sensor(sensor: Sensor) -> "Camera":
        """The camera that a session's sensor describes.

        Raises:
            DataError: it has no camera matrix or no pose.
        """
        inside, outside = sensor.intrinsics, sensor.extrinsics
        if inside is None or inside.camera_matrix is None or outside is None:
            raise DataError(
                f"sensor {sensor.name}", "has no camera matrix or no pose", "give intrinsics and extrinsics"
            )
        (fx, _, cx), (_, fy, cy), _ = inside.camera_matrix
        rotation = rotation_of(outside.rotation_wxyz)
        size = inside.width_px, inside.height_px
        return Camera(sensor.name, *size, fx, fy, cx, cy, rotation, np.array(outside.translation_m))

    def pitched(self, pitch_rad: float) -> "Camera":
        """The camera when the body dips by this angle (nose down positive) about the vehicle's origin."""
        c, s = np.cos(pitch_rad), np.sin(pitch_rad)
        dip = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        return replace(self, rotation=dip @ self.rotation, position_m=dip @ self.position_m)

    @property
    def yaw_rad(self) -> float:
        """Where it looks, about z, left positive."""
        return float(np.arctan2(self.rotation[1, 2], self.rotation[0, 2]))

    @property
    def horizon_px(self) -> float:
        """Image row of the horizon (cameras do not roll)."""
        slope = self.rotation[2, 2] / np.hypot(self.rotation[0, 2], self.rotation[1, 2])
        return float(self.cy + self.fy * slope)

    @property
    def ground_near_m(self) -> float:
        """Depth [m] below which no ground can be seen."""
        return float(max(0.3, 0.7 * self.position_m[2] * self.fy / (self.height_px - min(self.cy, self.horizon_px))))

    def in_camera(self, points: Floats) -> Floats:
        """Points [..., 3] of V in C."""
        return np.asarray((points - self.position_m) @ self.rotation)

    def pixels(self, points: Floats) -> Floats:
        """Pixels [..., 2] of points [..., 3] of C, which must have positive depth."""
        scale = np.array([self.fx, self.fy])
        return np.asarray(points[..., :2] / points[..., 2:] * scale + np.array([self.cx, self.cy]))

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Pixels [..., 2] and depth [...] [m] of points [..., 3] of V; pixels mean nothing where depth <= 0."""
        inside = self.in_camera(points)
        depth = inside[..., 2]
        inside[..., 2] = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        return self.pixels(inside), depth


def clip_near(polygon: Floats, near_m: float) -> Floats:
    """The part of a polygon [N, 3] of C in front of a depth (Sutherland and Hodgman 1974, one plane).

    Returns:
        [M, 3], M = 0 where nothing is left.
    """
    depth = polygon[:, 2] - near_m
    ahead = depth >= 0
    if ahead.all():
        return polygon
    following, after = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
    cuts = ahead != (after >= 0)
    share = depth / np.where(cuts, depth - after, 1.0)
    crossing = polygon + (following - polygon) * share[:, None]
    both = np.stack([polygon, crossing], axis=1).reshape(-1, 3)
    return np.asarray(both[np.stack([ahead, cuts], axis=1).reshape(-1)])


def rotation_of(wxyz: tuple[float, float, float, float]) -> Floats:
    """Rotation matrix of a unit quaternion."""
    w, x, y, z = wxyz
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: Floats) -> tuple[float, float, float, float]:
    """Unit quaternion w, x, y, z of a rotation matrix (Shepperd 1978: by the largest of the four)."""
    trace = float(np.trace(rotation))
    squares = np.array([trace, *np.diag(rotation)])
    pivot = int(np.argmax(squares))
    r = rotation
    anti = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    if pivot == 0:
        q = np.array([1 + trace, *anti])
    else:
        i = pivot - 1
        symmetric = r[i] + r[:, i]
        symmetric[i] = 1 - trace + 2 * r[i, i]
        q = np.array([anti[i], *symmetric])
    w, x, y, z = (float(part) for part in q / np.linalg.norm(q))
    return w, x, y, z


MOUNTS: dict[str, tuple[float, float, float, float, float]] = {
    "front": (0.0, 0.875, 1.7, 0.0, 1.45),
    "front_left": (55.0, 0.6, 1.6, 0.5, 1.4),
    "front_right": (-55.0, 0.6, 1.6, -0.5, 1.4),
    "rear": (180.0, 0.7, -0.7, 0.0, 1.2),
    "front_tele": (0.0, 1.9, 1.7, 0.1, 1.45),
}
"""Name -> yaw [deg], focal length by image width, position x, y, z [m]."""


def rig(
    count: int, width_px: int, height_px: int, pitch_rad: float, height_offset_m: float, rate_hz: float
) -> list[Sensor]:
    """The first cameras of MOUNTS as sensors of a session.

    Raises:
        DataError: more cameras than there are mounts, or none.
    """
    if not 1 <= count <= len(MOUNTS):
        raise DataError(f"cameras={count}", "no such rig", f"choose 1 to {len(MOUNTS)}")
    sensors = []
    for name, (yaw_deg, focal, x, y, z) in list(MOUNTS.items())[:count]:
        yaw, f = np.radians(yaw_deg), focal * width_px
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        c, s = np.cos(pitch_rad), np.sin(pitch_rad)
        dip = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        matrix = ((f, 0.0, width_px / 2), (0.0, f, height_px / 2), (0.0, 0.0, 1.0))
        inside = Intrinsics(width_px=width_px, height_px=height_px, camera_matrix=matrix)
        outside = Extrinsics(
            translation_m=(x, y, z + height_offset_m), rotation_wxyz=quaternion_of(turn @ dip @ FORWARD)
        )
        sensors.append(Sensor(name=name, kind="camera", intrinsics=inside, extrinsics=outside, rate_hz=rate_hz))
    return sensors
