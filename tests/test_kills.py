"""A study that is killed at random moments ends with the rows of one that was left alone.

The notebooks' computing is killed 20 times, the whole line with Snakemake and its kernels a few
times; ``make kills`` kills that 20 times too.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
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
        kill(psutil.Process(process.pid))
        return process.wait()


def kill(process):
    """It and all below it, as a power cut does: kernels have sessions of their own."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family[1:], TIMEOUT)


def results(tree):
    """The rows, by the run that made them; a manifest beside each."""
    folder = tree / "data" / "results" / "smoke"
    rows = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    assert {path.stem for path in folder.glob("*.json")} >= {name[:-4] for name in rows}
    return rows


def test_computing_that_is_killed_20_times(tmp_path, digits):
    parts = {"x_train": digits.x_train[::5], "x_test": digits.x_test}
    pixels = {name: (x * 255).round().byte().numpy()[:, 0] for name, x in parts.items()}
    np.savez(tmp_path / "digits.npz", **pixels, y_train=digits.y_train[::5], y_test=digits.y_test)
    subprocess.run([sys.executable, "tests/killing.py", tmp_path, "20"], cwd=ROOT, check=True)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for result in ("poison.npz", "rows.csv"):
        assert (whole / result).read_bytes() == (killed / result).read_bytes()
    # Of a state that was being written when a kill came, the temporary file stays.
    assert not [path for path in tmp_path.rglob("*.pt") if not path.name.startswith(".")]


def start_again(tree):
    for made in ("results", "poison"):
        shutil.rmtree(tree / "data" / made)


def test_killed_at_random_moments(tree, request):
    chance, started = random.Random(0), time.monotonic()
    status = study(tree)
    assert status == 0
    seconds, whole = time.monotonic() - started, results(tree)
    left = request.config.getoption("kills")
    while left:
        if status == 0:  # it was done: once more from the start
            start_again(tree)
        status = study(tree, chance.uniform(0, seconds))
        assert status in (0, -signal.SIGKILL)
        left -= status != 0
        if (tree / "data" / "results" / "smoke").exists():
            results(tree)
    assert study(tree) == 0
    assert len(whole) == 2 and results(tree) == whole
    assert not list((tree / "data").rglob("*.pt"))
