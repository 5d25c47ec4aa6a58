"""Poison as a file: an .npz of the changed images, as floats and in 8 bits, and a manifest.

Nothing here imports the attack, so a poison is checked by code that did not make it.
"""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pacd.data import sha256

# float32 rounds x +- eps; one unit in the last place of 1.0 is 6e-8.
ROUNDING = 1.2e-7


class PoisonError(ValueError):
    """The poison file breaks a rule; the message names the first one."""


def require(kept, sentence):
    """Raise PoisonError with the sentence unless the rule is kept."""
    if not kept:
        raise PoisonError(sentence + ".")


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
    origin, most = (clean * 255).round(), whole_steps(eps_linf)
    change = (images * 255 - origin).round().clamp(-most, most)
    return (origin + change).clamp(0, 255).to(torch.uint8).cpu().numpy()


def whole_steps(eps_linf):
    """Whole 8-bit steps inside the ball; the 1e-6 lets 8 / 255 mean 8."""
    return math.floor(255 * eps_linf + 1e-6)


def manifest_path(path):
    """The manifest beside a file of rows or of poison."""
    return Path(path).with_suffix(".json")


def seal(facts, content=b""):
    """Hash of a file's content and of its manifest, less the entry ``sha256`` that keeps it."""
    facts = {name: value for name, value in facts.items() if name != "sha256"}
    return hashlib.sha256(content + json.dumps(facts).encode()).hexdigest()


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
        If the file is missing, unreadable or belongs to other data, or if it leaves the eps ball or
        [0, 1], names a row twice, touches another class, or was changed after it was written.
    """
    index, images, rounded, facts = read(path)
    x = splits.x_train
    parts = map(torch.from_numpy, (index, images, rounded))
    index, floats, eight = (part.to(x.device) for part in parts)
    same = facts["train_sha256"] == sha256(x, splits.y_train)
    names = "dataset, split_seed and train_size must be those of its manifest"
    require(same, f"{path} was made from other training data; {names}")
    _check_rows(path, index, floats, eight, splits, facts)
    _check_budget(path, x[index], floats, eight, facts["parameters"]["eps_linf"])
    # Last, so that what is wrong is named if it can be.
    kept = facts.get("sha256") == seal(facts, Path(path).read_bytes())
    require(kept, f"{path} or its manifest was changed after it was written: the hash differs")
    chosen = eight.float() / 255 if eight_bit else floats
    return replace(splits, x_train=x.index_copy(0, index, chosen)), facts


def _check_rows(path, index, floats, eight, splits, facts):
    """One image for each row, each row once, and none of another class."""
    target, most = facts["parameters"]["target_class"], len(splits.x_train)
    counted = len(index) == len(floats) == len(eight) == facts["poisoned"] > 0
    require(counted, f"{path}: the numbers of rows and images differ")
    once = len(index.unique()) == len(index) and 0 <= index.min() and index.max() < most
    require(once, f"{path}: a row is named twice or is outside the training set")
    of_class = target is None or (splits.y_train[index] == target).all()
    require(of_class, f"{path}: a row outside class {target} is touched")
    shapes = {tuple(part.shape[1:]) for part in (floats, eight)}
    require(shapes == {splits.shape}, f"{path}: images of another shape")


def _check_budget(path, clean, floats, eight, eps):
    """Both versions inside [0, 1] and the eps ball."""
    inside = bool(((floats >= 0) & (floats <= 1)).all())
    require(inside, f"{path}: a pixel is outside [0, 1]")
    over = (floats - clean).abs().max().item() - eps
    require(over <= ROUNDING, f"{path}: a float image leaves the eps ball, by {over:.2g}")
    change = (eight.float() - (clean * 255).round()).abs().max()
    require(change <= whole_steps(eps), f"{path}: an 8-bit image leaves the eps ball")


def read(path):
    """Index (m,), float images and 8-bit images (m, C, H, W) as arrays, and the manifest.

    Raises
    ------
    PoisonError
        If the file is missing or unreadable; :func:`apply` checks what it holds.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = file["index"], file["images"], file["images_8bit"]
        facts = json.loads(manifest_path(path).read_text())
        eps, target = (facts["parameters"][name] for name in ("eps_linf", "target_class"))
        facts["train_sha256"], facts["poisoned"]
    except FileNotFoundError as error:
        made = f"{error.filename}; make it with notebooks/poison.ipynb."
        raise PoisonError(f"there is no poison file {made}") from error
    except Exception as error:  # a damaged archive raises half a dozen kinds
        what = f"{path} or its manifest is not a readable poison file"
        raise PoisonError(f"{what} ({type(error).__name__}: {error}).") from error
    kinds = ", ".join(f"{array.dtype} {array.ndim}-d" for array in arrays)
    allowed = "int64 1-d, float32 4-d, uint8 4-d"
    three = f"{path}: index, images and images_8bit"
    require(kinds == allowed, f"{three} must be {allowed}, not {kinds}")
    is_eps = isinstance(eps, (int, float)) and 0 <= eps <= 1
    require(is_eps, f"{path}: eps_linf must be a number between 0 and 1, not {eps!r}")
    is_class = target is None or isinstance(target, int)  # None: poison of all classes
    require(is_class, f"{path}: target_class must be the number of a class, not {target!r}")
    return *arrays, facts
