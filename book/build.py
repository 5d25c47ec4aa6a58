"""Build the book: copy the executed notebooks it shows and run jupyter-book."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from profiles import grid  # noqa: E402

BOOK = ROOT / "book"


def shown_runs():
    """The runs that are pages: one poison, and the first clean and the first poisoned victim of the smoke profile."""
    plan = grid.load("smoke")
    first = {bool(plan.victims[run]["poison_file"]): run for run in reversed(plan.experiments["headline"])}
    poison = Path(plan.victims[first[True]]["poison_file"]).stem
    return {"poison": poison, "victim-clean": first[False], "victim-poisoned": first[True]}


def main():
    shutil.rmtree(BOOK / "runs", ignore_errors=True)
    (BOOK / "runs").mkdir()
    for page, run in shown_runs().items():
        shutil.copy(ROOT / "data" / "executed" / "smoke" / f"{run}.ipynb", BOOK / "runs" / f"{page}.ipynb")
    command = ["jupyter-book", "build", BOOK, "--all", "-W", "--keep-going", "-n", "--quiet"]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
