"""The check of a poison file or of an export against the original data; nothing here imports the attack."""

import argparse
import math
import os
from pathlib import Path

import numpy as np
from PIL import Image

from pacd.data import DataError, sha256
from pacd.poison_file import PoisonError, apply, levels, promise, read, seal
from study.export import (
    MANIFEST,
    NPZ,
    PNG,
    Source,
    as_arrays,
    distortion_of,
    export,
    hash_npz,
    hash_pngs,
    load_original,
    png_names,
    read_manifest,
)


def verify(path, data_root=None):
    """Check a poison file or an export against the original data, loaded anew.

    Parameters
    ----------
    path : path of a poison .npz, or of the folder of an export
    data_root : path, optional
        Folder of torchvision's files, as in :func:`pacd.data.load`.

    Returns
    -------
    str
        What was checked, and the measured L-inf distance in steps of 1/255.

    Raises
    ------
    PoisonError, DataError
        Names the first broken promise.
    """
    path = Path(path)
    if path.is_dir():
        source = read_manifest(path)
        _, clean = load_original(path / MANIFEST, source.model_dump(), data_root)
        rows, measured = source.poisoned_indices, _check(path, source, clean)
        files = "PNG = npz" if source.png_sha256 else "npz (there are no PNGs)"
    else:
        rows, _, _, facts = read(path)
        source, clean = load_original(path, facts["parameters"], data_root)
        poisoned, _ = apply(path, clean)
        measured = _distortion(
            path, facts.get("distortion", {}), as_arrays(clean), as_arrays(poisoned), rows
        )
        files = "float and 8-bit images" + (
            "" if "sha256" in facts else " (the file keeps no hash of itself)"
        )
    return (
        f"{path} holds: {len(rows)} of {len(clean.x_train)} training images are poisoned, all of class {source.target_class}, "
        f"L-inf {255 * measured:.0f}/255 of {levels(source.eps_linf)}/255 allowed; "
        f"checked: original data, counts, labels, other rows, range, {files}, hashes."
    )


def _check(folder, manifest, clean):
    """Every promise of an export; the measured L-inf distance (pixel units). Hashes come last: they name no reason."""
    promise(
        manifest.train_sha256 == sha256(clean.x_train, clean.y_train),
        f"{folder} was made from other training data than {manifest.dataset}",
    )
    budget = {name: manifest.poison.get(name) for name in Source.model_fields}
    edited = [name for name, value in budget.items() if value != getattr(manifest, name)]
    promise(
        not edited,
        f"{folder / MANIFEST}: {', '.join(edited)} must be as in the parameters of the poison",
    )
    original, arrays = as_arrays(clean), _read_npz(folder / NPZ)
    for name, array in arrays.items():
        kind, wanted = (f"{a.dtype} {a.shape}" for a in (array, original[name]))
        promise(kind == wanted, f"{folder / NPZ}: {name} must be {wanted}, not {kind}")
    for name in ("y_train", "x_test", "y_test"):
        _no_row(
            _differing(arrays[name], original[name]),
            f"of {name} in {folder / NPZ} is not the original",
        )
    x, y, rows = arrays["x_train"], arrays["y_train"], manifest.poisoned_indices
    promise(
        rows == sorted(set(rows)) and rows[-1] < len(y),
        f"{folder / MANIFEST}: poisoned_indices must be ascending rows below {len(y)}",
    )
    _no_row(
        [row for row in rows if y[row] != manifest.target_class],
        f"in poisoned_indices is not of target_class {manifest.target_class}",
    )
    _no_row(
        np.setdiff1d(_differing(x, original["x_train"]), rows),
        f"of x_train in {folder / NPZ} is changed but not in poisoned_indices",
    )
    change = np.abs(x[rows].astype(int) - original["x_train"][rows]).reshape(len(rows), -1).max(1)
    steps = levels(manifest.eps_linf)
    _no_row(
        np.array(rows)[change > steps],
        f"of x_train in {folder / NPZ} leaves the eps ball ({change.max()}/255, allowed {steps}/255)",
    )
    measured = _distortion(folder / MANIFEST, manifest.distortion, original, arrays, rows)
    _check_pngs(folder, manifest, x, y)
    promise(
        manifest.npz_sha256 == hash_npz(folder),
        f"{folder / NPZ} has another hash than npz_sha256 of the manifest",
    )
    promise(
        manifest.sha256 == seal(manifest.model_dump()),
        f"{folder / MANIFEST} was changed after it was written: its hash differs",
    )
    return measured


def _check_pngs(folder, manifest, x, y):
    names = png_names(y) if manifest.png_sha256 else []
    expected = {*names, *(os.path.dirname(name) for name in names)}
    found = {entry.relative_to(folder).as_posix() for entry in (folder / PNG).rglob("*")}
    promise(expected <= found, f"{folder}: {min(expected - found, default='')} is missing")
    promise(
        found <= expected,
        f"{folder}: {min(found - expected, default='')} is not part of the export",
    )
    for name, image in zip(names, x):
        try:
            with Image.open(folder / name) as file:
                pixels = np.asarray(file)
        except Exception as error:  # PIL raises several kinds
            raise PoisonError(f"{folder / name} is not a readable PNG ({error}).") from error
        promise(
            np.array_equal(pixels, image), f"{folder / name} is not the image of its row in {NPZ}"
        )
    promise(
        not names or manifest.png_sha256 == hash_pngs(folder, names),
        f"the PNGs in {folder} have another hash than png_sha256 of the manifest",
    )


def _distortion(where, recorded, original, arrays, rows):
    """The measured L-inf distance (pixel units), if what the manifest recorded is true."""
    measured = distortion_of(original["x_train"][rows], arrays["x_train"][rows])
    # Another order of summation, or another machine, moves the last digits.
    same = all(
        math.isclose(value, measured.get(name, math.nan), rel_tol=1e-6)
        for name, value in recorded.items()
    )
    promise(same, f"{where}: distortion must be {measured}, not {recorded}")
    return measured["linf"]


def _differing(first, second):
    return np.flatnonzero((first != second).reshape(len(first), -1).any(1))


def _no_row(rows, sentence):
    if len(rows):
        raise PoisonError(f"row {rows[0]} {sentence}.")


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    except Exception as error:  # a damaged archive raises half a dozen kinds
        raise PoisonError(
            f"{path} is missing or not a readable .npz ({type(error).__name__}: {error})."
        ) from error


def main(arguments=None):
    """The command line; None if all holds, else the sentence that says what does not (exit status 1)."""
    parser = argparse.ArgumentParser(
        prog="python -m pacd.poison_file",
        description="Export a poisoned training set, or verify one.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("export", help="write dataset.npz, PNG folders and a manifest")
    make.add_argument("poison", metavar="POISON.npz")
    make.add_argument(
        "path", metavar="OUT", help="a new or empty folder, or an earlier export, which is replaced"
    )
    make.add_argument("--no-png", action="store_true", help="write no PNG folders")
    check = commands.add_parser("verify", help="check every promise against the original data")
    check.add_argument("path", metavar="PATH", help="a poison .npz or the folder of an export")
    for command in (make, check):
        command.add_argument(
            "--data-root",
            metavar="DIR",
            help="folder of torchvision's files; default $PACD_DATA, else data/downloads",
        )
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "export":
            export(chosen.poison, chosen.path, chosen.data_root, not chosen.no_png)
        print(verify(chosen.path, chosen.data_root))
    except (PoisonError, DataError, OSError) as error:
        return str(error)
