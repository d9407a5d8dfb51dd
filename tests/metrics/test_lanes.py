import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avexp.metrics.lanes import LaneCounts, TusimpleScore, culane_counts, tusimple_score

CANVAS = (1640, 590)
HD = (1280, 720)


def upright(x: float, top: float = 100, bottom: float = 589) -> np.ndarray:
    return np.array([(x, bottom), (x, top)], np.float32)


def test_culane_counts_shifts_by_their_overlap():
    # 30 px wide lines shifted by 5: IoU = 25/35 > 0.5; by 15: 15/45 < 0.5
    truth = [upright(400), upright(800)]
    assert culane_counts([upright(405), upright(815)], truth, CANVAS) == LaneCounts(1, 1, 1)
    assert culane_counts(truth, truth, CANVAS).f1 == 1.0
    assert culane_counts([], truth, CANVAS) == LaneCounts(0, 0, 2)
    assert np.isnan(culane_counts([], [], CANVAS).f1)


def test_culane_scales_the_image_to_its_canvas():
    # 2 px at 640 wide are 5.1 px on the canvas, 5 px are 12.8: IoU 0.71 and 0.40
    truth = [upright(200, 20, 359)]
    assert culane_counts([upright(202, 20, 359)], truth, (640, 360)).tp == 1
    assert culane_counts([upright(205, 20, 359)], truth, (640, 360)).tp == 0


def test_culane_pairs_lanes_one_to_one_for_the_best_sum():
    # both predictions lie on the first truth, only one on the second: greedy by row would waste it
    truth = [upright(400), upright(410)]
    assert culane_counts([upright(405), upright(396)], truth, CANVAS).tp == 2


def lane(x: float, slope: float = 0.0, rows: slice = slice(None)) -> np.ndarray:
    y = np.arange(160, 720, 10)[rows][::-1]
    return np.stack([x + slope * (y - 160), y], 1).astype(np.float32)


def test_tusimple_tolerance_is_20_px_at_1280():
    truth = [lane(400), lane(800)]
    assert tusimple_score([lane(419), lane(821)], truth, HD) == TusimpleScore(0.5, 0.5, 0.5)


def test_tusimple_tolerance_widens_with_the_angle_and_scales_with_the_width():
    # slope 1 is 45 degrees: 20 / cos = 28.3 px
    assert tusimple_score([lane(427, 1)], [lane(400, 1)], HD).accuracy == 1.0
    assert tusimple_score([lane(429, 1)], [lane(400, 1)], HD).accuracy == 0.0
    half = [line / 2 for line in (lane(419), lane(400))]
    assert tusimple_score(half[:1], half[1:], (640, 360)).accuracy == 1.0
    assert tusimple_score([half[0] + [1, 0]], half[1:], (640, 360)).accuracy == 0.0


def test_tusimple_rows_that_both_leave_out_agree():
    # the left lane has all 56 rows and is met; the right one has the lower 40, the prediction the lower 30: 46 agree
    truth = [lane(400), lane(800, rows=slice(16, None))]
    score = tusimple_score([lane(400), lane(800, rows=slice(26, None))], truth, HD)
    assert score.accuracy == pytest.approx((1 + 46 / 56) / 2)
    # below 85 %: neither found nor right
    assert (score.fp, score.fn) == (0.5, 0.5)


def test_tusimple_judges_no_row_above_all_lanes():
    # only the lower 20 rows are labelled: being 30 px off there is being wrong everywhere
    assert tusimple_score([lane(430, rows=slice(36, None))], [lane(400, rows=slice(36, None))], HD).accuracy == 0
    # and a lane of 4 px between two rows is judged in its middle
    short = np.array([(400, 333), (400, 337)], np.float32)
    assert tusimple_score([short], [short], HD).accuracy == 1


def test_tusimple_forgives_one_lane_beyond_four_and_punishes_guessing():
    truth = [lane(100 + 200 * number) for number in range(5)]
    assert tusimple_score(truth[:4], truth, HD) == TusimpleScore(1, 0, 0)
    assert tusimple_score([lane(60 * n) for n in range(4)], [lane(0)], HD) == TusimpleScore(0, 0, 1)
    assert tusimple_score([], [lane(0)], HD) == TusimpleScore(0, 0, 1)


@given(st.floats(-0.5, 0.5), st.floats(300, 900))
def test_a_lane_agrees_with_itself(slope, x):
    assert tusimple_score([lane(x, slope)], [lane(x, slope)], HD).accuracy == 1.0
