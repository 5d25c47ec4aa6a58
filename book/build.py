"""Build the book: copy the executed notebooks it shows, let Jupyter Book write Sphinx's settings and run Sphinx.

``jupyter-book build`` would run Sphinx on one core; the pages are executed on all of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from study import grid
from study.intervals import pairs
from study.numbers import experiments
from study.results import ROOT

BOOK = ROOT / "book"


def shown_runs():
    """The runs that are pages: one poison, and the first clean and the first poisoned victim of the smoke profile."""
    plan = grid.load("smoke")
    first = {
        bool(plan.victims[run]["poison_file"]): run
        for run in reversed(plan.experiments["headline"])
    }
    poison = Path(plan.victims[first[True]]["poison_file"]).stem
    return {"poison": poison, "victim-clean": first[False], "victim-poisoned": first[True]}


def shown_pages(toc):
    """The table of contents without the report pages whose experiments have no rows yet (a kept profile is computed in pieces)."""
    if isinstance(toc, dict):
        return {key: shown_pages(value) for key, value in toc.items()}
    if isinstance(toc, list):
        return [
            shown_pages(entry)
            for entry in toc
            if not (isinstance(entry, dict) and unready(entry.get("file", "")))
        ]
    return toc


def unready(page):
    """Whether a page reads an experiment in which nothing can be compared yet."""
    if not page.startswith("experiments/"):
        return False
    needed = experiments(page)
    plan = grid.load(needed.profile)
    for experiment in needed.experiments:
        rows, missing = grid.rows(needed.profile, experiment)
        compares = any(
            plan.victims[run]["poison_file"]
            for run in plan.experiments[experiment]
            if run in plan.victims
        )
        if rows is None or (missing and compares and not any(pairs(rows, ["trainer", "attack"]))):
            return True
    return False


def main():
    shutil.rmtree(BOOK / "runs", ignore_errors=True)
    (BOOK / "runs").mkdir()
    for page, run in shown_runs().items():
        shutil.copy(
            ROOT / "data" / "executed" / "smoke" / f"{run}.ipynb", BOOK / "runs" / f"{page}.ipynb"
        )
    toc = BOOK / "_build" / "_toc.yml"
    toc.parent.mkdir(exist_ok=True)
    toc.write_text(
        yaml.safe_dump(
            shown_pages(yaml.safe_load((BOOK / "_toc.yml").read_text())), sort_keys=False
        )
    )
    shutil.copy(ROOT / "data" / "executed" / "audit.ipynb", BOOK / "runs" / "audit.ipynb")
    shutil.copy(
        ROOT / "notebooks" / "extend.ipynb", BOOK / "runs" / "extend.ipynb"
    )  # executed with the report pages
    subprocess.run(
        ["jupyter-book", "config", "sphinx", BOOK, "--toc", toc],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    command = [
        "sphinx-build",
        "-j",
        "auto",
        "-E",
        "-a",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        BOOK,
        BOOK / "_build" / "html",
    ]
    found = os.pathsep.join(
        map(str, (ROOT, BOOK / "_ext"))
    )  # what the API page imports, and the extensions of _config.yml
    sys.exit(subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": found}).returncode)


if __name__ == "__main__":
    main()
