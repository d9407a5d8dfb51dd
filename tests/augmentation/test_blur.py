import numpy as np
import torch

from avexp.augmentation.blur import Blur


def test_a_point_becomes_a_gaussian_and_a_plane_stays():
    image = torch.zeros(1, 3, 9, 9)
    image[..., 4, 4] = 1.0
    # the middle of 0.5..1.5 is a deviation of one pixel
    out = Blur(sigma_min_px=0.5, sigma_max_px=1.5).apply(image, np.array([[0.5]]))[0, 0].numpy()
    taps = np.exp(-np.array([4, 1, 0, 1, 4]) / 2)
    assert np.allclose(out[2:7, 2:7], np.outer(taps, taps) / taps.sum() ** 2, atol=1e-6)
    assert not out[:2].any()
    plane = torch.full((2, 3, 8, 8), 0.3)
    assert torch.allclose(Blur().apply(plane, np.array([[0.1], [0.9]])), plane)
