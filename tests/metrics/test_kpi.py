import pickle

import numpy as np
import pytest

from avexp.core.errors import DataError
from avexp.metrics.kpi import HEADLINES, KPIS, KpiAccumulator, error_of, find_kpi
from avexp.records.labels import TASKS, Labels
from avexp.records.prediction import Prediction

SIZE = (640, 360)


def labels(light: str = "day", tasks=TASKS) -> Labels:
    box = {"x1": 100, "y1": 100, "x2": 150, "y2": 140}
    objects = [
        {"category": "car", "box2d": {"front": box}, "distance_m": 20},
        {"category": "light", "box2d": {"front": {**box, "y2": 200}}, "attributes": {"state": "red"}},
    ]
    return Labels.model_validate(
        {
            "annotator": {"name": "hand"},
            "tasks": tasks,
            "conditions": {"light": light},
            "objects": objects,
            "lanes": [{"id": "l", "image": {"front": [(320, 359), (320, 80)]}}],
            "drivable": [{"sensor": "front", "rings": [[(0, 180), (640, 180), (640, 360), (0, 360)]]}],
            "path": {"times_s": [1, 2, 3], "positions_m": [(10, 0), (20, 0), (30, 0)], "curvature_1pm": 0.01},
        }
    )


def prediction(lane_x: float = 320, state: int = 1) -> Prediction:
    mask = np.zeros((90, 160), np.uint8)
    mask[45:] = 1
    return Prediction(
        boxes=np.array([(100, 100, 150, 140), (100, 100, 150, 200)], np.float32),
        scores=np.array([0.9, 0.8], np.float32),
        classes=np.array([0, 5]),
        distances=np.array([23, 5], np.float32),
        states=np.array([0, state]),
        lanes=[np.array([(lane_x, 359), (lane_x, 80)], np.float32)],
        drivable=mask,
        path=np.array([(10, 0), (20, 0), (40, 0)], np.float32),
        curvature=0.012,
    )


def filled(*frames: tuple[str, Prediction, Labels]) -> KpiAccumulator:
    accumulator = KpiAccumulator()
    for key, said, truth in frames:
        accumulator.update(key, said, truth, "front", SIZE)
    return accumulator


def test_every_kpi_of_a_frame_by_hand():
    values = filled(("a", prediction(), labels())).compute()
    perfect = ["objects/ap50", "objects/ap50/car", "objects/ap50/light", "lanes/f1", "lanes/tusimple_accuracy"]
    assert {name: values[name] for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1))
    assert values["drivable/iou"] == 1
    assert values["path/error_2s_m"] == pytest.approx(0)
    assert values["path/curvature_mae_1pm"] == pytest.approx(0.002)
    # only the car's distance is labelled: 23 against 20 m
    assert values["objects/distance_error_m"] == pytest.approx(3)
    assert values["objects/light_state_accuracy"] == 1
    # scores 0.9 and 0.8, both right
    assert values["objects/ece"] == pytest.approx(0.15, abs=1e-6)
    assert "objects/ap50/truck" not in values


def test_conditions_are_apart():
    both = filled(("a", prediction(), labels()), ("b", prediction(lane_x=400), labels("night")))
    assert both.compute()["lanes/f1"] == 0.5
    assert both.compute({"light": "night"})["lanes/f1"] == 0
    assert both.conditions() == [{"light": "day"}, {"light": "night"}]
    assert both.compute_by_condition()["light=day"]["lanes/f1"] == 1
    assert both.compute({"light": "dusk"}) == {}
    with pytest.raises(DataError, match="did you mean light"):
        both.compute({"ligth": "night"})


def test_a_task_without_label_or_prediction_counts_nothing():
    assert set(filled(("a", prediction(), labels(tasks=["lanes"]))).compute()) == {
        name for name in KPIS if name.startswith("lanes/")
    }
    assert filled(("a", Prediction(), labels())).compute() == {}


def test_a_frame_counts_once_on_any_number_of_ranks():
    frames = [(str(number), prediction(320 + 3 * number), labels()) for number in range(4)]
    one = filled(*frames, frames[0])
    first, second = filled(*frames[2:]), filled(*frames[:3])
    first.merge(KpiAccumulator.from_state(pickle.loads(pickle.dumps(second.state()))))
    assert len(first) == len(one) == 4
    assert first.compute() == one.compute()
    with pytest.raises(DataError, match="differ"):
        one.merge(KpiAccumulator(["car"]))


def test_one_headline_a_task_and_errors_shrink_to_zero():
    assert set(HEADLINES) == set(TASKS)
    assert error_of(KPIS["objects/ap50"], 0.8) == pytest.approx(0.2)
    assert error_of(KPIS["path/error_2s_m"], 0.8) == 0.8
    assert find_kpi("objects/ap50/tram").task == "objects"
    with pytest.raises(DataError, match="did you mean lanes/f1"):
        find_kpi("lanes/f2")


def test_curves_confusion_and_reliability():
    accumulator = filled(("a", prediction(), labels()))
    assert set(accumulator.curves()) == {"car", "light"}
    # both boxes overlap both truths; the better scored car takes the truth that it fits best
    assert np.diag(accumulator.confusion())[[0, 5]].tolist() == [1, 1]
    assert accumulator.reliability().count.sum() == 2
