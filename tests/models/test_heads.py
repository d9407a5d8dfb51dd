"""Each head: targets of hand-made labels, and a decode that gives back what was encoded."""

import math
from dataclasses import replace

import pytest
import torch

from avexp.models.drivable import Drivable, rasterise
from avexp.models.head import Geometry, HeadInput
from avexp.models.lanes import SLOTS, Lanes, crossings
from avexp.models.objects import Objects, giou
from avexp.models.path import ARC_LENGTHS_M, Path, at_arc_lengths
from avexp.records.batch import Batch

SHARED = HeadInput(channels=[8] * 4, strides=[4, 8, 16, 32], size_px=(64, 96), classes=["car", "light"])
GEOMETRY = Geometry(scale=0.5, rows_px=60.0)
NAN = float("nan")


def labels(count=1, **changes):
    empty = {
        "images": torch.zeros(count, 3, 64, 96),
        "image_from_camera": torch.diag(torch.tensor([0.5, 0.5, 1.0])).repeat(count, 1, 1),
        "camera_size": torch.tensor([[192.0, 120.0]]).repeat(count, 1),
        "boxes": torch.zeros(count, 0, 4),
        "classes": torch.zeros(count, 0, dtype=torch.int64),
        "distances": torch.zeros(count, 0),
        "states": torch.zeros(count, 0, dtype=torch.int64),
        "ignore": torch.zeros(count, 0, 4),
        "lanes": torch.zeros(count, 0, 0, 2),
        "rings": torch.zeros(count, 0, 0, 2),
        "path": torch.zeros(count, 0, 3),
        "curvature": torch.full((count,), NAN),
        "speed": torch.full((count,), NAN),
        "camera_matrix": torch.full((count, 3, 3), NAN),
        "camera_pose": torch.full((count, 3), NAN),
        "labelled": torch.ones(count, 4, dtype=torch.bool),
        "conditions": torch.zeros(count, 3, dtype=torch.int64),
        "key_hashes": None,
        "keys": [str(number) for number in range(count)],
    }
    return Batch(**{**empty, **changes})


def perfect_objects(head, target):
    """Raw outputs that say exactly what the targets say."""
    centre = head.grid[None]
    box = target["box"]
    reach = torch.cat([centre - box[:, :2], box[:, 2:] - centre], 1) / head.stride
    return {
        "heat": torch.logit(target["heat"].clamp(1e-4, 1 - 1e-4)),
        "sides": torch.log(reach.clamp(min=1e-3)),
        "distance": torch.log(target["distance"].clamp(min=0.1) / 20.0)[:, None],
        "state": torch.nn.functional.one_hot(target["state"].clamp(min=0), 4).permute(0, 3, 1, 2).float(),
    }


@pytest.fixture
def two_objects():
    boxes = torch.tensor([[[10.0, 20.0, 34.0, 36.0], [60.0, 8.0, 70.0, 28.0]]])
    return labels(
        boxes=boxes,
        classes=torch.tensor([[0, 1]]),
        distances=torch.tensor([[30.0, 12.0]]),
        states=torch.tensor([[-1, 3]]),
    )


def test_objects_come_back_as_they_were_encoded(two_objects):
    head = Objects(SHARED, top_k=8)
    target = head.encode(two_objects)
    out = head.decode(perfect_objects(head, target), GEOMETRY)
    best = {int(kind): place for place, kind in reversed(list(enumerate(out["classes"][0, :2])))}
    for index, kind in enumerate((0, 1)):
        place = best[kind]
        assert torch.allclose(out["boxes"][0, place] * 0.5, two_objects.boxes[0, index], atol=1e-2)
        assert float(out["distances"][0, place]) == pytest.approx(float(two_objects.distances[0, index]), rel=1e-3)
        assert float(out["scores"][0, place]) > 0.99
    assert int(out["states"][0, best[1]]) == 3
    assert float(out["scores"][0, 2]) < 0.9, "two objects, two peaks"


def test_every_object_has_a_cell_of_one(two_objects):
    target = Objects(SHARED).encode(two_objects)
    assert int((target["heat"] == 1).sum()) == 2
    assert float(target["count"]) == 2
    assert float(target["weight"].sum()) == pytest.approx(2.0, abs=0.05)


def test_perfect_objects_cost_next_to_nothing(two_objects):
    head = Objects(SHARED)
    target = head.encode(two_objects)
    loss = head.loss(perfect_objects(head, target), target)
    assert float(loss["box"].total) < 0.05
    assert float(loss["distance"].total) < 1e-3


def test_an_ignore_box_is_no_background(two_objects):
    head = Objects(SHARED)
    ignoring = replace(two_objects, ignore=torch.tensor([[[40.0, 40.0, 60.0, 60.0]]]))
    negative = head.encode(ignoring)["negative"][0, 0]
    assert not negative[12, 12]
    assert negative[2, 2]


