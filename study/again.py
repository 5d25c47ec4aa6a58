"""Make one kept run again and compare its rows: ``python -m study.again PROFILE --seed 0``.

The run is drawn at random from those with rows; its poison is made again too. Exits with 1 where a
row differs. On another kind of processor single votes may (see ``data/README.md``).
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

import papermill

from study import grid
from study.parameters import SettingsError
from study.results import ROOT
from study.rows import exist, load


def drawn(plan, seed):
    """The name of a victim with rows, drawn at random.

    Raises
    ------
    SettingsError
        If none has any.
    """
    there = [run for run, made in plan.victims.items() if exist(ROOT / made["rows_file"])]
    if not there:
        raise SettingsError(f"PROFILE must be one with rows, and {plan.profile} has none.")
    return random.Random(seed).choice(sorted(there))


def made_again(plan, run, folder):
    """The rows (DataFrame) of a victim that is made again in a folder, with its poison."""
    victim = dict(plan.victims[run])
    if victim["poison_file"]:
        poison = plan.poisons[Path(victim["poison_file"]).stem]
        victim["poison_file"] = str(folder / "poison.npz")
        _execute("poison", folder, poison | {"poison_file": victim["poison_file"]})
    victim["rows_file"] = str(folder / "rows.csv")
    _execute("victim", folder, victim)
    return load(victim["rows_file"])[0]


def _execute(notebook, folder, parameters):
    source, out = ROOT / "notebooks" / f"{notebook}.ipynb", folder / f"{notebook}.ipynb"
    papermill.execute_notebook(source, out, parameters, cwd=ROOT, progress_bar=False)


def differing(before, after):
    """How many rows differ in a column that both tables have, of tables in the same order."""
    shared = [name for name in before if name in after]
    if len(before) != len(after):
        return max(len(before), len(after))
    equal = before[shared].eq(after[shared]) | before[shared].isna() & after[shared].isna()
    return int((~equal.all(axis=1)).sum())


def main():
    parser = argparse.ArgumentParser(prog="python -m study.again", description=__doc__)
    parser.add_argument("profile")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of the run")
    chosen = parser.parse_args()
    plan = grid.load(chosen.profile)
    run = drawn(plan, chosen.seed)
    print(f"{run}: made again", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        after = made_again(plan, run, Path(folder))
    before = load(ROOT / plan.victims[run]["rows_file"])[0]
    wrong = differing(before, after)
    print(f"{len(before) - wrong} of {len(before)} rows are the same")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
