import numpy as np
import pytest

from avexp.world.mesh import MeshBuilder
from avexp.world.vehicles import TRAIN_CARS, make_car, make_truck


def test_faces_look_outward():
    b = MeshBuilder()
    b.frustum((-1, 1, 1, 1), (-1, 1, 1, 1), (0, 2), {"all": (1, 2, 3)})
    mesh = b.build()
    for face, facts in zip(mesh.faces, mesh.facts, strict=True):
        middle = mesh.vertices[face, :3].mean(axis=0) - (0, 0, 1)
        assert float(middle @ facts[3:6]) > 0
    assert mesh.radius_m == pytest.approx(2**0.5)
    assert mesh.height_m == 2


def test_stick_widens_the_reach():
    b = MeshBuilder()
    b.stick((0, 0, 0), (0, 0, 1), 0.25, (0, 0, 0))
    mesh = b.build()
    assert mesh.radius_m == 0.25
    assert mesh.sticks[0].tolist() == [0, 1, 0.25, 0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_vehicles_fill_their_size_and_stand_on_the_ground(seed):
    rng = np.random.default_rng(seed)
    for vehicle in (make_car(rng, TRAIN_CARS, (100, 0, 0)), make_truck(rng, (0, 0, 90), (200, 200, 200))):
        low, high = vehicle.mesh.vertices[:, :3].min(axis=0), vehicle.mesh.vertices[:, :3].max(axis=0)
        assert low[2] == pytest.approx(0, abs=0.03)
        assert high[2] == pytest.approx(vehicle.size_m[2], abs=0.05)
        assert high[0] - low[0] == pytest.approx(vehicle.size_m[0], abs=0.15)
        # mirrors stand out
        assert vehicle.size_m[1] - 0.1 <= high[1] - low[1] <= vehicle.size_m[1] + 0.4


def test_truck_is_painted_from_far_to_near():
    truck = next(
        t for t in (make_truck(np.random.default_rng(i), (0, 0, 90), (9, 9, 9)) for i in range(20)) if t.mesh.reverse
    )
    assert truck.mesh.reverse is not None
    first, last = truck.mesh.vertices[truck.mesh.faces[[0, -1]], 0].mean(axis=1)
    assert first > last  # seen from behind, the cab comes first
    first, last = truck.mesh.vertices[truck.mesh.reverse.faces[[0, -1]], 0].mean(axis=1)
    assert first < last
