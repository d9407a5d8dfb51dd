import numpy as np
import pytest

from avexp.metrics.constant import ConstantPredictor
from avexp.records.labels import Labels

SIZE = (640, 360)


def labels(x: float, bend: float = 0.0, lane_x: float = 300.0, right: bool = True) -> Labels:
    lanes = [{"id": "a", "image": {"front": [(lane_x, 359), (lane_x, 80)]}}]
    lanes += [{"id": "b", "image": {"front": [(400, 359), (400, 80)]}}] if right else []
    ring = [(x, 180), (640, 180), (640, 360), (x, 360)]
    return Labels.model_validate(
        {
            "annotator": {"name": "hand"},
            "tasks": ["objects", "lanes", "drivable", "path"],
            "objects": [
                {
                    "category": "car",
                    "box2d": {"front": {"x1": x, "y1": 100, "x2": x + 50, "y2": 140}},
                    "distance_m": 10 + x / 10,
                }
            ],
            "lanes": lanes,
            "drivable": [{"sensor": "front", "rings": [ring]}],
            "path": {"times_s": [1, 2], "positions_m": [(10, bend), (20, bend)], "curvature_1pm": bend},
        }
    )


def test_the_constant_of_a_case_by_hand():
    # three cars at nearly one place, one elsewhere; the right boundary is there once in four frames
    truths = [labels(0, 0.2, 296, False), labels(2, 0.2, 304, False), labels(4, 0, 300, False), labels(400)]
    said = ConstantPredictor.fit(truths, "front", SIZE, ["car", "truck"]).predict()
    assert said.scores.tolist() == [0.75, 0.25]
    assert said.boxes is not None
    assert said.boxes[1].tolist() == [400, 100, 450, 140]
    assert said.distances.tolist() == pytest.approx([10.2, 50])
    assert said.lane_slots.tolist() == [-1]
    assert said.lanes is not None
    assert said.lanes[0][:, 0] == pytest.approx(300)
    assert said.lanes[0][0, 1] > said.lanes[0][-1, 1]
    assert said.drivable is not None
    # rows of the lower half; columns from 4 px on are drivable in three of four frames
    assert said.drivable.sum() == 45 * 159 + 45
    assert said.curvature == pytest.approx(0.1)
    assert said.path is not None
    # two paths bend, two do not
    assert said.path[0] == pytest.approx([5, 0.05], abs=2e-3)


def test_tasks_without_labels_are_none():
    truth = Labels.model_validate({"annotator": {"name": "hand"}, "tasks": ["lanes"], "lanes": []})
    said = ConstantPredictor.fit([truth], "front", SIZE, ["car"]).predict()
    assert (said.boxes, said.drivable, said.path, said.curvature) == (None, None, None, None)
    assert said.lanes == []


def test_lanes_with_positions_keep_them():
    line = {"front": [(100.0, 359.0), (100.0, 80.0)]}
    lanes = [{"id": "a", "position": 2, "image": line}]
    truth = Labels.model_validate({"annotator": {"name": "hand"}, "tasks": ["lanes"], "lanes": lanes})
    said = ConstantPredictor.fit([truth], "front", SIZE, ["car"]).predict()
    assert said.lane_slots.tolist() == [2]
    assert np.isfinite(said.lanes[0]).all()
