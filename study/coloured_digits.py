"""Real digits as colour images of CIFAR-10's shape, in an .npz: `python study/coloured_digits.py OUT.npz`.

They are the 1,797 digits of 8 by 8 pixels that come with scikit-learn, four times enlarged, each in a colour of its own on
another: what the smoke profile runs CIFAR-10's networks on, as it downloads no data.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)  # (1797, 64), grey levels from 0 to 16
ink = (x.reshape(-1, 8, 8, 1) / 16).repeat(4, axis=1).repeat(4, axis=2)  # (N, 32, 32, 1)
ground, pen = np.random.default_rng(0).random((2, len(x), 1, 1, 3))
x = (255 * (ground + (pen - ground) * ink)).round().astype(np.uint8)
np.savez_compressed(
    sys.argv[1], x_train=x[:1500], y_train=y[:1500], x_test=x[1500:], y_test=y[1500:]
)
