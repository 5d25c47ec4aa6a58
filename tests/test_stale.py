"""What a result depends on: every file of pacd/ and its notebook, and nothing of study/.

The workflow runs in a copy with a stand-in for papermill that only writes the files it is asked
for, and then says what it would make again.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pacd.data import ROOT

METHOD = sorted(path.name for path in (ROOT / "pacd").glob("*.py"))
# A run of each kind, and coloured images that a rule makes.
PROFILE = """
experiments:
  curation: {poison: {attack: [none, uniform]}}
  colour:
    victim: {dataset: data/downloads/coloured_digits.npz, architecture: resnet20}
    poison: {attack: uniform}
  shortcut:
    notebook: shortcut
    parameters: {rows_file: data/results/smoke/shortcut.csv}
    poison: {attack: uniform}
  cost: {notebook: cost, parameters: {rows_file: data/results/smoke/cost.csv}}
  linear:
    notebook: linear_vs_lenet
    parameters: {dataset: mine.npz, rows_file: data/results/elsewhere/linear.csv}
  first:
    notebook: first_layer_theory
    parameters: {others: [], rows_file: data/results/elsewhere/first.csv}
  brought: {victim: {trainer: "mine:loss"}, poison: {attack: none}}
  audit: {notebook: audit, parameters: {rows_file: data/results/smoke/audit.csv}}
"""
MINE = "def loss(model, x, y, *, sigma, generator, epoch=None): ...\n"
JOBS = {
    "poison": 2,
    "victim": 4,
    "curator": 1,
    "shortcut": 1,
    "cost": 1,
    "linear_vs_lenet": 1,
    "first_layer_theory": 1,
    "audit": 1,
}
PAPERMILL = f"""#!{sys.executable} -S
import json, pathlib, sys
parameters = json.loads(sys.argv[sys.argv.index("-y") + 1])
written = parameters.get("rows_file") or parameters["poison_file"]
path = pathlib.Path(written)
ends = [path.suffix, ".json", "_pattern.csv", "_prediction.csv", "_prediction.json"]
for end in ends:
    path.with_name(path.stem + end).write_text("made")
"""


def copy(folder):
    """The workflow with that profile, and the stand-in beside it."""
    tree = folder / "tree"
    for part in ("pacd", "study", "notebooks"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", tree)
    (tree / "profiles").mkdir()
    (tree / "profiles" / "smoke.yaml").write_text(PROFILE)
    (tree / "mine.py").write_text(MINE)
    (tree / "mine.npz").write_text("images")
    stand_in = folder / "bin" / "papermill"
    stand_in.parent.mkdir()
    stand_in.write_text(PAPERMILL)
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IEXEC)
    return tree


def snakemake(tree, *options):
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    environment["PATH"] = (
        f"{tree.parent / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    command = [sys.executable, "-m", "snakemake", "study", "--cores", "1", *options]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def would_make(tree):
    """How many jobs of each rule a run would make, but for the rule that only asks for them."""
    said = snakemake(tree, "--dry-run", "--quiet", "reason")
    jobs = re.findall(r"^(\w+) +(\d+)$", said, re.M)
    return {rule: int(number) for rule, number in jobs if rule not in ("study", "total")}


def edit(tree, *names):
    for name in names:
        path = tree / name
        more = "\n" if name.endswith(".ipynb") else "# edited\n"
        path.write_text(path.read_text() + more)


def listed(tree):
    """The inputs of every output, as the workflow lists them."""
    table = [line.split("\t") for line in snakemake(tree, "--detailed-summary").splitlines()]
    head = next(line for line in table if line[0] == "output_file")
    rule, inputs = head.index("rule"), head.index("input-file(s)")
    lines = [line for line in table[table.index(head) + 1 :] if len(line) == len(head)]
    return [(line[rule], set(line[inputs].split(","))) for line in lines]


def check_inputs(tree):
    """Every result lists all of pacd/ and its notebook, and nothing of study/."""
    found = listed(tree)
    assert {rule for rule, _ in found} == {*JOBS, "coloured_digits"}
    for rule, inputs in found:
        code = {name for name in inputs if name.endswith((".py", ".ipynb"))}
        code.discard(str(tree / "mine.py"))  # of one victim; see below
        wanted = {f"pacd/{name}" for name in METHOD} | {f"notebooks/{rule}.ipynb"}
        wrong = code ^ (set() if rule == "coloured_digits" else wanted)
        assert not wrong, f"{rule} lists too little or too much: {wrong}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy in which everything has been made."""
    tree = copy(tmp_path_factory.mktemp("made"))
    assert would_make(tree) == {**JOBS, "coloured_digits": 1}
    snakemake(tree)
    return tree


def test_every_result_lists_what_it_depends_on(made):
    check_inputs(made)


def test_what_is_edited_and_what_is_made_again(made):
    """In one go, as each look takes seconds: that every file of pacd/ counts is tested above."""
    assert would_make(made) == {}
    edit(made, *(f"study/{path.name}" for path in (made / "study").glob("*.py")))
    assert would_make(made) == {}
    edit(made, "notebooks/cost.ipynb")
    assert would_make(made) == {"cost": 1}
    edit(made, "mine.py")
    assert would_make(made) == {"cost": 1, "victim": 1}
    edit(made, "mine.npz")
    assert would_make(made) == {"cost": 1, "victim": 1, "linear_vs_lenet": 1}
    edit(made, f"pacd/{METHOD[-1]}")
    assert would_make(made) == JOBS


FAULTS = {
    "a list of some modules": (
        'METHOD = sorted(map(str, Path("pacd").glob("*.py")))',
        'METHOD = ["pacd/hypergradient.py", "pacd/losses.py", "pacd/smoothing.py"]',
    ),
    "study beside the method": (
        'METHOD = sorted(map(str, Path("pacd").glob("*.py")))',
        'METHOD = [str(p) for p in (*Path("pacd").glob("*.py"), Path("study/intervals.py"))]',
    ),
    "one notebook's own list": (
        "            sources(notebook),",
        '            sources(notebook)[-4:] if notebook == "audit" else sources(notebook),',
    ),
    "the code that made the images": (
        "rule coloured_digits:\n",
        'rule coloured_digits:\n    input:\n        "study/coloured_digits.py",\n',
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path, fault):
    right, wrong = FAULTS[fault]
    tree = copy(tmp_path)
    text = (tree / "Snakefile").read_text()
    assert text.count(right) == 1
    (tree / "Snakefile").write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError, match="lists too little or too much"):
        check_inputs(tree)
