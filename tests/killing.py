"""``python tests/killing.py FOLDER KILLS``: the notebooks' own cells, killed at random moments.

Poison, victims and rows are made once in ``FOLDER/whole``, and in ``FOLDER/killed`` by processes
that die. Each is a fork of this one, which has imported everything, so a kill costs a second.
"""

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import torch

from pacd.data import ROOT
from study import checkpoint, settings, setup, terminal

IMPORTED = settings, setup, terminal  # by the cells too: once, before the forks
COMMON = {"train_size": 200, "sigma": 0.25}
FEW = {"warmup": 2, "inner_steps": 1, "draws": 2, "clean_batch": 20, "poison_batch": 10}
POISON = {"steps": 6, "attack_options": {**FEW, "val_batch": 10, "hyper_batch": 10}}
VICTIM = {"epochs": 3, "points": 3, "n0": 20, "n": 1100, "seeds": [0, 1]}


def run(name, **parameters):
    """A notebook with other parameters, up to where its result is written; then come figures."""
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    defaults, *cells = ("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code")
    end = next(i for i, cell in enumerate(cells, 1) if "saved.remove()" in cell)
    space = {}
    exec(defaults, space)
    exec("\n".join(cells[:end]), {**space, **parameters})


def line(folder):
    """Poison and victims in a folder; their state is kept at every chance."""
    checkpoint.FOLDER = folder / "checkpoints"
    checkpoint.Checkpoint.__init__.__defaults__ = (0.0,)
    common = {**COMMON, "dataset": str(folder.parent / "digits.npz")}
    poison, rows = folder / "poison.npz", folder / "rows.csv"
    if not poison.exists():
        run("poison", **common, **POISON, poison_file=str(poison))
    run("victim", **common, **VICTIM, poison_file=str(poison), rows_file=str(rows))


def life(folder, seconds=0):
    """One process, killed after so many seconds of computing, 0 for never.

    Returns its exit status and the seconds that it took.
    """
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends a process at once
        line(folder)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def main(folder, kills):
    """1 where a process ended by itself, but not at its end."""
    torch.set_num_threads(1)
    status, seconds = life(folder / "whole")
    chance, killed = random.Random(0), folder / "killed"
    while kills and status in (0, -signal.SIGPROF):
        if status == 0:  # it was done: once more from the start
            shutil.rmtree(killed, ignore_errors=True)
        status, _ = life(killed, chance.uniform(0, seconds))
        kills -= status == -signal.SIGPROF
    return kills or life(killed)[0]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
