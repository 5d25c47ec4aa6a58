"""Poison as a file: an .npz of the changed images, as floats and rounded to 8 bits, and a manifest beside it.

Nothing here imports the attack, so a poison is checked by code that did not make it.
"""

import json
import math
import zipfile
from dataclasses import replace

import numpy as np
import torch

from pacd.data import sha256
from pacd.results import manifest_path, replacing, write_json


class PoisonError(ValueError):
    """The poison file breaks a promise; the message names the first one."""


def to_8bit(images, clean, eps_linf):
    """Round poison to 8 bits without leaving the eps ball.

    Parameters
    ----------
    images, clean : tensors of shape (m, C, H, W)
        In [0, 1]; ``clean`` in whole steps of 1/255.
    eps_linf : float
        Pixel units.

    Returns
    -------
    uint8 array of shape (m, C, H, W), at most floor(255 eps) steps away from the clean image
    """
    origin = (clean * 255).round()
    steps = levels(eps_linf)
    change = (images * 255 - origin).round().clamp(-steps, steps)
    return (origin + change).clamp(0, 255).to(torch.uint8).cpu().numpy()


def levels(eps_linf):
    """Whole 8-bit steps inside the ball; the 1e-6 lets 8 / 255 mean 8."""
    return math.floor(255 * eps_linf + 1e-6)


def save(path, splits, index, images, facts):
    """Write the poison and its manifest.

    Parameters
    ----------
    path : path ending in .npz
    splits : Splits
        The clean data it was made from.
    index : tensor of shape (m,)
        Rows of ``splits.x_train``.
    images : tensor of shape (m, C, H, W)
        The poisoned images, float.
    facts : dict
        Manifest with ``parameters`` holding at least target_class and eps_linf; data hash and shape are added.
    """
    facts = {**facts, "train_sha256": sha256(splits.x_train, splits.y_train), "poisoned": len(index)}
    write_json(manifest_path(path), facts)
    rounded = to_8bit(images, splits.x_train[index], facts["parameters"]["eps_linf"])
    with replacing(path) as temporary:
        np.savez_compressed(temporary, index=index.cpu().numpy(), images=images.cpu().numpy(), images_8bit=rounded)


def apply(path, splits, eight_bit=True):
    """The splits with the poisoned images in their places, after every check.

    Parameters
    ----------
    path : path of a poison file
    splits : Splits
        The clean data, as loaded.
    eight_bit : bool
        Use the images rounded to 8 bits, else the floats.

    Returns
    -------
    Splits and the manifest (dict)

    Raises
    ------
    PoisonError
        If the file is missing, unreadable or belongs to other data, or if it leaves the eps ball or [0, 1], names
        a row twice, or touches another class.
    """
    index, images, rounded, facts = _read(path)
    eps, target = facts["parameters"]["eps_linf"], facts["parameters"]["target_class"]
    x, y = splits.x_train, splits.y_train
    index = torch.from_numpy(index).to(x.device)

    _promise(facts["train_sha256"] == sha256(x, y), f"{path} was made from other training data; dataset, split_seed and train_size must be those of its manifest")
    _promise(len(index) == len(images) == len(rounded) == facts["poisoned"], f"{path}: the numbers of rows and images differ")
    _promise(len(index.unique()) == len(index) and 0 <= index.min() and index.max() < len(x), f"{path}: a row is named twice or is outside the training set")
    _promise((y[index] == target).all(), f"{path}: a row outside class {target} is touched")
    _promise(images.shape == rounded.shape == tuple(x[index].shape), f"{path}: images of another shape")
    floats = torch.from_numpy(images).to(x.device)
    change = torch.from_numpy(rounded.astype(np.int16)).to(x.device) - (x[index] * 255).round()
    _promise(bool(((floats >= 0) & (floats <= 1)).all()), f"{path}: a pixel is outside [0, 1]")
    # float32 rounds x +- eps; one unit in the last place of 1.0 is 6e-8.
    _promise((floats - x[index]).abs().max() <= eps + 1.2e-7, f"{path}: a float image leaves the eps ball")
    _promise(change.abs().max() <= levels(eps), f"{path}: an 8-bit image leaves the eps ball")
    chosen = torch.from_numpy(rounded).to(x.device).float() / 255 if eight_bit else floats
    return replace(splits, x_train=x.index_copy(0, index, chosen)), facts


def check_target(facts, target_class):
    """Refuse to certify another class than the poisoned one."""
    poisoned = facts["parameters"]["target_class"]
    _promise(poisoned == target_class, f"target_class must be {poisoned}, the class of this poison file, not {target_class}")


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = file["index"], file["images"], file["images_8bit"]
        facts = json.loads(manifest_path(path).read_text())
        facts["parameters"]["eps_linf"], facts["parameters"]["target_class"], facts["train_sha256"], facts["poisoned"]
    except FileNotFoundError as error:
        raise PoisonError(f"there is no poison file {error.filename}; make it with notebooks/poison.ipynb.") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise PoisonError(f"{path} or its manifest is not a readable poison file ({type(error).__name__}: {error}).") from error
    return *arrays, facts


def _promise(kept, sentence):
    if not kept:
        raise PoisonError(sentence + ".")
