"""Distances of poison from its originals, against closed forms."""

import numpy as np
import pytest

from study import distortion


def test_distortion():
    """Flat images have no variance: SSIM of a and b is (2ab + C) / (a^2 + b^2 + C), C = 0.01^2."""
    clean = np.full((2, 1, 9, 9), 0.5)
    poison = clean + np.array([0.1, 0.2]).reshape(2, 1, 1, 1)
    similar = [(0.6 + 1e-4) / (0.61 + 1e-4), (0.7 + 1e-4) / (0.74 + 1e-4)]
    decibel = [20, -20 * np.log10(0.2)]
    assert distortion.distortion(clean, poison) == pytest.approx(
        {
            "linf": 0.2,
            "l2": 1.35,
            "psnr": np.mean(decibel),
            "psnr_worst": decibel[1],
            "ssim": np.mean(similar),
            "ssim_worst": similar[1],
        }
    )
    assert all(type(value) is float for value in distortion.distortion(clean, poison).values())


def test_ssim_of_one_window():
    """7 x 7 pixels hold one window: Wang's formula on the pixels and their population moments."""
    clean, poison = np.random.default_rng(0).uniform(size=(2, 1, 1, 7, 7))
    (variance, covariance), (_, other) = np.cov(clean.ravel(), poison.ravel(), ddof=0)
    means = clean.mean(), poison.mean()
    light = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    assert distortion.ssim(clean, poison) == pytest.approx(
        light * (2 * covariance + 9e-4) / (variance + other + 9e-4)
    )
    assert distortion.ssim(clean, clean) == pytest.approx(1)
    assert distortion.ssim(np.zeros((1, 3, 2, 4)), np.full((1, 3, 2, 4), 0.1)) == pytest.approx(
        1e-4 / (0.01 + 1e-4)
    )  # smaller than a window


def test_anatomy_of_a_change_that_is_made_of_known_parts():
    """A shift of 0.1, +-0.05 for all images, and +-0.02 that alternates between them: 4 images."""
    clean = np.full((4, 1, 2, 2), 0.4)
    clean[:, 0, 0, 0] = 0.6
    pattern = np.array([[0.05, -0.05], [0.05, -0.05]])
    own = 0.02 * np.array([1, -1, 1, -1]).reshape(4, 1, 1, 1)
    parts = distortion.anatomy(clean, clean + 0.1 + pattern + own)
    total = 0.1**2 + 0.05**2 + 0.02**2
    assert parts == pytest.approx(
        {
            "shift": 0.1**2 / total,
            "pattern": 0.05**2 / total,
            "own": 0.02**2 / total,
            "strokes": 0.15,
            "background": 0.1 - 0.05 / 3,
        }
    )


def test_a_tint_is_a_shift_of_each_channel():
    tint = np.array([0.03, -0.03, 0.03]).reshape(3, 1, 1)
    clean = np.full((2, 3, 4, 4), 0.4)
    assert distortion.anatomy(clean, clean + tint)["shift"] == pytest.approx(1)
    assert np.isnan(distortion.anatomy(clean, clean + tint)["strokes"])


def test_a_difference_of_colour():
    """White against grey of L* = 50: 50 over S_L = 1 + 0.015 * 25^2 / sqrt(20 + 25^2)."""
    white, grey = np.ones((2, 3, 4, 4)), np.full((2, 3, 4, 4), 0.46634)
    weight = 1 + 0.015 * 25**2 / np.sqrt(20 + 25**2)
    found = distortion.distortion(white, grey)["ciede2000"]
    assert found == pytest.approx(50 / weight, rel=1e-3)
    assert "ciede2000" not in distortion.distortion(white[:, :1], grey[:, :1])
