"""Other people's poison as a file that our victims read: ``python -m study.bring PATH OUT.npz``.

PATH is one of

- a flat folder of PNGs, each named by its row in the data set, as APBench has them;
- an ``.npz`` with ``images`` and ``index``, their rows there, or an ``.npy`` of images of all rows;
- an ImageFolder, with ``--clean`` another one of the same names that holds the originals;
- an export, as :mod:`study.export` writes it.

Images are uint8 or floats in [0, 1], (m, H, W) or (m, H, W, C); labels are those of the data set.
An image is changed where a pixel moves by more than half an 8-bit step; float16, or normalising
and back, moves all by less. What is not changed is left out, and so is what we hold out for
validation or testing. Floats that are 8-bit images but for such rounding are taken as these.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from pacd.data import DataError, load, sha256
from pacd.poison_file import PoisonError, require, whole_steps
from study import export, flat
from study.parameters import SettingsError, Text, allowed
from study.results import manifest, write_poison
from study.settings import DataSettings
from study.verify import DATA_ROOT, verify

# A change that anybody sees; between two images that have nothing in common it is near 1.
OBVIOUS = 0.25
# Of an 8-bit step: float16 rounds a pixel by up to 0.06 of it.
NEAR = 0.1


class BringSettings(DataSettings):
    """Which data the poison is of, and where it comes from."""

    path: Text
    clean: Annotated[Text | None, allowed("None or a folder")]
    poison_file: Annotated[Text, allowed("the path to write, ending in .npz", pattern=r"\.npz$")]
    eps_linf: Annotated[
        float | None, allowed("None as measured, or a number between 0 and 1", ge=0, le=1)
    ]


def bring(settings):
    """Check poison of another make against its data, and write it as a poison file.

    Parameters
    ----------
    settings : BringSettings

    Returns
    -------
    str
        What was found.

    Raises
    ------
    PoisonError, DataError
        If images have no place in the data, another shape or another range, if no training image
        changes by half an 8-bit step, or one by more than ``eps_linf``.
    """
    started = time.time()
    data = settings.dataset, settings.data_root
    splits = load(*data, settings.split_seed, settings.train_size)
    rows, images = _read(settings, splits)
    given, trained = len(rows), rows >= 0
    rows, images = rows[trained], images[trained]
    clean = splits.x_train[rows]
    changed = _steps(images - clean).flatten(1).any(1)
    require(changed.any(), f"{settings.path} must change a training image, and changes none")
    rows, order = rows[changed].sort()
    images, clean = _eight_bit(images[changed][order]), clean[changed][order]
    classes = splits.y_train[rows].unique().tolist()
    eps = _eps(settings.eps_linf, (images - clean).abs().max().item())
    made = {"target_class": classes[0] if len(classes) == 1 else None, "eps_linf": eps}
    facts = manifest(settings, started, given=given)
    facts["parameters"] = facts["parameters"] | made
    write_poison(settings.poison_file, splits, rows, images, facts)
    kind = f"class {classes[0]}" if len(classes) == 1 else _listed(classes, splits.classes)
    left = f"{given - len(trained.nonzero())} are no training images here"
    said = f"{given} images read; {left}, and of the rest {len(rows)} change, of {kind}"
    other = _of_other_rows(splits, rows, images)
    return said + f"; {other} of these are nearer to another image's original" * bool(other)


def _of_other_rows(splits, rows, images):
    """How many images are nearer (L2) to the original of another row: are the rows another's?"""
    others, count = splits.x_train.flatten(1), 0
    for own, part in zip(rows.split(500), images.flatten(1).split(500)):
        distances = torch.cdist(part, others)
        count += (distances.gather(1, own[:, None])[:, 0] > distances.amin(1) + 1e-4).sum()
    return int(count)


def _steps(values):
    """Whole 8-bit steps, rounded to the nearest."""
    return (values * 255).round()


def _eight_bit(images):
    """Whole steps where all pixels are whole steps but for rounding, else the floats as given."""
    rounded = _steps(images)
    return rounded / 255 if (images * 255 - rounded).abs().max() < NEAR else images


def _listed(classes, of):
    every = "all" if len(classes) == of else "several"
    named = ", ".join(map(str, classes))
    return f"classes {named}: poison of {every} classes, so victims may certify any"


def _eps(claimed, measured):
    """The budget: as claimed, else as measured, in whole steps where float32 just misses them."""
    if claimed is None:
        seen = f"{measured:.3f}, as images of other rows or other data do (--eps-linf 1 if meant)"
        require(
            measured <= OBVIOUS, f"eps_linf must be given where images change by as much as {seen}"
        )
        steps = round(255 * measured) / 255
        eps = steps if abs(steps - measured) < 1e-6 else measured
        small = f"{255 * eps:.2f} of it: no 8-bit pixel would change"
        require(whole_steps(eps), f"eps_linf must be 1/255 or more, an 8-bit step, not {small}")
        return eps
    far = f"{measured:.4f} ({255 * measured:.1f}/255), the largest change"
    require(measured <= claimed + 1e-7, f"eps_linf must be at least {far}, not {claimed}")
    return claimed


