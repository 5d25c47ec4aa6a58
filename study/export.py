"""A poisoned training set as other code reads it: ``python -m study.export POISON.npz OUT``.

- ``dataset.npz``: x_train, y_train, x_test, y_test, uint8 images (N, H, W) or (N, H, W, 3); also
  what ``dataset`` takes.
- ``train/<class>/<row>.png``, 8-bit greyscale or RGB, for ``torchvision.datasets.ImageFolder``. The
  names are zero-padded, so that its order of classes is that of the labels and its order within a
  class that of the rows.
- ``manifest.json``: :class:`Manifest`.

:mod:`study.verify` checks it against the original data.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from pacd.data import DataError, load
from pacd.poison_file import PoisonError, apply, read, require, seal
from study import flat
from study.distortion import distortion
from study.parameters import Checked, SettingsError, Text, allowed
from study.results import write_json

NPZ, PNG, MANIFEST = "dataset.npz", "train", "manifest.json"
SHA256 = "^[0-9a-f]{64}$"
Hash = Annotated[str, allowed("a SHA-256 in hexadecimal", pattern=SHA256)]


class Source(Checked):
    """What a manifest must say of the original data and of the attacker's budget."""

    dataset: Annotated[Text, allowed("the name of a data set")]
    split_seed: Annotated[int, allowed("a whole number from 0 to 2^63 - 1", ge=0, lt=2**63)]
    train_size: Annotated[int | None, allowed("None or a whole number, 1 or above", ge=1)]
    target_class: Annotated[
        int | None, allowed("the number of a class, 0 or above, or None for all", ge=0)
    ]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]


class Manifest(Source):
    """Of an export.

    ``png_sha256`` is what ``find train -type f | LC_ALL=C sort | xargs sha256sum | sha256sum``
    prints.
    """

    train_sha256: Hash  # of the clean training split, pacd.data.sha256
    poisoned_indices: Annotated[
        list[Annotated[int, Field(ge=0)]], allowed("rows of x_train, at least one", min_length=1)
    ]
    distortion: Annotated[dict[str, float], allowed("a dict of numbers")]
    poison: Annotated[dict[str, Any], allowed("the parameters of the poison")]
    npz_sha256: Hash
    png_sha256: Annotated[str | None, allowed("None or a SHA-256 in hexadecimal", pattern=SHA256)]
    sha256: Hash  # of this manifest, pacd.poison_file.seal


