"""Move what a kept profile's runs wrote into its tables: ``python -m study.keep PROFILE``.

One table of rows and one file of manifests for each experiment, the detectors' apart. Values are
moved as text, so none is rounded. A run that several experiments share is kept with the first.
"""

import argparse
import sys

import pandas as pd

from pacd.poison_file import manifest_path, seal
from study import grid
from study.results import replacing, write_json
from study.rows import RUNS, check, manifest_of, manifests, table_of, table_with

KINDS = {"victim": "", "curator": "-curator"}  # of rows with one form: what their tables add


def keep(profile):
    """Move the files of a profile's runs into its tables; how many runs (int).

    Raises
    ------
    ValueError
        If rows and manifest of a run do not belong together, or a table holds the run already.
    """
    plan, moved = grid.load(profile), 0
    if not plan.kept:
        return 0
    for experiment in plan.experiments:
        for notebook, ending in KINDS.items():
            own = [path for path in grid.paths(plan, experiment, notebook) if path.exists()]
            if own:
                gather(own[0].with_name(experiment + ending + RUNS), own)
            moved += len(own)
    return moved


def gather(kept, own):
    """Move some runs' own files into a table.

    Parameters
    ----------
    kept : path of the table's file of manifests
    own : list of paths of rows
    """
    runs, tables = {}, []
    if kept.exists():
        check(table_of(kept), manifests(kept))
        runs, tables = dict(manifests(kept)["runs"]), [_text(table_of(kept))]
    for path in own:
        if holder := table_with(path):
            raise ValueError(f"{path} must be new, and {holder} holds that run already.")
        facts = manifest_of(path)
        check(path, facts)
        runs[path.stem] = {name: value for name, value in facts.items() if name != "sha256"}
        tables.append(_text(path).assign(run=path.stem))
    _write(kept, pd.concat(tables).fillna(""), {"runs": runs})
    for path in own:
        path.unlink()
        manifest_path(path).unlink()


def _text(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _write(kept, rows, facts):
    with replacing(table_of(kept)) as temporary:
        rows.to_csv(temporary, index=False)
        write_json(kept, {**facts, "sha256": seal(facts, temporary.read_bytes())})


def main():
    parser = argparse.ArgumentParser(prog="python -m study.keep", description=__doc__)
    parser.add_argument("profile")
    try:
        moved = keep(parser.parse_args().profile)
    except ValueError as error:
        sys.exit(str(error))
    if moved:
        print(f"{moved} runs moved into tables")


if __name__ == "__main__":
    main()
