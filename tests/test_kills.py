"""A small study that is killed at random moments ends with the rows of one that was left alone.

``pytest tests/test_kills.py --kills 20`` kills more often than the suite does.
"""

import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from pacd.data import ROOT

TINY = """
victim: {train_size: 300, epochs: 3, points: 4, n0: 20, n: 100}
poison: {steps: 3, attack_options: {warmup: 2, draws: 2}}
experiments:
  headline:
    victim: {seed: 0}
    poison: {attack: [none, first_order]}
"""
TIMEOUT = 900
LONGEST = 40  # seconds to a kill; a run that nobody kills takes less, or starts the next loop whole


@pytest.fixture
def tree(tmp_path):
    """A copy of the repository without what was computed, whose states are kept at every chance."""
    tree = tmp_path / "tree"
    skipped = shutil.ignore_patterns(".*", "data", "_build", "runs", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=skipped)
    (tree / "profiles" / "smoke.yaml").write_text(TINY)
    checkpoint = tree / "study" / "checkpoint.py"
    source = checkpoint.read_text()
    assert source.count("every=60.0") == 1
    checkpoint.write_text(source.replace("every=60.0", "every=0.0"))
    return tree


def study(tree, seconds=TIMEOUT):
    """Run the study in a process group of its own, killed after so long; its exit status."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "study.run", "study", "--cores", "2"],
        cwd=tree,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(tree)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def results(tree):
    """The rows, by the run that made them; a manifest beside each."""
    folder = tree / "data" / "results" / "smoke"
    rows = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert {path.stem for path in folder.glob("*.json")} >= {name[:-4] for name in rows}
    return rows


def test_killed_at_random_moments(tree, request):
    chance = random.Random(0)
    for _ in range(request.config.getoption("kills")):
        if study(tree, chance.uniform(3, LONGEST)) == 0:  # it was done: once more from the start
            shutil.rmtree(tree / "data" / "results")
            shutil.rmtree(tree / "data" / "poison")
        elif (tree / "data" / "results" / "smoke").exists():
            results(tree)
    assert study(tree) == 0
    killed = results(tree)
    for made in ("results", "poison"):
        shutil.rmtree(tree / "data" / made)
    assert study(tree) == 0
    assert len(killed) == 2 and killed == results(tree)
    assert not list((tree / "data").rglob("*.pt"))