def test_frames_without_labels_add_no_loss(two_objects):
    unlabelled = replace(two_objects, labelled=torch.zeros(1, 4, dtype=torch.bool))
    features = [torch.randn(1, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    for make in (Objects, Lanes, Drivable, Path):
        head = make(SHARED)
        with torch.no_grad():
            terms = head.loss(head(features), head.encode(unlabelled))
        assert all(float(term.total) == 0 for term in terms.values()), make


@pytest.mark.parametrize("count", [0, 1])
def test_no_objects_at_all_is_sound(count):
    head = Objects(SHARED)
    batch = labels(
        2,
        boxes=torch.full((2, count, 4), NAN),
        classes=torch.full((2, count), -1),
        distances=torch.full((2, count), NAN),
        states=torch.full((2, count), -1),
    )
    features = [torch.randn(2, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    with torch.no_grad():
        terms = head.loss(head(features), head.encode(batch))
    assert all(math.isfinite(float(term.total)) for term in terms.values())
    assert float(terms["heat"].count) == 0


def test_giou_by_hand():
    one = torch.tensor([0.0, 0.0, 2.0, 2.0]).view(1, 4, 1, 1)
    two = torch.tensor([1.0, 0.0, 3.0, 2.0]).view(1, 4, 1, 1)
    far = torch.tensor([4.0, 0.0, 6.0, 2.0]).view(1, 4, 1, 1)
    assert float(giou(one, one)) == pytest.approx(1.0)
    assert float(giou(one, two)) == pytest.approx(2 / 6)  # hull equals union
    assert float(giou(one, far)) == pytest.approx(-4 / 12)  # hull 12, union 8


def test_lanes_take_their_slots_from_where_they_meet_the_bottom():
    lines = torch.tensor([[[[30.0, 60.0], [45.0, 20.0]], [[66.0, 60.0], [51.0, 20.0]], [[2.0, 60.0], [40.0, 20.0]]]])
    head = Lanes(SHARED)
    x = head.encode(labels(lanes=lines))["x"][0]
    present = [bool(torch.isfinite(x[number]).any()) for number in range(len(SLOTS))]
    assert present == [True, True, True, False]
    row = 5  # centre at 44 px
    assert float(x[1, row]) * 8 == pytest.approx(30 + 15 * (60 - 44) / 40, abs=1e-3)


def test_lanes_come_back_as_they_were_encoded():
    lines = torch.tensor([[[[30.0, 60.0], [45.0, 20.0]]]])
    head = Lanes(SHARED)
    target = head.encode(labels(lanes=lines))
    near = (1 - (head.column_x - torch.nan_to_num(target["x"])[..., None]).abs()).clamp(min=0)
    present = torch.isfinite(target["x"])
    raw = {
        "place": torch.log(near.clamp(min=1e-9)),
        "exist": torch.where(present, 9.0, -9.0)[..., None].expand_as(near),
        "lane_map": torch.logit(target["map"].clamp(1e-3, 1 - 1e-3)),
    }
    out = head.decode(raw, GEOMETRY)
    assert torch.allclose(out["lane_x"][0][present[0]] * 0.5, target["x"][0][present[0]] * 8, atol=0.01)
    assert ((out["lane_score"][0] > 0.5) == present[0]).all()
    assert float(head.loss(raw, target)["exist"].total) < 0.1


def test_crossings_by_hand():
    line = torch.tensor([[[[0.0, 10.0], [10.0, 0.0], [NAN, NAN]]]])
    x = crossings(line, torch.tensor([2.5, 5.0, 12.0]))
    assert x[0, 0, :2].tolist() == [7.5, 5.0]
    assert torch.isnan(x[0, 0, 2])
    assert crossings(line, torch.tensor([12.0]), reach_px=4.0)[0, 0].tolist() == [-2.0]


def test_rasterise_with_a_hole():
    rings = torch.tensor(
        [
            [
                [[8.0, 8.0], [40.0, 8.0], [40.0, 40.0], [8.0, 40.0]],
                [[16.0, 16.0], [24.0, 16.0], [24.0, 24.0], [16.0, 24.0]],
            ]
        ]
    )
    mask = rasterise(rings, 12, 12, 4)[0]
    assert int(mask.sum()) == 8 * 8 - 2 * 2
    assert mask[2, 2]
    assert not mask[4, 4]
    assert not rasterise(torch.full((1, 1, 3, 2), NAN), 4, 4, 4).any()


def test_the_mask_covers_the_camera_image_only():
    head = Drivable(SHARED)
    out = head.decode({"mask": torch.ones(1, 1, 16, 24)}, GEOMETRY)
    assert out["drivable"].shape == (1, 30, 48)  # 60 of 64 rows, two cells a stride
    assert out["drivable"].dtype == torch.uint8


def test_arc_lengths_by_hand():
    line = torch.tensor([[[10.0, 0.0], [10.0, 10.0], [NAN, NAN]]])
    points = at_arc_lengths(line, torch.tensor([5.0, 10.0, 15.0, 25.0]))[0]
    assert points[:3].tolist() == [[5, 0], [10, 0], [10, 5]]
    assert torch.isnan(points[3]).all()


def test_the_path_comes_back_and_its_far_end_is_not_asked_for():
    seconds = torch.arange(1, 9) * 0.5
    path = torch.stack([seconds, seconds * 10, torch.zeros(8)], 1)[None]
    head = Path(SHARED)
    target = head.encode(labels(path=path, curvature=torch.tensor([0.01])))
    known = torch.isfinite(target["points"]).all(-1)[0]
    assert known.tolist() == [length <= 40 for length in ARC_LENGTHS_M]
    raw = {"offset": torch.zeros(1, len(ARC_LENGTHS_M), 2), "bend": torch.tensor([1.0])}
    loss = head.loss(raw, target)
    assert float(loss["points"].total) == pytest.approx(0, abs=1e-6)
    assert float(loss["curvature"].total) == pytest.approx(0, abs=1e-6)
    out = head.decode(raw, GEOMETRY)
    assert out["path"][0, 1].tolist() == [10, 0]
    assert float(out["curvature"]) == pytest.approx(0.01)
