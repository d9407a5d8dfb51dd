import cv2
import numpy as np
import pytest

from avexp.core.counter_random import generator
from avexp.records.labels import Light, Road, Weather
from avexp.world.annotate import annotate, road_rings
from avexp.world.camera import Camera, rig
from avexp.world.drive import drive
from avexp.world.mesh import MeshBuilder
from avexp.world.rarity import DriveSpec
from avexp.world.render import render
from avexp.world.scene import Thing

SPEC = DriveSpec(road=Road.highway, light=Light.day, weather=Weather.clear, frames=2)


def box_mesh(side=2.0, height=2.0):
    b = MeshBuilder()
    half = side / 2
    b.frustum((-half, half, half, half), (-half, half, half, half), (0.0, height), {"all": (200, 30, 30)})
    return b.build()


@pytest.fixture(scope="module")
def empty():
    """A scene with nothing but the road, seen by a level car."""
    from dataclasses import replace

    scene = drive(SPEC, 3).state_at(0.0)
    nothing = np.zeros(0)
    ego = replace(scene.ego, pitch_rad=0.0)
    return replace(scene, ego=ego, things=[], poses=np.zeros((0, 3)), reach=nothing, prominence=nothing)


def with_boxes(scene, places, category="car"):
    """Boxes at (x, y) of the vehicle frame, turned as the car is."""
    from dataclasses import replace

    mesh, ego = box_mesh(), scene.ego
    c, s = np.cos(ego.heading), np.sin(ego.heading)
    things = [
        Thing(mesh, ego.x + c * x - s * y, ego.y + s * x + c * y, ego.heading, category, f"t{i}", (2.0, 2.0, 2.0))
        for i, (x, y) in enumerate(places)
    ]
    poses = np.array([(t.x, t.y, t.yaw) for t in things])
    count = len(things)
    return replace(
        scene, things=things, poses=poses, reach=np.full(count, mesh.radius_m), prominence=np.full(count, 2.0)
    )


def front():
    return Camera.from_sensor(rig(1, 640, 360, 0.0, 0.0, 2.0)[0])


def labels_of(scene):
    return annotate(scene, {"front": render(scene, front())})


def test_box_and_distance_of_a_cube_ahead(empty):
    # a cube of 2 m at 20 m: its rear is 19 m from the origin, 17.3 m from the camera at x = 1.7, f = 560, height 1.45
    (cube,) = labels_of(with_boxes(empty, [(20.0, 0.0)])).objects
    box, scale = cube.box2d["front"], 560 / 17.3
    assert (box.x1, box.x2) == pytest.approx((320 - scale, 320 + scale), abs=0.02)
    assert (box.y1, box.y2) == pytest.approx((180 - 0.55 * scale, 180 + 1.45 * scale), abs=0.02)
    assert (box.occlusion, box.truncation) == (0, 0)
    assert cube.distance_m == pytest.approx(19.0)
    assert cube.box3d.center_m == pytest.approx((20.0, 0.0, 1.0))


def test_occlusion_is_the_hidden_share(empty):
    # the near cube covers 560/17.3 px each side of 320; the far one reaches from y = +1 to -1 about its own middle
    found = labels_of(with_boxes(empty, [(20.0, 0.0), (40.0, -3.0)])).objects
    by_track = {thing.track_id: thing.box2d["front"] for thing in found}
    far = by_track["t1"]
    # silhouette of the far cube: rear face at depth 37.3 from 3 -+ 1 m to the right, plus its left side face up to depth 39.3
    left, right = 320 + 560 * 2 / 39.3, 320 + 560 * 4 / 37.3
    assert (far.x1, far.x2) == pytest.approx((left, right), abs=0.02)
    covered = (320 + 560 / 17.3 - left) / (right - left)
    assert far.occlusion == pytest.approx(covered, abs=0.06)
    assert by_track["t0"].occlusion == 0


def test_hidden_and_small_things_are_ignored_not_objects(empty):
    labels = labels_of(with_boxes(empty, [(12.0, 0.0), (40.0, 0.0), (155.0, 30.0)]))
    assert [thing.track_id for thing in labels.objects] == ["t0"]
    assert [region.reason for region in labels.ignore] == ["small"]  # wholly hidden things are not named at all


def test_truncation_at_the_border(empty):
    # at depth 8.3 the image ends 4.74 m to the side; a cube from 4 to 6 m shows 0.74 of its face's 2 m
    (cube,) = labels_of(with_boxes(empty, [(11.0, -5.0)])).objects
    box = cube.box2d["front"]
    assert box.x2 == 640
    whole = 560 * 6 / 8.3 - 560 * 4 / 10.3
    assert box.truncation == pytest.approx(1 - (320 - 560 * 4 / 10.3) / whole, abs=0.02)


def test_lanes_lie_on_the_ground_where_the_camera_sees_them(empty):
    labels = labels_of(empty)
    camera = front()
    positions = [lane.position for lane in labels.lanes]
    assert {-1, 1} <= set(positions)
    assert positions == sorted(positions)
    for lane in labels.lanes:
        pixels, _ = camera.project(np.array(lane.ground_m))
        for x, y in lane.image["front"][1:-1]:
            assert np.abs(pixels - (x, y)).sum(axis=1).min() < 0.1
        rows = [y for _, y in lane.image["front"]]
        assert rows == sorted(rows, reverse=True)  # near to far
        assert all(0 <= x <= 640 and 0 <= y <= 360 for x, y in lane.image["front"])


def test_ego_lane_is_between_its_boundaries(empty):
    near = {lane.position: lane.ground_m[0][1] for lane in labels_of(empty).lanes}
    assert near[-1] > 0 > near[1]
    assert 2.8 < near[-1] - near[1] < 4.2


def test_rings_give_back_the_mask():
    ids = np.zeros((90, 160), np.uint8)
    cv2.circle(ids, (80, 50), 38, 1, -1)
    cv2.rectangle(ids, (70, 40), (90, 60), 7, -1)
    rings = road_rings(ids)
    assert len(rings) == 2
    again = np.zeros_like(ids)
    cv2.fillPoly(again, [np.round((np.array(ring) - 0.5) * 16).astype(np.int32) for ring in rings], 1, 8, 4)
    mask = ids == 1
    assert (again & mask).sum() / (again | mask).sum() > 0.93


def test_path_is_where_the_car_goes():
    made = drive(SPEC, 4)
    scene = made.state_at(0.5)
    path = labels_of(scene).path
    assert path.times_s == pytest.approx([0.25 * k for k in range(1, 17)])
    later = made.state_at(2.5)
    x, y = scene.ego.to_vehicle(np.array([later.ego.x, later.ego.y]))
    assert path.positions_m[7] == pytest.approx((x, y), abs=0.02)
    # the heading fits the path: no sideways start
    assert abs(path.positions_m[0][1]) < 0.06
    # yaw rate is speed times curvature
    assert scene.ego.yaw_rate_radps == pytest.approx(scene.ego.speed_mps * path.curvature_1pm, abs=1e-4)


def test_generator_of_this_test_is_stable():
    assert generator("x").random() == generator("x").random()
