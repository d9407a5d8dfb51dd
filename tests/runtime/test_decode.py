import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.models.postprocess import ObjectFilter, Postprocess
from avexp.runtime.decode import decode_frame
from avexp.runtime.errors import BundleError

CONSTANTS = {
    "classes": ["car", "light"],
    "states": ["off", "red"],
    "lane_rows_px": [1, 2, 3, 4],
    "lane_slots": [-1],
    "path_arc_m": [5.0, 10.0],
}


def outputs(**changes):
    return {
        "boxes": np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.float32),
        "scores": np.array([0.9, 0.1], np.float32),
        "classes": np.array([1, 0]),
        "distances": np.array([12.5, 3], np.float32),
        "states": np.array([1, 0]),
        "lane_x": np.array([[9.0, 8, 7, 6]], np.float32),
        "lane_score": np.array([[0.1, 0.9, 0.9, 0.9]], np.float32),
        "path": np.zeros((2, 2), np.float32),
        "curvature": np.float32(0.5),
        **changes,
    }


def test_outputs_become_plain_values():
    found = decode_frame(outputs(), CONSTANTS, (10, 10))
    light = {"category": "light", "score": pytest.approx(0.9), "box": [0, 1, 2, 3], "distance_m": 12.5, "state": "red"}
    assert found["objects"] == [light]
    # rows 4, 3, 2 are kept, near to far; the lane goes half a row (0.5) further at both ends, at one pixel a row
    assert found["lanes"][0]["points"] == [[5.5, 4.5], [6, 4], [7, 3], [8, 2], [8.5, 1.5]]
    assert found["curvature"] == 0.5
    assert found["path_arc_m"] == [5.0, 10.0]


def test_the_manifest_says_the_rules():
    two = outputs(boxes=np.array([[0, 0, 4, 4], [0, 0, 4, 4]], np.float32))
    two |= {"scores": np.array([0.9, 0.8], np.float32), "classes": np.array([1, 1])}
    assert len(decode_frame(two, CONSTANTS, (10, 10))["objects"]) == 1, "two boxes of one class on one spot are one"
    keep_all = {**CONSTANTS, "decode": {"nms_iou": None, "lane_score_min": 0.95}}
    found = decode_frame(two, keep_all, (10, 10))
    assert len(found["objects"]) == 2
    assert found["lanes"] == []
    assert decode_frame(two, keep_all, (10, 10), score_min=0.95)["objects"] == []


@pytest.mark.parametrize("name", ["scores", "lane_x", "path", "curvature"])
def test_a_nan_is_not_an_empty_road(name):
    bad = outputs()
    bad[name] = bad[name] * np.float32(np.nan)
    with pytest.raises(BundleError, match=f"{name}: the plan gave a value that is not finite"):
        decode_frame(bad, CONSTANTS, (10, 10))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_car_sees_what_was_judged(seed):
    """The runtime's decoding against the post-processing that the gate judged the plan with."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-4, 30, (12, 2))
    raw = {
        "boxes": np.concatenate([corners, corners + rng.uniform(1, 14, (12, 2))], 1).astype(np.float32),
        "scores": np.sort(rng.uniform(0, 1, 12).astype(np.float32))[::-1].copy(),
        "classes": rng.integers(0, 2, 12),
        "distances": rng.uniform(1, 90, 12).astype(np.float32),
        "states": rng.integers(0, 2, 12),
        "lane_x": rng.uniform(0, 30, (2, 6)).astype(np.float32),
        "lane_score": rng.uniform(0, 1, (2, 6)).astype(np.float32),
    }
    constants = {**CONSTANTS, "lane_rows_px": [2.0, 6.0, 10.0, 14.0, 18.0, 22.0], "lane_slots": [-1, 1]}
    judge = Postprocess(objects=ObjectFilter(score_min=0.3))
    (wanted,) = judge({name: value[None] for name, value in raw.items()}, constants, (32, 24))
    found = decode_frame(raw, constants, (32, 24))
    assert [thing["box"] for thing in found["objects"]] == wanted.boxes.tolist()
    assert [thing["distance_m"] for thing in found["objects"]] == wanted.distances.tolist()
    assert [lane["position"] for lane in found["lanes"]] == wanted.lane_slots.tolist()
    assert [lane["points"] for lane in found["lanes"]] == [line.tolist() for line in wanted.lanes]
