"""JPEG scans of images that share one header, and the .npz of pixels that they stand for."""

from io import BytesIO

import numpy as np
from PIL import Image

from study.results import replacing


def expand(path, out):
    """Write the ``x_train, y_train, x_test, y_test`` of a file of scans.

    Parameters
    ----------
    path : path
        An .npz of ``header`` and ``scans`` (bytes as uint8), ``lengths`` (N,) of the scans, and of
        each image its ``labels`` (N,) and whether it ``is_test`` (N,). Header and scan together are
        a JPEG file.
    out : path
        Gets images of shape (N, H, W, 3), uint8, shuffled by a fixed seed, as the scans may be
        sorted by class.
    """
    with np.load(path) as file:
        packed = dict(file)
    header, whole = packed["header"].tobytes(), packed["scans"].tobytes()
    ends = packed["lengths"].astype(np.int64).cumsum()
    starts = [0, *ends[:-1]]
    images = np.stack([pixels(header + whole[a:b]) for a, b in zip(starts, ends)])
    order = np.random.default_rng(0).permutation(len(images))
    arrays = {}
    for part, asked in (("train", False), ("test", True)):
        rows = order[packed["is_test"][order].astype(bool) == asked]
        arrays |= {f"x_{part}": images[rows], f"y_{part}": packed["labels"][rows]}
    with replacing(out) as temporary:
        np.savez(temporary, **arrays)


def pixels(jpeg):
    """A JPEG file's bytes as uint8 (H, W, 3)."""
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))
