"""First layers that take from an image what a poison can put into all images of a class.

Each builder is a function ``shape -> torch.nn.Module`` of the images' (C, H, W). The layer is part
of the base classifier that randomized smoothing certifies (Cohen et al., arXiv 1902.02918): noise
and radii stay those of the pixels in [0, 1].
"""

import math

import torch
from torch import nn

from pacd.models import AFFINE


def cosines(height, width, k):
    """The k lowest two-dimensional cosine components: the DCT-II, orthonormal.

    Component (i, j) waves i half periods down and j across. They are ordered by i + j, then by i:
    the first is the mean, 3 have i + j < 2, 6 have i + j < 3, 10 i + j < 4 and 15 i + j < 5.

    Parameters
    ----------
    height, width : int
        Pixels.
    k : int

    Returns
    -------
    Tensor of shape (k, height * width), float64
        Orthonormal rows.

    Raises
    ------
    ValueError
        Unless 1 <= k <= height * width.
    """
    if not 1 <= k <= height * width:
        raise ValueError(f"k must be from 1 to the {height * width} pixels of a channel, not {k}.")
    pairs = sorted(
        ((i, j) for i in range(height) for j in range(width)), key=lambda pair: (sum(pair), pair)
    )
    down, across = waves(height), waves(width)
    return torch.stack([torch.outer(down[i], across[j]).flatten() for i, j in pairs[:k]])


def waves(n):
    """All cosines of n points, (n, n) float64, rows orthonormal: the one-dimensional DCT-II."""
    points = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(math.pi / n * torch.outer(points, points + 0.5)) * math.sqrt(2 / n)
    rows[0] = math.sqrt(1 / n)
    return rows


class Without(nn.Module):
    """Each channel of each image without its k lowest cosine components (:func:`cosines`).

    An orthogonal projection: linear, symmetric, the same done twice as done once, and no L2 length
    grows. It has no weights, and a network that is saved holds nothing of it.

    Parameters
    ----------
    shape : tuple
        (C, H, W) of one image.
    k : int
        Components that go, in every channel; 1 is the channel's mean.

    Raises
    ------
    ValueError
        Unless 1 <= k <= H * W.
    """

    def __init__(self, shape, k):
        super().__init__()
        _, height, width = shape
        low = cosines(height, width, k).float()
        self.register_buffer("low", low, persistent=False)  # (k, H * W): the name says it all

    def forward(self, x):
        """Images (N, C, H, W) to images of the same shape, no longer in [0, 1]."""
        channels = x.flatten(2)  # (N, C, H * W)
        return (channels - channels @ self.low.T @ self.low).view(x.shape)


AFFINE.add(Without)  # the certifier may show it the noise once for all images


def without_1(shape):
    """Without each channel's mean."""
    return Without(shape, 1)


def without_3(shape):
    """Without the components of i + j < 2: the mean and one slope each way."""
    return Without(shape, 3)


def without_6(shape):
    """Without the components of i + j < 3."""
    return Without(shape, 6)


def without_10(shape):
    """Without the components of i + j < 4."""
    return Without(shape, 10)


def without_15(shape):
    """Without the components of i + j < 5."""
    return Without(shape, 15)


class Contrast(nn.Module):
    """Each image less its own mean, over its own standard deviation; all channels together.

    The rival: it takes the mean as well, but it is not linear, and where an image has little
    contrast it makes lengths larger without a limit but 1 / ``LEAST``. A certificate holds all the
    same, as smoothing asks nothing of its base classifier; what is proved of projections does not.
    """

    LEAST = 1 / 255  # a deviation below one step of 8 bits counts as one: a blank image stays blank

    def forward(self, x):
        """Images (N, C, H, W) to images of the same shape, of mean 0 and deviation 1."""
        pixels = x.flatten(1)
        centred = pixels - pixels.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True).clamp_min(self.LEAST**2)
        return (centred / variance.sqrt()).view(x.shape)


def contrast(shape):
    """Each image's own mean and standard deviation taken out, whatever the shape."""
    return Contrast()
