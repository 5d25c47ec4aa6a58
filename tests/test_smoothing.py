"""Differentiable smoothing against values computed by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from test_losses import SIGMA, data, generator, logits, network, softmax

from pacd.smoothing import margin, noisy, soft_probabilities, soft_radius


def test_draws_of_one_image_are_neighbours_under_noise_of_its_own():
    x = torch.tensor([0.0, 100.0]).view(2, 1, 1, 1).expand(2, 1, 50, 50)
    images = noisy(x, 0.5, 3, generator())
    assert images.flatten(1).mean(1).round().tolist() == [0, 0, 0, 100, 100, 100]
    noise = (images - x.repeat_interleave(3, 0)).flatten(1)
    assert noise.std(1).tolist() == pytest.approx([0.5] * 6, rel=0.1)  # 7 standard errors
    correlation = torch.corrcoef(noise) - torch.eye(6)
    assert correlation.abs().max() < 5 / 2500**0.5
    torch.testing.assert_close(noisy(x, 0.5, 3, generator()), images)


def test_margin_is_of_the_true_class_against_the_best_other():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    expected = [norm.ppf(0.7) - norm.ppf(0.2), norm.ppf(0.2) - norm.ppf(0.7)]
    found = margin(p, torch.tensor([0, 1, 2])).tolist()
    assert found == pytest.approx([*expected, expected[0]], rel=1e-5)


def test_probabilities_are_averaged_over_the_draws_at_the_temperature():
    x, _ = data()
    for temperature in (1, 16):
        p = soft_probabilities(network(), x, SIGMA, 5, generator(), temperature)
        np.testing.assert_allclose(p, softmax(temperature * logits(5)).mean(1), rtol=1e-4)


def test_soft_radius_equals_the_formula_and_keeps_its_sign():
    x, y = data()
    p = softmax(16 * logits(5)).mean(1) * (1 - 2e-3) + 1e-3
    other = [p[0, 1:].max(), p[1, 1:].max(), max(p[2, 0], p[2, 2])]
    expected = SIGMA / 2 * (norm.ppf(p[range(3), y]) - norm.ppf(other))
    radius = soft_radius(network(), x, y, SIGMA, 5, generator())
    np.testing.assert_allclose(radius, expected, rtol=1e-3, atol=1e-5)
    assert radius[2] < 0  # misclassified: the attack still sees it
    assert soft_radius(network(), x, y, SIGMA, 5, generator(), correct_only=True)[2] == 0
