import numpy as np
import pytest

from avexp.metrics.difficulty import ALL, EASY, HARD, MODERATE
from avexp.metrics.matching import FrameObjects, confusion, match, overlaps
from avexp.records.labels import Box2D, Labels
from avexp.records.prediction import Prediction

CLASSES = ["car", "truck"]


def truth(*objects: tuple[str, tuple[float, ...]], ignore: tuple[float, ...] | None = None) -> Labels:
    things = [
        {"category": name, "box2d": {"front": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))}}
        for name, box in objects
    ]
    regions = [{"sensor": "front", "box": ignore}] if ignore else []
    return Labels.model_validate(
        {"annotator": {"name": "hand"}, "tasks": ["objects"], "objects": things, "ignore": regions}
    )


def said(*objects: tuple[int, float, tuple[float, ...]]) -> Prediction:
    return Prediction(
        boxes=np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in objects], np.float32),
        classes=np.array([index for index, _, _ in objects], np.int64),
    )


def test_overlap_of_half_shifted_squares_is_a_third():
    # 10x10 squares shifted by 5: intersection 50, union 150
    squares = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert np.allclose(overlaps(squares[:1], squares), [[1, 1 / 3, 0]])
    assert np.allclose(overlaps(squares[:1], squares, of_first=True), [[1, 0.5, 0]])


def test_best_score_takes_the_truth_and_the_second_is_wrong():
    prediction = said((0, 0.6, (0, 0, 10, 10)), (0, 0.9, (0, 0, 10, 9)), (1, 0.8, (0, 0, 10, 10)))
    frame = FrameObjects.of(prediction, truth(("car", (0, 0, 10, 10))), "front", CLASSES)
    assert np.allclose(frame.scores, [0.9, 0.8, 0.6])
    # the truck prediction lies on the car: another class never matches
    assert match(frame).truth.tolist() == [0, -1, -1]
    assert not match(frame).ignored.any()


def test_ignore_region_swallows_what_lies_in_it_and_unknown_classes_are_ignored():
    labels = truth(("car", (0, 0, 10, 10)), ("tank", (50, 50, 60, 60)), ignore=(20, 0, 40, 20))
    prediction = said((0, 0.9, (22, 2, 30, 12)), (0, 0.8, (50, 50, 60, 60)), (0, 0.7, (80, 0, 90, 10)))
    frame = FrameObjects.of(prediction, labels, "front", CLASSES)
    assert match(frame).ignored.tolist() == [True, True, False]


def test_another_cameras_boxes_and_broken_predictions_do_not_count():
    frame = FrameObjects.of(
        said((0, 0.9, (5, 5, 5, 9)), (0, np.nan, (0, 0, 9, 9))), truth(("car", (0, 0, 9, 9))), "rear", CLASSES
    )
    assert len(frame.true_boxes) == 0
    assert len(frame.boxes) == 0


def test_only_the_hundred_best_of_a_class_count():
    many = said(*((0, 1 - number / 1000, (0, 0, 10, 10)) for number in range(120)))
    found = match(FrameObjects.of(many, truth(("car", (50, 50, 60, 60))), "front", CLASSES))
    assert found.ignored.sum() == 20


def test_confusion_counts_swaps_misses_and_inventions():
    labels = truth(("car", (0, 0, 10, 10)), ("truck", (20, 0, 30, 10)), ("truck", (40, 0, 50, 10)))
    prediction = said(
        (0, 0.9, (0, 0, 10, 10)), (0, 0.8, (20, 0, 30, 10)), (1, 0.7, (90, 0, 99, 9)), (1, 0.1, (40, 0, 50, 10))
    )
    table = confusion([FrameObjects.of(prediction, labels, "front", CLASSES)], CLASSES)
    # rows truth, columns prediction: car found; a truck taken for a car; a truck missed; a truck invented
    assert table.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("height", "occlusion", "truncation", "easy", "moderate", "hard"),
    [
        (40, 0.0, 0.0, True, True, True),
        (39, 0.0, 0.0, False, True, True),  # 40 px of 375 are the least of easy
        (24, 0.0, 0.0, False, False, False),  # 25 px are the least of the others
        (100, 0.4, 0.0, False, True, True),
        (100, 0.6, 0.0, False, False, True),
        (100, 0.0, 0.4, False, False, True),
        (100, 0.9, 0.0, False, False, False),
    ],
)
def test_levels_of_difficulty_are_kittis(height, occlusion, truncation, easy, moderate, hard):
    box = Box2D(x1=0, y1=0, x2=50, y2=height, occlusion=occlusion, truncation=truncation)
    assert [level.counts(box, 375) for level in (EASY, MODERATE, HARD)] == [easy, moderate, hard]
    assert ALL.counts(box, 375)


def test_what_is_too_hard_is_ignored_for_its_class_alone():
    labels = truth(("car", (0, 0, 40, 20)), ("car", (100, 0, 140, 30)))
    prediction = said((0, 0.9, (0, 0, 40, 19)), (0, 0.8, (0, -10, 40, 20)), (1, 0.7, (0, -10, 40, 20)))
    frame = FrameObjects.of(prediction, labels, "front", CLASSES, 375, MODERATE)
    # the car of 20 px does not count, and the prediction of 19 px is none that could
    assert frame.true_boxes.tolist() == [[100, 0, 140, 30]]
    assert frame.ignore_classes.tolist() == [0]
    assert np.allclose(frame.scores, [0.8, 0.7])
    assert match(frame).ignored.tolist() == [True, False], "a truck that is said to be there is wrong"
