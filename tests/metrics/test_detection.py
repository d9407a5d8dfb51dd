import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avexp.metrics.detection import average_precision
from avexp.metrics.detection_evidence import DetectionEvidence
from avexp.metrics.matching import FrameObjects, match

CLASSES = ["car", "truck", "sign"]


def frame(truths, found, ignore=()) -> FrameObjects:
    """truths: (class, box); found: (class, score, box)."""
    found = sorted(found, key=lambda entry: -entry[1])
    count, true_count = len(found), len(truths)
    return FrameObjects(
        boxes=np.array([box for _, _, box in found], np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in found], np.float32),
        classes=np.array([index for index, _, _ in found], np.int64),
        distances=np.full(count, np.nan, np.float32),
        states=np.full(count, -1, np.int64),
        true_boxes=np.array([box for _, box in truths], np.float32).reshape(-1, 4),
        true_classes=np.array([index for index, _ in truths], np.int64),
        true_distances=np.full(true_count, np.nan, np.float32),
        true_states=np.full(true_count, -1, np.int64),
        ignore=np.array(ignore, np.float32).reshape(-1, 4),
        ignore_classes=np.full(len(ignore), -1),
    )


def random_frames(seed: int, count: int = 20) -> list[FrameObjects]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        corners = rng.uniform(0, 200, (rng.integers(0, 6), 2))
        truths = [(int(rng.integers(3)), (*corner, *(corner + rng.uniform(10, 60, 2)))) for corner in corners]
        near = [
            (index, rng.random(), np.array(box) + rng.uniform(-4.9, 4.9, 4))
            for index, box in truths
            if rng.random() < 0.8
        ]
        far = [(int(rng.integers(3)), rng.random() * 0.7, (x, x, x + 30, x + 20)) for x in rng.uniform(0, 200, 5)]
        frames.append(frame(truths, near + far, [(0, 0, 50, 50)] if rng.random() < 0.4 else ()))
    return frames


def evidence(frames: list[FrameObjects]) -> DetectionEvidence:
    return DetectionEvidence.of(frames, [match(one) for one in frames], CLASSES)


HALF = [frame([(0, (0, 0, 10, 10)), (0, (50, 0, 60, 10))], [(0, 0.9, (80, 0, 90, 10)), (0, 0.8, (0, 0, 10, 10))])]


def test_ap_of_a_case_worked_out_by_hand():
    # the false alarm comes first: precision 1/2 at recall 1/2, nothing beyond. Recalls 0, 0.01 ... 0.5 are 51 of 101 points
    result = average_precision(HALF, CLASSES)
    assert result.ap50_of == {"car": pytest.approx(51 * 0.5 / 101)}
    assert result.ap50 == pytest.approx(51 * 0.5 / 101)
    # the box is exact, so that every threshold agrees
    assert result.ap50_95 == pytest.approx(result.ap50)


def test_overlap_of_0_7_counts_at_five_of_ten_thresholds():
    # intersection 7x10, union 10x10; 0.5 ... 0.7 pass, 0.75 ... do not
    result = average_precision([frame([(0, (0, 0, 10, 10))], [(0, 0.9, (0, 0, 7.001, 10))])], CLASSES)
    assert (result.ap50, result.ap50_95) == (pytest.approx(1), pytest.approx(0.5))


def test_without_truth_there_is_no_ap_and_output_is_silent(capfd):
    assert np.isnan(average_precision([frame([], [(0, 0.9, (0, 0, 9, 9))])], CLASSES).ap50)
    assert average_precision([frame([(1, (0, 0, 9, 9))], [])], CLASSES).ap50_of == {"truck": 0.0}
    assert capfd.readouterr() == ("", "")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_equal_weights_give_the_librarys_ap50(seed):
    frames = random_frames(seed)
    wanted = average_precision(frames, CLASSES)
    found = evidence(frames)
    assert found.ap50() == pytest.approx([wanted.ap50], abs=1e-12)
    for name, value in wanted.ap50_of.items():
        assert found.ap50(only=name) == pytest.approx([value], abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_weight_is_a_number_of_copies(seed):
    frames = random_frames(seed)
    copies = np.random.default_rng(seed).integers(0, 3, len(frames))
    copied = [one for one, count in zip(frames, copies, strict=True) for _ in range(count)]
    # equal scores of copies stand in another order, which moves the curve only between them
    assert evidence(frames).ap50(copies) == pytest.approx(evidence(copied).ap50(), abs=0.02)


def test_curve_of_the_case_by_hand():
    curve = evidence(HALF).curve("car")
    assert curve is not None
    assert (curve.recall.tolist(), curve.precision.tolist()) == ([0.5], [0.5])
    assert curve.score == pytest.approx([0.8])
    assert evidence(HALF).curve("sign") is None


def test_weights_of_nothing_give_nan():
    assert np.isnan(evidence(HALF).ap50(np.zeros((1, 1)))).all()
