import numpy as np
import pytest

from avexp.augmentation.color import Color
from avexp.core.errors import ConfigError

KINDS = ("brightness", "contrast", "saturation", "hue")


def change(color, rgb, **numbers):
    """A colour after a change; numbers that are not given are in the middle of their range: no change."""
    matrix = color.draw(np.array([[numbers.get(kind, 0.5) for kind in KINDS]]))[0]
    return matrix[:, :3] @ np.array(rgb) + matrix[:, 3]


def test_the_middle_of_all_ranges_changes_nothing():
    assert change(Color(), [0.2, 0.5, 0.9]) == pytest.approx([0.2, 0.5, 0.9])


def test_brightness_is_a_gain_and_contrast_turns_about_middle_grey():
    assert change(Color(brightness_max=0.2), [0.2, 0.4, 0.6], brightness=0.0) == pytest.approx([0.16, 0.32, 0.48])
    assert change(Color(contrast_max=0.5), [0.5, 0.1, 0.9], contrast=0.0) == pytest.approx([0.5, 0.3, 0.7])


def test_no_saturation_is_grey_of_the_same_luma():
    luma = 0.299 * 0.2 + 0.587 * 0.5 + 0.114 * 0.9
    assert change(Color(saturation_max=1.0), [0.2, 0.5, 0.9], saturation=0.0) == pytest.approx([luma] * 3, abs=1e-3)


def test_a_turn_of_hue_keeps_grey_and_luma():
    color = Color(hue_max_deg=120.0)
    assert change(color, [0.4, 0.4, 0.4], hue=0.9) == pytest.approx([0.4] * 3, abs=1e-3)
    turned = change(color, [0.6, 0.4, 0.3], hue=0.9)
    assert turned @ np.array([0.299, 0.587, 0.114]) == pytest.approx(0.299 * 0.6 + 0.587 * 0.4 + 0.114 * 0.3, abs=1e-3)
    assert np.abs(turned - [0.6, 0.4, 0.3]).max() > 0.05


def test_ranges_are_checked():
    with pytest.raises(ConfigError, match=r"augmentation\.color\.hue_max_deg: 200 is not in 0\.0\.\.180\.0"):
        Color(hue_max_deg=200)
