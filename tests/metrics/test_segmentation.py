import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.metrics.segmentation import iou_counts, rasterise
from avexp.records.labels import Labels


def labels(*rings, ignore=None) -> Labels:
    regions = [{"sensor": "front", "box": ignore, "tasks": ["drivable"]}] if ignore else []
    area = [{"sensor": "front", "rings": list(rings)}]
    return Labels.model_validate(
        {"annotator": {"name": "hand"}, "tasks": ["drivable"], "drivable": area, "ignore": regions}
    )


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high)]


def test_a_ring_in_a_ring_is_a_hole():
    # 80x80 px in a 100x100 image on 10x10 cells: 64 cells, less a hole of 4x4
    mask = rasterise([square(10, 90), square(30, 70)], (10, 10), (100, 100))
    assert mask.sum() == 64 - 16
    assert mask[5, 5] == 0
    assert mask[1, 1] == 1
    assert rasterise([], (4, 3), (100, 100)).shape == (3, 4)


def test_iou_of_a_case_by_hand():
    # truth: columns and rows 0..4 of 10; said: all rows 0..4. 25 cells of 50
    said = np.zeros((10, 10), np.uint8)
    said[:5] = 1
    assert iou_counts(said, labels(square(0, 50)), "front", (100, 100)) == (25, 50)
    assert iou_counts(said, labels(square(0, 50)), "rear", (100, 100)) == (0, 50)


def test_ignored_cells_count_neither_way():
    said = np.zeros((10, 10), np.uint8)
    said[:5] = 1
    # the right half of the image is ignored: only the labelled cells are left
    assert iou_counts(said, labels(square(0, 50), ignore=(50, 0, 100, 100)), "front", (100, 100)) == (25, 25)


@given(st.integers(5, 60), st.integers(20, 60))
def test_area_of_a_rectangle_is_kept(left, width):
    ring = [(left, 20), (left + width, 20), (left + width, 80), (left, 80)]
    area = int(rasterise([ring], (64, 64), (128, 128)).sum()) * 4
    # the rounding of each border to half a cell of 2 px
    assert area == pytest.approx(width * 60, abs=2 * 60 + 2 * width)
