import numpy as np
import pytest

from avexp.metrics.calibration import reliability


def test_ece_of_a_case_by_hand():
    # bin 0.9..1: four at 0.95, 3 right -> gap 0.20; bin 0.2..0.3: one at 0.25, wrong -> gap 0.25
    curve = reliability([0.95] * 4 + [0.25], [1, 1, 1, 0, 0])
    assert curve.ece == pytest.approx((4 * 0.20 + 1 * 0.25) / 5)
    assert curve.count.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 4]
    assert curve.accuracy[9] == 0.75
    assert np.isnan(curve.accuracy[0])


def test_low_scores_can_be_left_out_and_nothing_is_nan():
    assert reliability([0.01, 1.0], [0, 1], least_score=0.05).count.sum() == 1
    assert np.isnan(reliability([], []).ece)


def test_masks_of_probabilities_are_pairs_too():
    assert reliability(np.full((4, 4), 0.5), np.eye(4)).ece == pytest.approx(0.25)
