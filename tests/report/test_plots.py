import cv2
import numpy as np
import pytest

from avexp.report import plots

STEPS = np.arange(50)
DRAWN = {
    "line": lambda: plots.line_plot({"AP50": ([1, 2, 3], [0.1, 0.3, 0.5])}, "AP50", "epoch", "AP50"),
    "loss": lambda: plots.loss_curves({"objects": (STEPS, np.exp(-STEPS / 9)), "path": (STEPS, STEPS - 9.0)}, smooth=5),
    "pr": lambda: plots.pr_curves({"car": ([0.2, 0.5], [1, 0.8]), "truck": ([], [])}, {"car": 0.5}),
    "confusion": lambda: plots.confusion_matrix(np.array([[3, 0, 1], [1, 2, 0], [4, 0, 0]]), ["car", "truck"]),
    "reliability": lambda: plots.reliability_curve(
        np.array([np.nan, 0.7]), np.array([np.nan, 0.6]), np.array([0, 9]), 0.1
    ),
    "bars": lambda: plots.condition_bars({"AP50": {"day": 0.7, "night": 0.5}, "F1": {"day": 0.9}}),
    "latency": lambda: plots.latency_histogram({"fp32": [9.0, 10, 11], "none": []}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_each_plot_is_a_transparent_png_with_something_on_it(name):
    content = DRAWN[name]()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image.shape[1] >= 890
    assert image.shape[2] == 4
    assert image[0, 0, 3] == 0
    assert 0.002 < (image[..., 3] > 0).mean() < 0.7


def test_the_same_data_give_the_same_bytes_without_a_global_figure():
    import matplotlib.pyplot as pyplot

    assert DRAWN["bars"]() == DRAWN["bars"]()
    assert pyplot.get_fignums() == []
