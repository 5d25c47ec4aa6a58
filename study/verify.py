"""Check a poison file or an export against the original data: ``python -m study.verify PATH``.

Nothing here imports the attack.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np

from pacd.data import DataError, sha256
from pacd.poison_file import PoisonError, apply, read, require, seal, whole_steps
from study import export, flat

DATA_ROOT = {
    "metavar": "DIR",
    "help": "folder of torchvision's files; default $PACD_DATA, else data/downloads",
}


DATASET = {
    "metavar": "PATH",
    "help": "where the original .npz lies now, if elsewhere than the manifest says",
}


def verify(path, data_root=None, dataset=None):
    """Check a poison file or an export against the original data, loaded anew.

    Parameters
    ----------
    path : path of a poison .npz, or of the folder of an export
    data_root : path, optional
        Folder of torchvision's files, as in :func:`pacd.data.load`.
    dataset : path, optional
        Where the original .npz lies now, if elsewhere than the manifest says.

    Returns
    -------
    str
        What was checked, and the measured L-inf distance in steps of 1/255.

    Raises
    ------
    PoisonError, DataError
        Names the first rule that is broken.
    """
    path = Path(path)
    check = _verify_export if path.is_dir() else _verify_poison
    source, clean, rows, measured, files = check(path, data_root, dataset)
    export.require_change(path, measured)
    size = f"{len(rows)} of {len(clean.x_train)} training images are poisoned"
    allowed = f"{255 * measured:.0f}/255 of {whole_steps(source.eps_linf)}/255 allowed"
    checked = f"original data, counts, labels, other rows, range, {files}, hashes"
    whole = source.target_class is None
    target = "of several classes" if whole else f"all of class {source.target_class}"
    return f"{path} holds: {size}, {target}, L-inf {allowed}; checked: {checked}."


def _verify_export(folder, *data):
    source = export.read_manifest(folder)
    where = folder / export.MANIFEST
    _, clean = export.load_original(where, source.model_dump(), *data)
    files = "PNG = npz" if source.png_sha256 else "npz (there are no PNGs)"
    return source, clean, source.poisoned_indices, _check(folder, source, clean), files


def _verify_poison(path, *data):
    rows, _, _, facts = read(path)
    source, clean = export.load_original(path, facts["parameters"], *data)
    poisoned, _ = apply(path, clean)
    arrays = export.as_arrays(clean), export.as_arrays(poisoned)
    measured = _distortion(path, facts.get("distortion", {}), *arrays, rows)
    return source, clean, rows, measured, "float and 8-bit images"


def _check(folder, manifest, clean):
    """Every rule of an export; the measured L-inf distance (pixel units).

    Hashes come last: they name no reason.
    """
    where, npz = folder / export.MANIFEST, folder / export.NPZ
    same = manifest.train_sha256 == sha256(clean.x_train, clean.y_train)
    require(same, f"{folder} was made from other training data than {manifest.dataset}")
    _check_budget(where, manifest)
    original, arrays = export.as_arrays(clean), _read_npz(npz)
    _check_arrays(npz, original, arrays)
    _check_rows(folder, manifest, original, arrays)
    rows = manifest.poisoned_indices
    measured = _distortion(where, manifest.distortion, original, arrays, rows)
    _check_pngs(folder, manifest, arrays["x_train"], arrays["y_train"])
    kept = manifest.npz_sha256 == export.hash_npz(folder)
    require(kept, f"{npz} has another hash than npz_sha256 of the manifest")
    kept = manifest.sha256 == seal(manifest.model_dump())
    require(kept, f"{where} was changed after it was written: its hash differs")
    return measured


def _check_budget(where, manifest):
    """What the manifest says of data and budget is what it says of the poison."""
    said = {name: manifest.poison.get(name) for name in export.Source.model_fields}
    edited = [name for name, value in said.items() if value != getattr(manifest, name)]
    names = ", ".join(edited)
    require(not edited, f"{where}: {names} must be as in the parameters of the poison")


def _check_arrays(npz, original, arrays):
    """All but x_train is the original."""
    for name, array in arrays.items():
        kind, wanted = (f"{a.dtype} {a.shape}" for a in (array, original[name]))
        require(kind == wanted, f"{npz}: {name} must be {wanted}, not {kind}")
    for name in ("y_train", "x_test", "y_test"):
        differing = _differing(arrays[name], original[name])
        _no_row(differing, f"of {name} in {npz} is not the original")


def _check_rows(folder, manifest, original, arrays):
    """Only the rows named are changed, they are of the class, and they stay in the ball."""
    where, npz = folder / export.MANIFEST, folder / export.NPZ
    x, y, rows = arrays["x_train"], arrays["y_train"], manifest.poisoned_indices
    ascending = rows == sorted(set(rows)) and rows[-1] < len(y)
    require(ascending, f"{where}: poisoned_indices must be ascending rows below {len(y)}")
    target = manifest.target_class
    others = [row for row in rows if target not in (None, y[row])]
    _no_row(others, f"in poisoned_indices is not of target_class {target}")
    unnamed = np.setdiff1d(_differing(x, original["x_train"]), rows)
    _no_row(unnamed, f"of x_train in {npz} is changed but not in poisoned_indices")
    change = np.abs(x[rows].astype(int) - original["x_train"][rows])
    change, most = change.reshape(len(rows), -1).max(1), whole_steps(manifest.eps_linf)
    outside = f"leaves the eps ball ({change.max()}/255, allowed {most}/255)"
    _no_row(np.array(rows)[change > most], f"of x_train in {npz} {outside}")


def _check_pngs(folder, manifest, x, y):
    names = export.png_names(y) if manifest.png_sha256 else []
    expected = {*names, *(os.path.dirname(name) for name in names)}
    entries = (folder / export.PNG).rglob("*")
    found = {entry.relative_to(folder).as_posix() for entry in entries}
    missing, foreign = expected - found, found - expected
    require(not missing, f"{folder}: {min(missing, default='')} is missing")
    require(not foreign, f"{folder}: {min(foreign, default='')} is not part of the export")
    for name, image in zip(names, x):
        same = np.array_equal(flat.read_png(folder / name), image)
        require(same, f"{folder / name} is not the image of its row in {export.NPZ}")
    kept = not names or manifest.png_sha256 == export.hash_pngs(folder, names)
    require(kept, f"the PNGs in {folder} have another hash than png_sha256 of the manifest")


def _distortion(where, recorded, original, arrays, rows):
    """The measured L-inf distance (pixel units), if what the manifest recorded is true."""
    measured = export.distortion_of(original["x_train"][rows], arrays["x_train"][rows])

    def is_measured(name, value):
        # Another order of summation, or another machine, moves the last digits.
        return math.isclose(value, measured.get(name, math.nan), rel_tol=1e-6)

    same = all(is_measured(*entry) for entry in recorded.items())
    require(same, f"{where}: distortion must be {measured}, not {recorded}")
    return measured["linf"]


def _differing(first, second):
    return np.flatnonzero((first != second).reshape(len(first), -1).any(1))


def _no_row(rows, sentence):
    if len(rows):
        raise PoisonError(f"row {rows[0]} {sentence}.")


def _read_npz(path):
    names = ("x_train", "y_train", "x_test", "y_test")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except Exception as error:  # a damaged archive raises half a dozen kinds
        reason = f"{type(error).__name__}: {error}"
        raise PoisonError(f"{path} is missing or not a readable .npz ({reason}).") from error


def main(arguments=None):
    """The command line; None if all holds, else the sentence that says what does not."""
    description = "Check every rule against the original data."
    parser = argparse.ArgumentParser(prog="python -m study.verify", description=description)
    parser.add_argument("path", metavar="PATH", help="a poison .npz or the folder of an export")
    parser.add_argument("--data-root", **DATA_ROOT)
    parser.add_argument("--dataset", **DATASET)
    chosen = parser.parse_args(arguments)
    try:
        print(verify(chosen.path, chosen.data_root, chosen.dataset))
    except (PoisonError, DataError, OSError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
