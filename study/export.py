"""A poisoned training set for other pipelines.

An export is a folder with

- ``dataset.npz``: x_train, y_train (the whole poisoned training split, in its order), x_test, y_test; uint8 images (N, H, W) or
  (N, H, W, 3) and int64 labels. numpy alone reads it, and so does :func:`pacd.data.load`, which draws its validation images
  from x_train as it does with any .npz.
- ``train/<class>/<row>.png``: the same training images, greyscale or RGB, for ``torchvision.datasets.ImageFolder``. The names
  are zero-padded, so that its order of classes is that of the labels and its order within a class that of the rows.
- ``manifest.json``: :class:`Manifest`.

:mod:`study.verify` checks it against the original data.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from pacd.data import load
from pacd.poison_file import PoisonError, apply, promise, read, seal
from study.checked import Checked, SettingsError, Text, allowed
from study.intervals import distortion
from study.results import write_json

NPZ, PNG, MANIFEST = "dataset.npz", "train", "manifest.json"
Hash = Annotated[str, allowed("a SHA-256 in hexadecimal", pattern="^[0-9a-f]{64}$")]


class Source(Checked):
    """What a manifest must say of the original data and of the attacker's budget."""

    dataset: Annotated[Text, allowed("the name of a data set")]
    split_seed: Annotated[int, allowed("a whole number from 0 to 2^63 - 1", ge=0, lt=2**63)]
    train_size: Annotated[int | None, allowed("None or a whole number, 1 or above", ge=1)]
    target_class: Annotated[int, allowed("the number of a class, 0 or above", ge=0)]
    eps_linf: Annotated[float, allowed("a number between 0 and 1, pixel units", ge=0, le=1)]


class Manifest(Source):
    """Of an export. ``png_sha256`` is what ``find train -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`` prints."""

    train_sha256: Hash  # of the clean training split, pacd.data.sha256
    poisoned_indices: Annotated[
        list[Annotated[int, Field(ge=0)]], allowed("rows of x_train, at least one", min_length=1)
    ]
    distortion: Annotated[
        dict[str, float], allowed("a dict of numbers")
    ]  # study.intervals.distortion
    poison: Annotated[dict[str, Any], allowed("the parameters of the poison")]
    npz_sha256: Hash
    png_sha256: Annotated[
        str | None, allowed("None or a SHA-256 in hexadecimal", pattern="^[0-9a-f]{64}$")
    ]
    sha256: Hash  # of this manifest, pacd.poison_file.seal


def export(poison, out, data_root=None, png=True):
    """Write the training set with the 8-bit poison in its place.

    The export is built in a hidden folder beside ``out`` and takes that name when it is whole, so a killed one is never
    taken for an export.

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

    Raises
    ------
    PoisonError, DataError
        If ``out`` holds something else, the poison or its data break a promise, or a class has no image for its PNG folder.
    """
    out = Path(out).resolve()
    _refuse_foreign(out)
    rows, _, _, facts = read(poison)
    source, clean = load_original(poison, facts["parameters"], data_root)
    arrays, rows = as_arrays(apply(poison, clean)[0]), np.sort(rows)
    x, y = arrays["x_train"], arrays["y_train"]
    absent = sorted(set(range(clean.classes)) - set(y.tolist()))
    if png and absent:
        raise PoisonError(
            f"class {absent[0]} has no training image, so ImageFolder would number the classes otherwise; use --no-png."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        folder = Path(temporary) / "export"
        folder.mkdir()
        np.savez_compressed(folder / NPZ, **arrays)
        names = png_names(y) if png else []
        for name, image in zip(names, x):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name)
        content = {
            **source.model_dump(),
            "train_sha256": facts["train_sha256"],
            "poisoned_indices": rows.tolist(),
            "distortion": distortion_of(as_arrays(clean)["x_train"][rows], x[rows]),
            "poison": facts["parameters"],
            "npz_sha256": hash_npz(folder),
            "png_sha256": hash_pngs(folder, names) if png else None,
        }
        write_json(folder / MANIFEST, {**content, "sha256": seal(content)})
        if out.exists():
            os.rename(out, Path(temporary) / "replaced")
        os.rename(folder, out)


def load_original(where, parameters, data_root):
    """What a manifest says of its source (checked; ``where`` is for the sentence), and the clean splits."""
    source = _valid(Source, where, {name: parameters.get(name) for name in Source.model_fields})
    return source, load(source.dataset, data_root, source.split_seed, source.train_size)


def as_arrays(splits):
    """The arrays of ``dataset.npz``."""

    def pixels(x):
        x = np.ascontiguousarray((x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return x[..., 0] if x.shape[-1] == 1 else x

    return {
        "x_train": pixels(splits.x_train),
        "y_train": splits.y_train.numpy(),
        "x_test": pixels(splits.x_test),
        "y_test": splits.y_test.numpy(),
    }


def distortion_of(original, changed):
    """:func:`study.intervals.distortion` of uint8 images as they lie in ``dataset.npz``."""
    return distortion(
        *(np.moveaxis(x.reshape(*x.shape[:3], -1), 3, 1) / 255 for x in (original, changed))
    )


def png_names(y):
    """train/<class>/<row>.png of each row."""
    wide, deep = len(str(y.max())), len(str(len(y) - 1))
    return [f"{PNG}/{label:0{wide}}/{row:0{deep}}.png" for row, label in enumerate(y.tolist())]


def read_manifest(folder):
    """The :class:`Manifest` of an export; PoisonError if there is none or it is not whole."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise PoisonError(f"{folder} is not a whole export: it has no {MANIFEST}.") from error
    except (OSError, ValueError) as error:
        raise PoisonError(f"{folder / MANIFEST} is not readable ({error}).") from error
    promise(isinstance(content, dict), f"{folder / MANIFEST} must be a JSON object")
    return _valid(Manifest, folder / MANIFEST, content)


def _valid(kind, where, content):
    try:
        return kind.check(content)
    except SettingsError as error:
        raise PoisonError(f"{where}: {error}.") from None


def _refuse_foreign(out):
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        own = {entry.name for entry in out.iterdir()} <= {NPZ, PNG, MANIFEST} and read_manifest(out)
    except (PoisonError, OSError):
        own = False
    promise(
        own,
        f"OUT must be a new or empty folder, or an earlier export, which is replaced; {out} is neither",
    )


def hash_npz(folder):
    """SHA-256 of the .npz of an export."""
    return _hash((folder / NPZ).read_bytes())


def hash_pngs(folder, names):
    """One SHA-256 for all PNGs of an export and their names."""
    return _hash(
        "".join(
            f"{_hash((folder / name).read_bytes())}  {name}\n" for name in sorted(names)
        ).encode()
    )


def _hash(content):
    return hashlib.sha256(content).hexdigest()
