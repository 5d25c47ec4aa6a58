"""Where brightness is the class, a layer that takes the mean takes the class."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from extras import highpass
from pacd.data import load
from study.bright_digits import bright_digits


def nearest_mean_accuracy(splits, layer):
    """On test images, by the means of the training images, both behind the layer."""
    x, test = (layer(images).flatten(1) for images in (splits.x_train, splits.x_test))
    means = torch.stack([x[splits.y_train == label].mean(0) for label in (0, 1)])
    return (torch.cdist(test, means).argmin(1) == splits.y_test).double().mean().item()


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    path = tmp_path_factory.mktemp("bright") / "bright.npz"
    subprocess.run([sys.executable, "-m", "study.bright_digits", str(path)], check=True)
    return load(str(path))


def test_nothing_but_brightness_tells_the_classes():
    arrays, digits = bright_digits(), load("mnist5k").x_train[:, 0].numpy()
    change = arrays["x_train"] - (255 * 0.6 * digits).round()
    assert set(np.unique(change)) == {0, 77}
    assert (change == 77 * arrays["y_train"][:, None, None]).all()
    assert abs(arrays["y_train"].mean() - 0.5) < 2 / np.sqrt(len(digits))  # four deviations


def test_the_layer_fails_where_brightness_is_the_class(splits):
    assert nearest_mean_accuracy(splits, torch.nn.Identity()) > 0.95
    chance = 2 / np.sqrt(len(splits.y_test))  # four deviations of a fair coin's share
    for layer in (*map(highpass.Without, [splits.shape] * 3, (1, 6, 15)), highpass.Contrast()):
        assert abs(nearest_mean_accuracy(splits, layer) - 0.5) < chance


def test_the_layer_keeps_digits_apart():
    """So it is not the layer that tells nothing apart: 8 against 3, as dark as they were."""
    digits = load("mnist5k")
    for part in ("train", "test"):
        y = getattr(digits, f"y_{part}")
        kept = (y == 8) | (y == 3)
        setattr(digits, f"x_{part}", getattr(digits, f"x_{part}")[kept])
        setattr(digits, f"y_{part}", (y[kept] == 8).long())
    before = nearest_mean_accuracy(digits, torch.nn.Identity())
    after = nearest_mean_accuracy(digits, highpass.without_6(digits.shape))
    assert before > 0.85 and after > before - 0.03
