"""File what a node has made: ``make unpack PROFILE=... FILE=...``.

Everything in the archive is checked before anything is written: that it belongs to the profile's
grid, was made with the parameters that the grid asks for, and is whole. What is there already
stays; different rows in its place are refused.
"""

import argparse
import gzip
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

import pandas as pd

from pacd.data import ROOT
from pacd.poison_file import seal
from study import grid
from study.keep import keep
from study.parameters import SettingsError
from study.results import replacing
from study.rows import exist, kept_with, load


class UnpackError(ValueError):
    """The archive breaks a rule; the message names the first one."""


def require(kept, sentence):
    if not kept:
        raise UnpackError(sentence + ".")


def unpack(path, profile, root=ROOT):
    """Check an archive of rows or of a poison, and file it.

    Parameters
    ----------
    path : Path
        ``rows.tar.gz``, or the archive of a poison.
    profile : str
    root : path
        The folder that holds ``data``.

    Returns
    -------
    (new, known) : ints
        How many runs were filed, and how many were there already.

    Raises
    ------
    UnpackError
        Before anything is written: if the archive is damaged, or holds anything but whole results
        of the profile, or other results than those that are there.
    """
    plan = grid.load(profile)
    content = contents(path)
    runs = runs_of(plan, content)
    known = [run for run in runs if is_there(plan, run, content, root)]
    new = [run for run in runs if run not in known]
    for run in new:
        for name in plan.files(run):  # the result comes last
            with replacing(root / name) as temporary:
                temporary.write_bytes(content[name])
    return len(new), len(known)


def contents(path):
    """``{name: bytes}`` of an archive's files."""
    try:
        whole = io.BytesIO(gzip.decompress(path.read_bytes()))  # with its checksum
        with tarfile.open(fileobj=whole) as archive:
            entries = archive.getmembers()
            for entry in entries:
                require(entry.isreg(), f"{path} may hold plain files only, not {entry.name}")
            return {entry.name: archive.extractfile(entry).read() for entry in entries}
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UnpackError(f"{path} must be a whole archive ({error}).") from None


def runs_of(plan, content):
    """The runs of a grid whose results an archive holds, all of them whole and as asked for."""
    by_file = {name: run for run in (*plan.runs, *plan.poisons) for name in plan.files(run)}
    for name in content:
        require(name in by_file, f"{plan.profile}.yaml must hold a run for each file, not {name}")
    runs = list(dict.fromkeys(by_file[name] for name in content))
    for run in runs:
        files = plan.files(run)
        for name in files:
            require(name in content, f"{run} must have all of its files, and lacks {name}")
        facts, result = _json(files[0], content), files[-1]
        asked = plan.poisons[run] if run in plan.poisons else plan.runs[run]
        _check_parameters(run, facts.get("parameters"), asked)
        whole = facts.get("sha256") == seal(facts, content[result])
        require(whole, f"{run}: the hash of result and manifest must be that in the manifest")
        if run in plan.runs:
            _check_rows(run, content[result], asked)
    return runs


def _json(name, content):
    try:
        facts = json.loads(content[name])
    except ValueError as error:
        raise UnpackError(f"{name} must be JSON ({error}).") from None
    require(isinstance(facts, dict), f"{name} must hold names with their values")
    return facts


def _check_parameters(run, made, asked):
    asked = json.loads(json.dumps(asked))
    require(isinstance(made, dict), f"{run} must have parameters in its manifest")
    names = [name for name in {**asked, **made} if made.get(name) != asked.get(name)]
    for name in names[:1]:
        told = f"{asked.get(name)!r}, as its profile says, not {made.get(name)!r}"
        raise UnpackError(f"{run}: {name} must be {told}.")


def _check_rows(run, text, asked):
    """Rows can be read, and those of a victim are as many for each of its seeds."""
    try:
        rows = pd.read_csv(io.BytesIO(text))
    except ValueError as error:
        raise UnpackError(f"{run}: rows must be a table ({error}).") from None
    require(len(rows) and text.endswith(b"\n"), f"{run} must have whole rows")
    if "noise_seed" in asked:
        sizes = rows.groupby("seed").size()
        same = set(sizes.index) == set(asked["seeds"]) and sizes.nunique() == 1
        require(same, f"{run} must have as many rows for each of the seeds {asked['seeds']}")


def is_there(plan, run, content, root):
    """Whether the same result is there already.

    Raises
    ------
    UnpackError
        If another one is.
    """
    result = plan.files(run)[-1]
    if not exist(root / result):
        return False
    if kept_with(root / result):
        same = load(root / result)[0].equals(pd.read_csv(io.BytesIO(content[result])))
    else:
        same = (root / result).read_bytes() == content[result]
    require(same, f"{result} must be absent or the same, and other rows are there")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("file", nargs="+", type=Path)
    options = parser.parse_args()
    for path in options.file:
        try:
            new, known = unpack(path, options.profile)
        except (UnpackError, SettingsError) as error:
            sys.exit(str(error))
        print(f"{path}: {new} results filed, {known} were there")
    keep(options.profile)


if __name__ == "__main__":
    main()
