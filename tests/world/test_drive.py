import hashlib

import numpy as np
import pytest

from avexp.core.errors import DataError
from avexp.records.labels import Light, Road, Weather
from avexp.world.camera import Camera, rig
from avexp.world.drive import drive
from avexp.world.ground import make_maps
from avexp.world.rarity import DriveSpec
from avexp.world.render import render


def digest(frame):
    parts = [frame.labels.to_json(), frame.ego.to_json(), *(image.tobytes() for image in frame.images.values())]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("road", [Road.highway, Road.urban])
def test_same_seed_same_bytes_and_other_seed_other_bytes(road):
    spec = DriveSpec(road=road, light=Light.night, weather=Weather.rain, frames=3)
    first, again = (digest(drive(spec, 5).frame(2)) for _ in range(2))
    assert first == again
    assert digest(drive(spec, 6).frame(2)) != first


def test_a_frame_does_not_depend_on_those_before():
    spec = DriveSpec(road=Road.urban, frames=3)
    assert digest(drive(spec, 5).frame(2)) == digest(list(drive(spec, 5))[2])


def test_train_and_val_share_no_texture():
    train, val = (drive(DriveSpec(textures=t), 5).look for t in ("train", "val"))
    assert not set(train.palette.cars) & set(val.palette.cars)
    assert not np.array_equal(train.ground, val.ground)


@pytest.mark.parametrize("light", [Light.day, Light.dusk, Light.night])
@pytest.mark.parametrize("weather", [Weather.clear, Weather.rain, Weather.fog])
def test_every_condition_gives_frames_with_all_tasks(light, weather):
    spec = DriveSpec(road=Road.urban, light=light, weather=weather, frames=4, width_px=320, height_px=180)
    for frame in drive(spec, 11):
        image = frame.images["front"]
        assert image.shape == (180, 320, 3)
        assert image.dtype == np.uint8
        labels = frame.labels
        assert labels.tasks == ["objects", "lanes", "drivable", "path"]
        assert (labels.conditions.light, labels.conditions.weather) == (light, weather)
        assert labels.drivable
        assert labels.path is not None
        for thing in labels.objects:
            box = thing.box2d["front"]
            assert 0 <= box.x1 < box.x2 <= 320
            assert 0 <= box.y1 < box.y2 <= 180
            assert box.occlusion <= 0.8


def test_night_is_darker_than_dusk_than_day():
    specs = [DriveSpec(road=Road.highway, light=light, frames=2) for light in (Light.night, Light.dusk, Light.day)]
    means = [drive(spec, 2).frame(1).images["front"].mean() for spec in specs]
    assert means[0] * 1.5 < means[1] < means[2] * 0.8


def test_five_cameras_see_the_same_world():
    frame = drive(DriveSpec(road=Road.urban, cameras=5, frames=2, width_px=320, height_px=180), 3).frame(1)
    assert list(frame.images) == ["front", "front_left", "front_right", "rear", "front_tele"]
    assert any(len(thing.box2d) > 1 for thing in frame.labels.objects)


def test_displaced_car_sees_and_is_labelled_from_its_new_place():
    made = drive(DriveSpec(road=Road.highway, frames=2), 3)
    here, there = made.state_at(1.0), made.state_at(1.0, lateral_offset_m=0.5, heading_offset_rad=0.05)
    moved = here.ego.to_vehicle(np.array([there.ego.x, there.ego.y]))
    assert moved == pytest.approx([0.0, 0.5], abs=1e-9)
    # what lies at (x, y) for the one lies at the turned (x, y - 0.5) for the other
    c, s = np.cos(0.05), np.sin(0.05)
    x, y = here.future[:, 1], here.future[:, 2] - 0.5
    assert there.future[:, 1:] == pytest.approx(np.stack([c * x + s * y, -s * x + c * y], axis=1))
    camera = Camera.from_sensor(made.session_sensors()[0])
    assert not np.array_equal(render(here, camera).image, render(there, camera).image)


def test_things_do_not_stand_in_the_cars_way():
    """Nothing overlaps the car's own footprint while it drives."""
    for road, seed in ((Road.highway, 1), *((Road.urban, seed) for seed in (2, 3, 4, 5, 23))):
        made = drive(DriveSpec(road=road, frames=60, cyclists=30), seed)
        for t in np.arange(0, 29, 0.5):
            scene = made.state_at(float(t))
            at = scene.ego.to_vehicle(scene.poses[:, :2])
            inside = (np.abs(at[:, 0] - 1.4) < 2.2) & (np.abs(at[:, 1]) < 0.8)
            near = [scene.things[i] for i in np.flatnonzero(inside)]
            blocked = [thing.track for thing in near if thing.category != "light"]  # lights hang over the road
            assert not blocked, (road, seed, t, blocked)


def test_wrong_number_of_cameras():
    with pytest.raises(DataError, match="choose 1 to 5"):
        drive(DriveSpec(cameras=7), 1).session_sensors()


def test_ground_is_mapped_as_far_as_a_hard_brake_dips_a_large_camera():
    camera = Camera.from_sensor(rig(1, 1920, 1080, 0.02, 0.0, 2.0)[0])
    ambience = drive(DriveSpec(), 1).ambience
    rows = len(make_maps(camera, ambience).light)
    assert rows >= 1080 - camera.pitched(-0.04).horizon_px
    assert rows >= 1080 - camera.pitched(0.04).horizon_px
