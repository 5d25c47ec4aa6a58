"""Poison as a file: an .npz of the changed images, as floats and rounded to 8 bits, and a manifest beside it.

Nothing here imports the attack, so a poison is checked by code that did not make it. On the command line,
``python -m pacd.poison_file export POISON.npz OUT`` and ``... verify PATH`` run ``study.verify``.
"""

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pacd.data import sha256
from study.intervals import distortion
from study.results import manifest_path, replacing, write_json


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
        Manifest with ``parameters`` holding at least target_class and eps_linf. Added are the hash of the data, the
        number of poisoned images, the distortion (of the 8-bit images), and a hash of file and manifest.
    """
    clean = splits.x_train[index]
    rounded = to_8bit(images, clean, facts["parameters"]["eps_linf"])
    facts = {
        **facts,
        "train_sha256": sha256(splits.x_train, splits.y_train),
        "poisoned": len(index),
        "distortion": distortion((clean * 255).round().cpu().double().numpy() / 255, rounded / 255),
    }
    with replacing(path) as temporary:
        np.savez_compressed(
            temporary, index=index.cpu().numpy(), images=images.cpu().numpy(), images_8bit=rounded
        )
        write_json(manifest_path(path), {**facts, "sha256": seal(facts, temporary.read_bytes())})


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
        If the file is missing, unreadable or belongs to other data, or if it leaves the eps ball or [0, 1], names
        a row twice, touches another class, or was changed after it was written.
    """
    index, images, rounded, facts = read(path)
    eps, target = facts["parameters"]["eps_linf"], facts["parameters"]["target_class"]
    x, y = splits.x_train, splits.y_train
    index = torch.from_numpy(index).to(x.device)

    promise(
        facts["train_sha256"] == sha256(x, y),
        f"{path} was made from other training data; dataset, split_seed and train_size must be those of its manifest",
    )
    promise(
        len(index) == len(images) == len(rounded) == facts["poisoned"] > 0,
        f"{path}: the numbers of rows and images differ",
    )
    promise(
        len(index.unique()) == len(index) and 0 <= index.min() and index.max() < len(x),
        f"{path}: a row is named twice or is outside the training set",
    )
    promise((y[index] == target).all(), f"{path}: a row outside class {target} is touched")
    promise(
        images.shape == rounded.shape == tuple(x[index].shape), f"{path}: images of another shape"
    )
    floats = torch.from_numpy(images).to(x.device)
    change = torch.from_numpy(rounded.astype(np.int16)).to(x.device) - (x[index] * 255).round()
    promise(bool(((floats >= 0) & (floats <= 1)).all()), f"{path}: a pixel is outside [0, 1]")
    # float32 rounds x +- eps; one unit in the last place of 1.0 is 6e-8.
    promise(
        (floats - x[index]).abs().max() <= eps + 1.2e-7,
        f"{path}: a float image leaves the eps ball",
    )
    promise(change.abs().max() <= levels(eps), f"{path}: an 8-bit image leaves the eps ball")
    # Last, so that what is wrong is named if it can be; files from before the hash was kept have none.
    kept = facts.get("sha256") in (None, seal(facts, Path(path).read_bytes()))
    promise(kept, f"{path} or its manifest was changed after it was written: the hash differs")
    chosen = torch.from_numpy(rounded).to(x.device).float() / 255 if eight_bit else floats
    return replace(splits, x_train=x.index_copy(0, index, chosen)), facts


def changed_rows(poisoned, splits):
    """Which training images a poison changes, bool (N,).

    Raises
    ------
    PoisonError
        If it changes none, as one whose eps is below an 8-bit step.
    """
    changed = (poisoned.x_train != splits.x_train).flatten(1).any(1)
    promise(
        changed.any(), "poison_file must change at least one image, and this poison changes none"
    )
    return changed


def check_target(facts, target_class):
    """Refuse to certify another class than the poisoned one."""
    poisoned = facts["parameters"]["target_class"]
    promise(
        poisoned == target_class,
        f"target_class must be {poisoned}, the class of this poison file, not {target_class}",
    )


def read(path):
    """Index (m,), float images and 8-bit images (m, C, H, W) as numpy arrays, and the manifest, of a poison file.

    Raises
    ------
    PoisonError
        If the file is missing or unreadable; :func:`apply` checks what it holds.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = file["index"], file["images"], file["images_8bit"]
        facts = json.loads(manifest_path(path).read_text())
        eps, target = facts["parameters"]["eps_linf"], facts["parameters"]["target_class"]
        facts["train_sha256"], facts["poisoned"]
    except FileNotFoundError as error:
        raise PoisonError(
            f"there is no poison file {error.filename}; make it with notebooks/poison.ipynb."
        ) from error
    except Exception as error:  # a damaged archive raises half a dozen kinds
        raise PoisonError(
            f"{path} or its manifest is not a readable poison file ({type(error).__name__}: {error})."
        ) from error
    kinds = [f"{array.dtype} {array.ndim}-d" for array in arrays]
    allowed = ["int64 1-d", "float32 4-d", "uint8 4-d"]
    promise(
        kinds == allowed,
        f"{path}: index, images and images_8bit must be {', '.join(allowed)}, not {', '.join(kinds)}",
    )
    promise(
        isinstance(eps, (int, float)) and 0 <= eps <= 1,
        f"{path}: eps_linf must be a number between 0 and 1, not {eps!r}",
    )
    promise(
        isinstance(target, int),
        f"{path}: target_class must be the number of a class, not {target!r}",
    )
    return *arrays, facts


def promise(kept, sentence):
    """Raise PoisonError with the sentence unless the promise is kept."""
    if not kept:
        raise PoisonError(sentence + ".")


if __name__ == "__main__":
    from study.verify import main

    sys.exit(main())