def _read(settings, splits):
    """Rows of the training split, -1 for images outside it, and images (m, C, H, W)."""
    path = Path(settings.path)
    require(path.exists(), f"PATH must be a folder, an .npz or an .npy, and there is no {path}")
    if settings.clean:
        return _pair(path, Path(settings.clean), splits)
    if path.is_dir() and (path / export.MANIFEST).exists():
        return _export(path, splits, settings.data_root)
    rows, images = flat.read(path) if path.is_dir() else _arrays(path)
    return _placed(path, rows, images, settings, splits)


def _placed(path, rows, images, settings, splits):
    """Rows of the data set as rows of the training split."""
    x, y = flat.in_order(settings.dataset, settings.data_root)
    if rows is None:
        all_rows = f"{path} must hold images of all {len(x)} rows of {settings.dataset} in order"
        require(len(images) == len(x), f"{all_rows}, not {len(images)}; an .npz may name rows")
    rows = torch.as_tensor(np.arange(len(images)) if rows is None else rows).long()
    once = len(rows) == len(images) and len(rows.unique()) == len(rows)
    require(once, f"{path} must name one row for each image, and none twice")
    inside = len(rows) and 0 <= rows.min() and rows.max() < len(x)
    require(inside, f"{path} must name rows below {len(x)}, as {settings.dataset} has")
    _check_shape(path, images, splits)
    places = torch.full((len(x),), -1)
    found = flat.matched(splits.x_train, splits.y_train, x, y)
    places[found] = torch.arange(len(found))
    return places[rows], images


def _check_shape(path, images, splits):
    shape, wanted = ("x".join(map(str, s)) for s in (images.shape[1:], splits.shape))
    require(shape == wanted, f"{path} must hold images of {wanted} (C x H x W), not {shape}")


def _arrays(path):
    """Rows, None for all in their order, and images of an .npz or .npy."""
    try:
        loaded = np.load(path, allow_pickle=False)
        whole = isinstance(loaded, np.ndarray)
        rows, images = (None, loaded) if whole else (loaded["index"], loaded["images"])
    except Exception as error:  # a damaged archive raises half a dozen kinds
        needed = "an .npz with index and images, or an .npy of images"
        raise PoisonError(f"{path} must be {needed} ({type(error).__name__}: {error}).") from error
    whole = rows is None or (rows.ndim == 1 and rows.dtype.kind in "iu")
    require(whole, f"{path}: index must be whole numbers, one for each image")
    known = images.ndim in (3, 4) and (images.dtype == np.uint8 or images.dtype.kind == "f")
    form = "uint8 or floats of shape (m, H, W) or (m, H, W, C)"
    require(known, f"{path}: images must be {form}, not {images.dtype} {images.shape}")
    scale = 255 if images.dtype == np.uint8 else 1
    images = flat.channels_first(images).float() / scale
    inside = bool(((images >= 0) & (images <= 1)).all())
    require(inside, f"{path}: floats must be in [0, 1], pixel units")
    return None if rows is None else rows.astype(np.int64), images


def _pair(path, clean, splits):
    """Two ImageFolders; the originals say by their pixels which rows they are."""
    names = sorted(file.relative_to(path) for file in path.glob("*/*.png"))
    require(names, f"{path} must hold folders of PNGs, one for each class")
    require(clean.is_dir(), f"clean must be a folder, and {clean} is none")
    # The originals may be the whole data set, and give a class the place that it has there.
    classes = sorted(folder.name for folder in clean.iterdir() if folder.is_dir())
    lacking = next((name for name in names if not (clean / name).is_file()), None)
    require(lacking is None, f"{clean} must hold the original of each image, and has no {lacking}")
    images = flat.pictures([path / name for name in names])
    originals = flat.pictures([clean / name for name in names])
    for folder, part in ((path, images), (clean, originals)):
        _check_shape(folder, part, splits)
    labels = torch.tensor([_label(name.parts[0], classes) for name in names])
    rows = flat.matched(originals, labels, splits.x_train, splits.y_train)
    require((rows >= 0).any(), f"{clean} must hold training images of the data set, and has none")
    return rows, images


def _label(folder, classes):
    """The number that a folder is named by, else its place in the order of names."""
    return int(folder) if folder.isdecimal() else classes.index(folder)


def _export(folder, splits, data_root):
    """The training images of an export, which is checked by every rule of its own."""
    verify(folder, data_root)
    same = export.read_manifest(folder).train_sha256 == sha256(splits.x_train, splits.y_train)
    names = "dataset, split_seed and train_size must be those of its manifest"
    require(same, f"{folder} was made from other training data; {names}")
    with np.load(folder / export.NPZ) as file:
        images = flat.channels_first(file["x_train"]).float() / 255
    return torch.arange(len(images)), images


def main(arguments=None):
    """The command line; None if all went well, else the sentence that says what did not."""
    parser = argparse.ArgumentParser(prog="python -m study.bring", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("poison_file", metavar="OUT.npz")
    parser.add_argument("--dataset", default="mnist5k", help="of which it is the poison")
    parser.add_argument("--data-root", **DATA_ROOT)
    parser.add_argument("--split-seed", default=0)
    parser.add_argument("--train-size", help="as the victims will have it; default all")
    parser.add_argument("--clean", metavar="DIR", help="ImageFolder of the originals")
    parser.add_argument("--eps-linf", help="budget, pixel units; default as measured")
    try:
        settings = BringSettings.check(vars(parser.parse_args(arguments)))
        print(bring(settings))
        print(verify(settings.poison_file, settings.data_root))
    except (SettingsError, PoisonError, DataError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