def export(poison, out, data_root=None, png=True, dataset=None):
    """Write the training set with the 8-bit poison in its place.

    The export is built in a hidden folder beside ``out`` and takes that name when it is whole, so a
    killed one is never taken for an export.

    Parameters
    ----------
    poison : path of a poison file
        Its manifest names the data.
    out : path
        A new or empty folder, or an earlier export, which is replaced.
    data_root : path, optional
        Folder of torchvision's files, as in :func:`pacd.data.load`.
    png : bool
        Write the PNG folders too.
    dataset : path, optional
        Where the original .npz lies now, if elsewhere than the manifest says.

    Raises
    ------
    PoisonError, DataError
        If ``out`` holds something else, the poison or its data break a rule, or a class has no
        image for its PNG folder.
    """
    out = Path(out).resolve()
    _refuse_foreign(out)
    rows, _, _, facts = read(poison)
    source, clean = load_original(poison, facts["parameters"], data_root, dataset)
    original, arrays = as_arrays(clean), as_arrays(apply(poison, clean)[0])
    require_change(poison, (original["x_train"] != arrays["x_train"]).any())
    if png:
        _every_class_has_images(arrays["y_train"], clean.classes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "export"
        folder.mkdir()
        np.savez_compressed(folder / NPZ, **arrays)
        names = png_names(arrays["y_train"]) if png else []
        for name, image in zip(names, arrays["x_train"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name)
        rows = np.sort(rows)
        content = {
            **source.model_dump(),
            "train_sha256": facts["train_sha256"],
            "poisoned_indices": rows.tolist(),
            "distortion": distortion_of(original["x_train"][rows], arrays["x_train"][rows]),
            "poison": facts["parameters"],
            "npz_sha256": hash_npz(folder),
            "png_sha256": hash_pngs(folder, names) if png else None,
        }
        write_json(folder / MANIFEST, {**content, "sha256": seal(content)})
        if out.exists():  # what is in it changes place, as the folder may be where we are
            aside = Path(temporary) / "replaced"
            aside.mkdir()
            _move(out, aside, (MANIFEST, NPZ, PNG))
            _move(folder, out, (PNG, NPZ, MANIFEST))
        else:
            os.rename(folder, out)


def export_flat(poison, out, data_root=None, others=False, dataset=None):
    """Write the 8-bit poison as a flat folder of PNGs, see :mod:`study.flat`.

    Parameters
    ----------
    poison, data_root, dataset : as of :func:`export`
    out : path
        A new or empty folder.
    others : bool
        Write all other images of the data set too, as they are.

    Returns
    -------
    str
        What was written.

    Raises
    ------
    PoisonError, DataError
        If ``out`` holds something, or the poison or its data break a rule.
    """
    rows, _, _, facts = read(poison)
    source, clean = load_original(poison, facts["parameters"], data_root, dataset)
    poisoned, rows = apply(poison, clean)[0], torch.from_numpy(rows)
    x, y = flat.in_order(dataset or source.dataset, data_root)
    places = flat.matched(clean.x_train, clean.y_train, x, y)[rows]
    x = x.index_copy(0, places, poisoned.x_train[rows])
    chosen = torch.arange(len(x)) if others else places.sort().values
    flat.write(out, chosen.tolist(), _pixels(x[chosen]))
    return f"{out}: {len(chosen)} images named by their rows, {len(rows)} of them poisoned."


def _move(source, target, names):
    """In this order: the manifest is never there without the files that it is of."""
    for name in names:
        if (source / name).exists():
            os.rename(source / name, target / name)


def require_change(path, changed):
    """Refuse a poison that changes no pixel, as one whose eps is below an 8-bit step."""
    reason = "and in 8 bits this poison changes none"
    require(changed, f"{path} must change at least one pixel, {reason}")


def _every_class_has_images(y, classes):
    absent = sorted(set(range(classes)) - set(y.tolist()))
    if absent:
        reason = "so ImageFolder would number the classes otherwise; use --no-png"
        raise PoisonError(f"class {absent[0]} has no training image, {reason}.")


def load_original(where, parameters, data_root, dataset=None):
    """What a manifest says of its source, checked, and the clean splits.

    ``where`` is for the sentence about a wrong one; ``dataset`` is read in place of the source's.
    """
    source = _valid(Source, where, {name: parameters.get(name) for name in Source.model_fields})
    how = data_root, source.split_seed, source.train_size
    return source, load(dataset or source.dataset, *how)


def as_arrays(splits):
    """The arrays of ``dataset.npz``."""
    return {
        "x_train": _pixels(splits.x_train),
        "y_train": splits.y_train.numpy(),
        "x_test": _pixels(splits.x_test),
        "y_test": splits.y_test.numpy(),
    }


def _pixels(x):
    """(N, C, H, W) in [0, 1] to uint8 (N, H, W) or (N, H, W, 3)."""
    x = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    x = np.ascontiguousarray(x.numpy())
    return x[..., 0] if x.shape[-1] == 1 else x


def distortion_of(original, changed):
    """:func:`study.distortion.distortion` of uint8 images as they lie in ``dataset.npz``."""
    shapes = (x.reshape(*x.shape[:3], -1) for x in (original, changed))
    return distortion(*(np.moveaxis(x, 3, 1) / 255 for x in shapes))


def png_names(y):
    """train/<class>/<row>.png of each row."""
    wide, deep = len(str(y.max())), len(str(len(y) - 1))
    return [f"{PNG}/{label:0{wide}}/{row:0{deep}}.png" for row, label in enumerate(y.tolist())]


def read_manifest(folder):
    """The :class:`Manifest` of an export; PoisonError if there is none or it is not whole."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PoisonError(f"{folder} is not a whole export: it has no {MANIFEST}.") from error
    except (OSError, ValueError) as error:
        raise PoisonError(f"{path} is not readable ({error}).") from error
    require(isinstance(content, dict), f"{path} must be a JSON object")
    return _valid(Manifest, path, content)


def _valid(kind, where, content):
    try:
        return kind.check(content)
    except SettingsError as error:
        raise PoisonError(f"{where}: {error}.") from None


def _refuse_foreign(out):
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        names = {entry.name for entry in out.iterdir()}
        own = names <= {NPZ, PNG, MANIFEST} and read_manifest(out)
    except (PoisonError, OSError):
        own = False
    allowed = "a new or empty folder, or an earlier export, which is replaced"
    require(own, f"OUT must be {allowed}; {out} is neither")


def hash_npz(folder):
    """SHA-256 of the .npz of an export."""
    return _hash((folder / NPZ).read_bytes())


def hash_pngs(folder, names):
    """One SHA-256 for all PNGs of an export and their names."""
    lines = [f"{_hash((folder / name).read_bytes())}  {name}\n" for name in sorted(names)]
    return _hash("".join(lines).encode())


def _hash(content):
    return hashlib.sha256(content).hexdigest()


def main(arguments=None):
    """The command line; None if all went well, else the sentence that says what did not."""
    from study.verify import DATA_ROOT, DATASET, verify

    description = "Write a training set with its 8-bit poison: an .npz, PNG folders, a manifest."
    parser = argparse.ArgumentParser(prog="python -m study.export", description=description)
    parser.add_argument("poison", metavar="POISON.npz")
    parser.add_argument("path", metavar="OUT", help="a new or empty folder, or an earlier export")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--no-png", action="store_true", help="write no PNG folders")
    rows = "named by their rows in the data set, and nothing else"
    form.add_argument(
        "--flat", action="store_true", help=f"write the poisoned images alone, {rows}"
    )
    form.add_argument("--flat-all", action="store_true", help=f"write all images, {rows}")
    parser.add_argument("--data-root", **DATA_ROOT)
    parser.add_argument("--dataset", **DATASET)
    chosen = parser.parse_args(arguments)
    try:
        files = chosen.poison, chosen.path, chosen.data_root
        if chosen.flat or chosen.flat_all:
            print(export_flat(*files, chosen.flat_all, chosen.dataset))
            return None
        export(*files, not chosen.no_png, chosen.dataset)
        print(verify(chosen.path, chosen.data_root, chosen.dataset))
    except (PoisonError, DataError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
