"""Does a poison bite? A few short victims with and without it: ``python -m study.bite POISON.npz``.

They are runs of ``notebooks/victim.ipynb`` with the data and the network that the poison file
names; ``-p NAME VALUE`` changes any of its parameters. Exits with 0 whatever the answer.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import papermill
from papermill.exceptions import PapermillExecutionError

from pacd.poison_file import PoisonError, read
from study.grid import NOTEBOOK_DEFAULTS, SHARED
from study.intervals import accuracy_by_seed, acr, paired_drop
from study.parameters import SettingsError
from study.results import ROOT
from study.rows import read_rows
from study.settings import VictimSettings

# Enough to tell a strong poison from none in minutes on two cores.
SHORT = {"seeds": [0, 1, 2], "epochs": 5, "points": 50, "n": 200, "threads": 1}
OURS = "poison_file", "rows_file"  # not to be changed


def bite(poison, changes):
    """Train and certify victims of clean and of poisoned data.

    Parameters
    ----------
    poison : path of a poison file
    changes : dict
        Parameters of the victims.

    Returns
    -------
    str
        The drop of the ACR, accuracies, seconds, and what was assumed.

    Raises
    ------
    SettingsError, PoisonError, ValueError
        If a parameter is wrong, the poison breaks a rule, or the victims cannot be compared.
    """
    started = time.time()
    told = _told(poison, changes)
    path = str(Path(poison).resolve())
    with tempfile.TemporaryDirectory() as folder:
        # The poisoned ones first: a poison that breaks a rule is refused before any training.
        poisoned = _victims(folder, told | {"poison_file": path})
        clean = _victims(folder, told)
    found = _sentences(clean, poisoned)
    assumed = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
    return f"{found}\n{time.time() - started:.0f} s; assumed: {assumed}."


def _told(poison, changes):
    """What differs from the notebook's defaults, and all that a reader should know; checked."""
    made = read(poison)[-1]["parameters"]
    for name in OURS:
        if name in changes:
            raise SettingsError(
                f"-p may name any parameter of the victims but {' and '.join(OURS)}."
            )
    of_poison = {name: made[name] for name in SHARED if made.get(name) is not None}
    named = {**dict.fromkeys(SHARED), **SHORT, **changes}
    chosen = {**NOTEBOOK_DEFAULTS["victim"], **of_poison, **SHORT, **changes}
    settings = VictimSettings.check(chosen).model_dump()
    if len(settings["seeds"]) < 2 or settings["points"] == 1:
        raise SettingsError("seeds and points must be two or more, or there is no interval.")
    return {name: settings[name] for name in named}


def _victims(folder, told):
    rows = Path(folder) / "rows.csv"
    notebook, out = ROOT / "notebooks" / "victim.ipynb", Path(folder) / "out.ipynb"
    told = told | {"rows_file": str(rows)}
    try:
        papermill.execute_notebook(notebook, out, told, progress_bar=False)
    except PapermillExecutionError as error:
        raise PoisonError(error.evalue) from None
    return read_rows(rows)


def _sentences(clean, poisoned):
    """The answer, and what it is made of."""
    sides = f"ACR {acr(clean):.3f} clean, {acr(poisoned):.3f} poisoned"
    accuracies = [accuracy_by_seed(side).mean() for side in (clean, poisoned)]
    accuracy = "accuracy of the class {:.1%} clean, {:.1%} poisoned".format(*accuracies)
    return f"{_answer(clean, poisoned)}\n{sides}; {accuracy}"


def _answer(clean, poisoned):
    if not acr(clean):
        return "no answer: victims of clean data certify nothing, so there is nothing to lose"
    drop = paired_drop(clean, poisoned)
    size = f"{clean['seed'].nunique()} victims and {clean['index'].nunique()} test points"
    interval = f"95 % interval over {size} {drop.low:.1%} to {drop.high:.1%}"
    answer = "it bites" if drop.low > 0 else "no bite that these victims could tell from none"
    return f"{answer}: drop of the ACR {drop.drop:.1%}, {interval}"


def main(arguments=None):
    """The command line; None whatever the answer, else the sentence that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m study.bite", description=__doc__)
    parser.add_argument("poison", metavar="POISON.npz")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    chosen = parser.parse_args(arguments)
    try:
        print(bite(chosen.poison, dict(chosen.p)))
    except (ValueError, OSError) as error:  # SettingsError and PoisonError are of the first kind
        return str(error)


if __name__ == "__main__":
    sys.exit(main())
