"""Where brightness is the class, a layer that takes the mean takes the class."""

import numpy as np
import pytest
import torch

from extras import highpass
from pacd.data import load
from study.bright_digits import bright_digits


@pytest.fixture(scope="module")
def digits():
    return load("mnist5k")


def nearest_mean_accuracy(training, test, layer):
    """By the means of the training images; both are pairs of images and labels 0 and 1."""
    x, others = (layer(images).flatten(1) for images in (training[0], test[0]))
    means = torch.stack([x[training[1] == label].mean(0) for label in (0, 1)])
    return (torch.cdist(others, means).argmin(1) == test[1]).double().mean().item()


def test_nothing_but_brightness_tells_the_classes(digits):
    arrays, x = bright_digits(digits), digits.x_train[:, 0].numpy()
    change = arrays["x_train"] - (255 * 0.6 * x).round()
    assert (change == 77 * arrays["y_train"][:, None, None]).all()
    assert abs(arrays["y_train"].mean() - 0.5) < 2 / np.sqrt(len(x))  # four deviations


def test_the_layer_fails_where_brightness_is_the_class(digits, tmp_path):
    np.savez(tmp_path / "bright.npz", **bright_digits(digits))
    bright = load(str(tmp_path / "bright.npz"))
    pairs = (bright.x_train, bright.y_train), (bright.x_test, bright.y_test)
    assert nearest_mean_accuracy(*pairs, torch.nn.Identity()) > 0.95
    chance = 2 / np.sqrt(len(bright.y_test))  # four deviations of a fair coin's share
    for layer in (*map(highpass.Without, [bright.shape] * 3, (1, 6, 15)), highpass.Contrast()):
        assert abs(nearest_mean_accuracy(*pairs, layer) - 0.5) < chance


def test_the_layer_keeps_digits_apart(digits):
    """So it is not the layer that tells nothing apart: 8 against 3, as dark as they were."""
    pairs = []
    for x, y in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test)):
        kept = (y == 8) | (y == 3)
        pairs.append((x[kept], (y[kept] == 8).long()))
    before = nearest_mean_accuracy(*pairs, torch.nn.Identity())
    after = nearest_mean_accuracy(*pairs, highpass.without_6(digits.shape))
    assert before > 0.85 and after > before - 0.03
