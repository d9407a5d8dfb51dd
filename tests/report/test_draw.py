import numpy as np
import pytest

from avexp.records.labels import TASKS, Labels
from avexp.records.prediction import Prediction
from avexp.report.draw import CLASS_COLOURS, DRIVABLE, LANE, LIGHT_COLOURS, PATH, TRUTH, draw_frame, heat
from avexp.report.ground import GroundCamera

CAMERA = GroundCamera(np.array([[500, 0, 320], [0, 500, 180], [0, 0, 1]], np.float32), 1.5)
GREY = np.full((360, 640, 3), 90, np.uint8)


def prediction(score: float = 0.9) -> Prediction:
    mask = np.zeros((90, 160), np.uint8)
    mask[60:] = 1
    return Prediction(
        boxes=np.array([(100, 60, 200, 160), (300, 20, 310, 50)], np.float32),
        scores=np.array([score, score], np.float32),
        classes=np.array([0, 5]),
        distances=np.array([20, np.nan], np.float32),
        states=np.array([0, 3]),
        lanes=[np.array([(500, 350), (500, 100)], np.float32)],
        drivable=mask,
        path=np.array([(10, 0), (40, 0)], np.float32),
    )


def truth() -> Labels:
    return Labels.model_validate(
        {
            "annotator": {"name": "hand"},
            "tasks": TASKS,
            "objects": [{"category": "car", "box2d": {"front": {"x1": 400, "y1": 60, "x2": 450, "y2": 160}}}],
            "lanes": [{"id": "a", "image": {"front": [(50.5, 350), (50.5, 100)], "rear": [(9, 9), (9, 90)]}}],
            "drivable": [{"sensor": "front", "rings": [[(0, 250), (640, 250), (640, 360)]]}],
            "path": {"times_s": [1, 2], "positions_m": [(10, 1), (20, 2)]},
        }
    )


def near(image, x, y, colour) -> bool:
    patch = image[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).astype(int)
    return bool((np.abs(patch - colour).max(1) < 40).any())


def test_every_task_leaves_its_colour_where_it_belongs():
    image = draw_frame(GREY, prediction(), camera=CAMERA, legend=False)
    assert near(image, 100, 130, CLASS_COLOURS[0])
    assert near(image, 300, 40, LIGHT_COLOURS["green"])
    assert near(image, 500, 200, LANE)
    assert (image[300, 30].astype(int) - GREY[300, 30] @ np.eye(3)).argmax() == np.argmax(DRIVABLE)
    # the ribbon's left border at 10 m: 500 * 0.85 / 10 left of the middle, 75 below the horizon
    assert near(image, 320 - 42, 180 + 75, PATH)
    # the frame itself is untouched, as is what nothing was said about
    assert (GREY == 90).all()
    assert (image[10, 10] == 90).all()


def test_truth_is_dashed_and_of_one_camera():
    image = draw_frame(GREY, None, truth(), camera=CAMERA, legend=False)
    column = image[100:350, 49:52].max(1)
    white = (np.abs(column.astype(int) - TRUTH) < 40).all(1)
    assert 0.2 < white.mean() < 0.8
    assert (image[50, 5:15] == 90).all()


def test_a_smaller_copy_is_drawn_to_scale_and_low_scores_are_left_out():
    half = draw_frame(GREY[::2, ::2], prediction(), camera_size=(640, 360), legend=False)
    assert near(half, 250, 100, LANE)
    faint = draw_frame(GREY, prediction(0.1), legend=False)
    assert not near(faint, 100, 130, CLASS_COLOURS[0])


def test_legend_and_nothing_to_draw():
    assert (draw_frame(GREY) == GREY).all()
    assert (
        draw_frame(GREY, prediction(), truth())[340:] != draw_frame(GREY, prediction(), truth(), legend=False)[340:]
    ).any()


@pytest.mark.parametrize("line", [[(np.nan, 1), (5, 5)], [(-1e9, 0), (1e9, 300)], [(3, 3)]])
def test_odd_lines_do_no_harm(line):
    draw_frame(GREY, Prediction(lanes=[np.array(line, np.float32)], boxes=np.zeros((0, 4), np.float32)))


def test_heat_is_warm_where_the_map_is_high_and_grey_elsewhere():
    attribution = np.zeros((36, 64), np.float32)
    attribution[10:20, 10:20] = 7
    attribution[0, 0] = np.nan
    image = heat(GREY, attribution).astype(int)
    assert image[150, 150, 0] > image[150, 150, 2] + 50
    assert (image[300, 500] == 90).all()
    assert (heat(GREY, np.zeros((4, 4), np.float32)) == GREY).all()
