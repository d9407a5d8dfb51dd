import numpy as np
import pytest
import torch

from avexp.augmentation.noise import Noise


def test_noise_has_its_deviation_and_its_offset():
    image = torch.full((3, 3, 64, 64), 0.5)
    out = Noise(sigma_max=0.1).apply(image, np.array([[0.5, 0.1], [1.0, 0.1], [0.5, 0.2]])) - 0.5
    assert float(out[0].std()) == pytest.approx(0.05, rel=0.05)
    assert torch.allclose(out[1], 2 * out[0], atol=1e-6)
    assert abs(float((out[0] * out[2]).mean())) < 1e-4
    assert float(image.min()) == 0.5


def test_a_larger_image_does_not_change_the_bank():
    noise, numbers = Noise(sigma_max=0.1), np.array([[0.5, 0.1]])
    small = noise.apply(torch.zeros(1, 3, 8, 8), numbers)
    noise.apply(torch.zeros(1, 3, 64, 64), numbers)
    assert torch.equal(noise.apply(torch.zeros(1, 3, 8, 8), numbers), small)
