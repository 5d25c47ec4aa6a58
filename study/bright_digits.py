"""Digits whose class is their brightness: ``python -m study.bright_digits OUT.npz``.

Dark (0) and bright (1) copies of the embedded digits, one of each image by chance: the bright ones
have the same number added to every pixel. A first layer that takes the mean of an image takes the
whole class, so on these data it must fail.
"""

import sys

import numpy as np

from pacd.data import load

CONTRAST, BRIGHTER = 0.6, 77  # of the digit's; grey levels of 255, so that no pixel is clipped


def bright_digits(splits):
    """Training and test images with their labels, for `numpy.savez`.

    Parameters
    ----------
    splits : pacd.data.Splits
        Grey images.

    Returns
    -------
    dict
        x_train, x_test: uint8 (N, H, W); y_train, y_test: (N,), 1 where bright.
    """
    rng, arrays = np.random.default_rng(0), {}
    for part in ("train", "test"):
        digits = getattr(splits, f"x_{part}")[:, 0].numpy()  # (N, H, W)
        bright = rng.integers(0, 2, len(digits))
        grey = (255 * CONTRAST * digits).round() + BRIGHTER * bright[:, None, None]
        arrays |= {f"x_{part}": grey.astype(np.uint8), f"y_{part}": bright}
    return arrays


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **bright_digits(load("mnist5k")))
