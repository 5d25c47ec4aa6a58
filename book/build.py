"""Build the book: the executed notebooks that it shows, Sphinx's settings, and Sphinx itself.

``jupyter-book build`` would run Sphinx on one core; the pages are executed on all of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from study import explorer, frames, grid
from study.intervals import pairs
from study.numbers import experiments
from study.results import ROOT

BOOK = ROOT / "book"
BUILD = BOOK / "_build"
EXECUTED = ROOT / "data" / "executed" / "smoke"
# All cores, everything anew, warnings are errors (of missing references too) and all are shown.
SPHINX = ["sphinx-build", "-j", "auto", "-E", "-a", "-W", "--keep-going", "-n", "-q"]


def shown_runs():
    """The runs of the smoke profile that are pages: ``{page: run}``.

    One poison, the first clean and the first poisoned victim, and the audit.
    """
    plan = grid.load("smoke")
    first = {}
    for run in plan.experiments["headline"]:
        poison = plan.victims[run]["poison_file"]
        first.setdefault("victim-poisoned" if poison else "victim-clean", run)
    poison = Path(plan.victims[first["victim-poisoned"]]["poison_file"]).stem
    (audit,) = plan.experiments["audit"]
    return {"poison": poison, **first, "audit": audit}


def shown_pages(toc):
    """The table of contents without the report pages whose experiments have no rows yet.

    A kept profile is computed in pieces.
    """
    if isinstance(toc, dict):
        return {key: shown_pages(value) for key, value in toc.items()}
    if isinstance(toc, list):
        return [shown_pages(entry) for entry in toc if not _is_unready(entry)]
    return toc


def _is_unready(entry):
    return isinstance(entry, dict) and unready(entry.get("file", ""))


def unready(page):
    """Whether a page reads an experiment in which nothing can be compared yet."""
    if not page.startswith("experiments/"):
        return False
    needed = experiments(page)
    plan = grid.load(needed.profile)
    for experiment in needed.experiments:
        if not plan.missing(experiment):
            continue
        rows, _ = grid.rows(needed.profile, experiment)
        compares = any(
            plan.victims[run]["poison_file"]
            for run in plan.experiments[experiment]
            if run in plan.victims
        )
        if rows is None or (compares and not any(pairs(rows, ["trainer", "attack"]))):
            return True
    return False


def copy_runs():
    """Notebooks that papermill has executed, and one that is executed with the report pages."""
    shutil.rmtree(BOOK / "runs", ignore_errors=True)
    (BOOK / "runs").mkdir()
    for page, run in shown_runs().items():
        shutil.copy(EXECUTED / f"{run}.ipynb", BOOK / "runs" / f"{page}.ipynb")
    shutil.copy(ROOT / "notebooks" / "extend.ipynb", BOOK / "runs" / "extend.ipynb")


def write_tables():
    """What a reader can download: all rows of the profiles that the Explorer shows."""
    for profile in explorer.PROFILES:
        frames.write(profile, BUILD / "tables")


def write_settings():
    """Sphinx's settings, of the pages that are shown."""
    toc = BUILD / "_toc.yml"
    toc.parent.mkdir(exist_ok=True)
    pages = shown_pages(yaml.safe_load((BOOK / "_toc.yml").read_text()))
    toc.write_text(yaml.safe_dump(pages, sort_keys=False))
    command = ["jupyter-book", "config", "sphinx", BOOK, "--toc", toc]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main():
    copy_runs()
    write_tables()
    write_settings()
    # What pages import, and the extensions of _config.yml.
    found = os.pathsep.join(map(str, (ROOT, BOOK / "_ext")))
    environment = {**os.environ, "PYTHONPATH": found}
    command = [*SPHINX, BOOK, BUILD / "html"]
    sys.exit(subprocess.run(command, cwd=ROOT, env=environment).returncode)


if __name__ == "__main__":
    main()
