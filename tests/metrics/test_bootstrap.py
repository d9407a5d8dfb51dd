import numpy as np
import pytest

from avexp.core.errors import DataError
from avexp.metrics.bootstrap import Interval, paired_bootstrap, relative_loss
from avexp.metrics.frame_evidence import FrameEvidence
from avexp.metrics.kpi import KPIS, KpiAccumulator

PATH, F1 = "path/error_2s_m", "lanes/f1"


def of_values(name: str, values) -> KpiAccumulator:
    accumulator = KpiAccumulator()
    for number, value in enumerate(values):
        accumulator.frames[f"{number:04d}"] = FrameEvidence(conditions={}, sums={name: (float(value), 1.0)})
    return accumulator


def test_the_same_predictions_lose_nothing():
    side = of_values(F1, [0.5, 1, 0, 1])
    assert paired_bootstrap(side, side, F1) == Interval(0, 0, 0)


def test_a_steady_loss_has_a_narrow_interval_though_frames_vary():
    hard = np.random.default_rng(0).uniform(0, 1, 200)
    loss = paired_bootstrap(of_values(F1, hard), of_values(F1, hard * 0.9), F1)
    # the draws are paired: each of them loses exactly a tenth
    assert (loss.loss, loss.low, loss.high) == pytest.approx((0.1, 0.1, 0.1))
    gain = paired_bootstrap(of_values(PATH, hard), of_values(PATH, hard * 0.9), PATH)
    assert gain.loss == pytest.approx(-0.1)


def test_noise_without_loss_includes_zero_and_has_the_textbook_width():
    rng = np.random.default_rng(1)
    hard, noise = rng.uniform(0.5, 1.5, 400), rng.normal(0, 0.1, 400)
    noise -= noise.mean()
    found = paired_bootstrap(of_values(PATH, hard), of_values(PATH, hard + noise), PATH)
    assert found.low < 0 < found.high
    # mean of 400 differences of sigma 0.1: standard error 0.005, relative to a mean error of about 1
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.005 / hard.mean(), rel=0.15)


def test_direction_of_loss():
    first, second = np.array([0.8, 0.0, np.nan]), np.array([0.6, 0.0, 1.0])
    assert relative_loss(KPIS[F1], first, second) == pytest.approx([0.25, 0, np.nan], nan_ok=True)
    assert relative_loss(KPIS[PATH], first, second) == pytest.approx([-0.25, 0, np.nan], nan_ok=True)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(DataError, match="of which 1 are the same"):
        paired_bootstrap(of_values(F1, [1]), of_values(F1, [1, 1]), F1)
    with pytest.raises(DataError, match="use objects/ap50"):
        paired_bootstrap(of_values(F1, [1]), of_values(F1, [1]), "objects/ece")
    assert np.isnan(paired_bootstrap(of_values(F1, [1]), of_values(F1, [1]), PATH).loss)
