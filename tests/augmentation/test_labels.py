import torch
from augmentation_fixture import SIZE, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.augmentation.labels import clip_boxes, map_labels, move_boxes, move_points
from avexp.augmentation.pipeline import prepare

NAN = float("nan")


def test_points_divide_by_their_depth_and_nan_stays():
    matrix = torch.tensor([[[2.0, 0, 1], [0, 2, 0], [0, 0, 4]]])
    points = torch.tensor([[[3.0, 4.0], [NAN, NAN]]])
    moved = move_points(matrix, points)
    assert moved[0, 0].tolist() == [7 / 4, 2.0]
    assert torch.isnan(moved[0, 1]).all()


def test_a_box_turned_by_a_quarter():
    # (x, y) -> (-y, x)
    matrix = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    boxes = torch.tensor([[[1.0, 2.0, 4.0, 8.0], [NAN] * 4]])
    moved = move_boxes(matrix, boxes)
    assert moved[0, 0].tolist() == [-8.0, 1.0, -2.0, 4.0]
    assert torch.isnan(moved[0, 1]).all()


def test_a_box_is_dropped_by_its_visible_share_or_side():
    boxes = torch.tensor(
        [[[-8.0, 0, 2, 10], [-7.9, 0, 2.1, 10], [5, 5, 6.9, 20], [5, 5, 7, 20], [400, 0, 410, 10], [NAN] * 4]]
    )
    clipped, kept = clip_boxes(boxes, (100, 320))
    # 20 % and more of the first two remain; the third is too narrow; the fifth is outside
    assert kept[0].tolist() == [True, True, False, True, False, False]
    assert clipped[0, 1].tolist() == [0.0, 0.0, 2.0999999046325684, 10.0]
    assert not clip_boxes(torch.tensor([[[-8.1, 0, 1.9, 10]]]), (100, 320))[1].any()


def test_a_dropped_box_is_forgotten_and_its_rest_ignored():
    batch = make_batch(
        1, boxes=[[10.0, 10.0, 110.0, 60.0], [200.0, 10.0, 260.0, 60.0]], ignore=[[0.0, 0.0, 20.0, 20.0]]
    )
    left = torch.eye(3, dtype=torch.float64)[None].clone()
    left[0, 0, 2] = -100.0
    out = map_labels(batch, left, torch.tensor([False]), SIZE)
    assert out.classes.tolist() == [[-1, 0]]
    assert torch.isnan(out.boxes[0, 0]).all()
    assert torch.isnan(out.distances[0, 0])
    assert out.boxes[0, 1].tolist() == [100.0, 10.0, 160.0, 60.0]
    # the ignore box left the image; what is to be seen of the car counts neither way; the other car counts
    assert torch.isnan(out.ignore[0, 0]).all()
    assert out.ignore[0, 1].tolist() == [0.0, 10.0, 10.0, 60.0]
    assert torch.isnan(out.ignore[0, 2]).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-500, 800), min_size=4, max_size=4))
def test_boxes_stay_within_the_image(sides):
    x1, x2 = sorted(sides[:2])
    y1, y2 = sorted(sides[2:])
    box = prepare(make_batch(1, boxes=[[x1, y1, x2 + 1, y2 + 1]]), SIZE).boxes[0, 0]
    if torch.isfinite(box).all():
        assert 0 <= box[0] < box[2] <= 320
        assert 0 <= box[1] < box[3] <= 192
