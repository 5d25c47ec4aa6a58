"""Real digits as colour images of CIFAR-10's shape: ``python -m study.coloured_digits OUT.npz``.

They are the 1,797 digits of 8 by 8 pixels that come with scikit-learn, four times enlarged, each in
a colour of its own on another: what the profile trial runs CIFAR-10's networks on, as it downloads
no data.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

TRAINING = 1500  # of the 1,797


def coloured_digits():
    """Images, uint8 (N, 32, 32, 3), and labels (N,)."""
    x, y = load_digits(return_X_y=True)  # (N, 64), grey levels from 0 to 16
    small = x.reshape(-1, 8, 8, 1) / 16
    ink = small.repeat(4, axis=1).repeat(4, axis=2)  # (N, 32, 32, 1)
    ground, pen = np.random.default_rng(0).random((2, len(x), 1, 1, 3))
    colour = ground + (pen - ground) * ink
    return (255 * colour).round().astype(np.uint8), y


def main():
    x, y = coloured_digits()
    training = {"x_train": x[:TRAINING], "y_train": y[:TRAINING]}
    np.savez_compressed(sys.argv[1], **training, x_test=x[TRAINING:], y_test=y[TRAINING:])


if __name__ == "__main__":
    main()
