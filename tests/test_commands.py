"""The pages of book/rerun as a reader follows them, in a copy of the repository.

Every block of code is run, in order. A ``text`` block is what the block before it prints, and an
error there says that it fails; a block with a caption is the file that the caption names.
The pages hold the only text of the commands.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from pacd import data
from pacd.data import ROOT

PAGES = sorted((ROOT / "book" / "rerun").glob("*.md"))
FENCE = re.compile(
    r"^```(?P<language>\S+)(?: \w+)?\n"
    r"(?::caption: (?P<caption>[^\n]+)\n\n?)?(?P<code>.*?)^```$",
    re.M | re.S,
)

# All that differs from what a reader runs. The copy's smoke profile is two pairs of victims:
TINY = """
victim: {train_size: 600, epochs: 12, points: 10, n: 100}
experiments:
  headline:
    victim: {seed: [0, 1]}
    poison: {attack: [none, uniform]}
"""
# Lab needs a package index and a browser, so its Run All is made by nbclient, which Lab uses too.
LAB = "make lab"
# The stand-in for Slurm answers at once, so there is nothing to wait for.
WAIT = "--latency-wait 60"
REPLACED = {
    LAB: "jupyter execute notebooks/extend.ipynb",
    WAIT: f"{WAIT} --slurm-init-seconds-before-status-checks 1",
}

# Stand-ins for Slurm's commands: a job runs when it is submitted; what was asked for is kept.
SLURM = {
    "sbatch": 'for last; do :; done; echo "$@" >> $QUEUE/asked; '
    'sh -c "${last#--wrap=}" > $QUEUE/$$.log 2>&1 && state=COMPLETED || state=FAILED; '
    'echo "$$|$state" >> $QUEUE/states; echo $$',
    "sacct": "cat $QUEUE/states",
    "sacctmgr": "echo ACCOUNT",
    "sinfo": "true",
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
}


TIMEOUT = 900  # seconds; blocks take 5 to 60, and a queue that never answers would go on


class Block(NamedTuple):
    language: str
    caption: str
    code: str


def blocks(page):
    text = (ROOT / "book" / "rerun" / f"{page}.md").read_text()
    found = [Block(**match.groupdict()) for match in FENCE.finditer(text)]
    assert 2 * len(found) == len(re.findall("^```", text, re.M)), (
        f"{page}: a fence that this test does not understand"
    )
    return found


def change(tree, block):
    """What a captioned block asks for: a new file."""
    assert not (tree / block.caption).exists()
    (tree / block.caption).write_text(block.code)


def run(tree, block):
    code = block.code
    for shown, instead in REPLACED.items():
        code = code.replace(shown, instead)
    command = {"bash": ["bash", "-e"], "python": [sys.executable, "-"]}[block.language]
    path = f"{tree.parent / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tree), "QUEUE": str(tree.parent)}
    environment.pop("PACD_DATA", None)
    return subprocess.run(
        command,
        input=code,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )


def follow(page, tree, before=lambda block: None):
    """Do what a page says; the outputs of its blocks, by block. ``before`` is called with each."""
    steps, outputs = blocks(page), []
    for block, after in zip(steps, [*steps[1:], None]):
        if block.caption:
            change(tree, block)
        elif block.language != "text":
            before(block)
            done = run(tree, block)
            shown = after.code.strip() if after and after.language == "text" else ""
            assert (done.returncode != 0) == ("Error: " in shown), block.code + done.stdout[-3000:]
            assert shown in done.stdout, done.stdout[-3000:]
            outputs.append(done.stdout)
    return outputs


@pytest.fixture
def tree(tmp_path):
    """A copy of the repository without what was computed, beside the stand-ins for Slurm."""
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT,
        tree,
        ignore=shutil.ignore_patterns(".*", "data", "_build", "runs", "__pycache__", "*.egg-info"),
    )
    (tree / ".venv").symlink_to(sys.prefix)
    (tree / "profiles" / "smoke.yaml").write_text(TINY)
    (tmp_path / "bin").mkdir()
    for name, script in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tree


def test_what_is_replaced_stands_on_one_page():
    text = "".join(page.read_text() for page in PAGES)
    assert [text.count(shown) for shown in REPLACED] == [1] * len(REPLACED)


def test_every_page_is_followed_here():
    assert {page.stem for page in PAGES} == set(
        re.findall(r'follow\("(\w+)"', Path(__file__).read_text())
    )


def test_parameter(tree):
    *_, printed = follow("parameter", tree)
    clean, poisoned = (pd.read_csv(tree / f"{name}.csv") for name in ("clean", "poisoned"))
    assert float(printed.split()[0]) == pytest.approx(
        1 - poisoned["radius"].sum() / clean["radius"].sum(), abs=1e-4
    )
    assert (
        set(clean["label"]) == {3}
        and set(clean["sigma"]) == {0.25}
        and set(clean["seed"]) == {0, 1}
    )


def test_data(tree):
    folder = tree.parent / "torchvision" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    x, y = data._mnist5k()  # digits stand in for clothes: the format is that of torchvision's files
    pixels, labels = (x.repeat(2, 1, 1, 1) * 255).round().byte().numpy(), y.repeat(2).byte().numpy()
    for part, size in (("train", 6000), ("t10k", 1000)):
        rows = np.random.default_rng(0).permutation(10000)[:size]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(
            np.array([2051, size, 28, 28], ">i4").tobytes() + pixels[rows].tobytes()
        )
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            np.array([2049, size], ">i4").tobytes() + labels[rows].tobytes()
        )
    _, _, printed = follow("data", tree)
    assert "training images: 1000\n" in printed  # 6,000 less the 5,000 for validation
    digits, fashion = (pd.read_csv(tree / f"{name}.csv") for name in ("digits", "fashion"))
    with np.load(tree / "digits.npz") as file:
        assert file["x_train"].shape == (1500, 24, 24) and file["x_train"].max() == 255
        assert list(digits["index"]) == list(np.flatnonzero(file["y_test"] == 8)[:10])
    assert len(fashion) == 10 and set(fashion["label"]) == {8}


POISONS = "poison", "brought"
BY_HAND = """
import math
import torch
from mine import consistency

logits = math.log(3) * torch.tensor([[1.0, 0.0], [0.0, 1.0]])
x, y = torch.zeros(1, 1, 1, 1), torch.tensor([0])
options = {"sigma": 1.0, "generator": torch.Generator(), "lam": 3.0, "eta": 0.5}
print(consistency(lambda x: logits, x, y, **options).item())
"""


def test_trainer(tree):
    follow("trainer", tree)
    poison, victim = (
        json.loads((tree / name).read_text()) for name in ("poison.json", "consistency.json")
    )
    assert poison["parameters"]["trainer"] == victim["parameters"]["trainer"] == "mine:consistency"
    assert poison["brought"] == victim["brought"] and set(poison["brought"]) == {"mine:consistency"}
    assert (
        victim["parameters"]["trainer_options"] == {"lam": 5.0}
        and victim["poison"]["trainer"] == "mine:consistency"
    )
    # Two classes and two draws by hand: softmaxes (3/4, 1/4) and (1/4, 3/4) have the mean
    # (1/2, 1/2) with entropy log 2.
    value = float(run(tree, Block("python", None, BY_HAND)).stdout)
    cross_entropy, divergence = -(np.log(3 / 4) + np.log(1 / 4)) / 2, 0.5 * np.log(4 / 3)
    assert value == pytest.approx(cross_entropy + 3 * divergence + 0.5 * np.log(2), rel=1e-5)


def test_bring(tree):
    *_, bite, _, certified = follow("bring", tree)
    assert (
        re.search(r"ACR [\d.]+ clean, [\d.]+ poisoned", bite) and "assumed: dataset mnist5k" in bite
    )
    poison, brought = (json.loads((tree / f"{name}.json").read_text()) for name in POISONS)
    assert poison["parameters"]["attack"] == "yours:brighter"
    assert set(json.loads((tree / "victim.json").read_text())["brought"]) == {
        "yours:darker",
        "yours:halved",
    }
    assert brought["distortion"] == poison["distortion"] and poison["distortion"]["linf"] < 0.06
    assert len(list((tree / "pngs").iterdir())) == brought["poisoned"] == poison["poisoned"]
    rows = pd.read_csv(tree / "linear.csv")
    assert list(rows["index"]) == list(range(0, 500, 50)) and "10 rows: linear.csv" in certified


def test_cluster_and_index(tree):
    """The grid through the generic plugin, and one lost result again through the Slurm plugin.

    Then the rows as the first page uses them.
    """
    results, state = tree / "data" / "results" / "smoke", {}

    def lose_one_result(block):
        if "--latency-wait" in block.code:
            state["whole"] = {path: path.read_bytes() for path in results.glob("*.csv")}
            next(results.glob("*-uniform-1-*.csv")).unlink()
            state["kept"] = {path: path.stat().st_mtime_ns for path in results.glob("*.csv")}

    dry, generic, slurm, _ = follow("cluster", tree, lose_one_result)
    assert (
        re.search(r"poison +1\n.*victim +4\n|victim +4\n.*poison +1\n", dry, re.S)
        and "slurm_partition=gpu, gpu=1" in dry
    )
    assert (
        generic.count("1 of 1 steps (100%) done") == 5 and "6 of 6 steps" in generic
    )  # each job is a Snakemake of its own
    assert len(state["whole"]) == 4 and len(state["kept"]) == 3
    assert {path: path.stat().st_mtime_ns for path in state["kept"]} == state["kept"], slurm[
        -3000:
    ]  # not made again
    assert {path: path.read_bytes() for path in results.glob("*.csv")} == state[
        "whole"
    ]  # the fourth is, and is the same
    (asked,) = (tree.parent / "asked").read_text().splitlines()
    for option in ("-A ACCOUNT", "-p gpu", "--gpus=1", "--mem 8000", "-t 120", "--cpus-per-task=1"):
        assert option in asked

    follow("index", tree)
    rows = {
        name: pd.concat(map(pd.read_csv, results.glob(f"*-{name}-*.csv")))
        for name in ("clean", "uniform")
    }
    table = shown_tables(tree / "out.ipynb")[-1].set_index("bound")
    for bound, radius in (
        ("Clopper-Pearson", lambda row: row["radius"]),
        ("Hoeffding", hoeffding_radius),
    ):
        clean, poisoned = (
            np.mean([radius(row) for _, row in rows[name].iterrows()])
            for name in ("clean", "uniform")
        )
        shown = table.loc[bound, ["ACR clean", "ACR poisoned", "drop"]].to_numpy(float)
        np.testing.assert_allclose(shown, [clean, poisoned, 1 - poisoned / clean], atol=5.1e-4)
        assert table.loc[bound, "low"] <= table.loc[bound, "drop"] <= table.loc[bound, "high"]
    assert 0 < table.loc["Hoeffding", "ACR clean"] < table.loc["Clopper-Pearson", "ACR clean"]


def hoeffding_radius(row):
    """Of one row, solved for the radius's p_A.

    n draws of mean p exceed k / n with probability at most exp(-2 n (k / n - p)^2) = alpha.
    """
    share = row[f"count_{row['guess']}"] / row["n"]
    p = share - (np.log(1 / row["alpha"]) / row["n"] / 2) ** 0.5
    return row["sigma"] * norm.isf(1 - p) if p > 0.5 and row["guess"] == row["label"] else 0.0


def shown_tables(notebook):
    """The tables in a notebook's outputs."""
    outputs = [
        output
        for cell in json.loads(notebook.read_text())["cells"]
        for output in cell.get("outputs", [])
    ]
    pages = [
        "".join(output["data"]["text/html"])
        for output in outputs
        if "text/html" in output.get("data", {})
    ]
    return [pd.read_html(io.StringIO(page), flavor="bs4")[0] for page in pages]


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        (["-p", "proflie", "smoke"], "unknown parameter 'proflie'; did you mean 'profile'?"),
        (["-p", "profile", "smkoe"], "PROFILE must be one of"),
        (
            ["-p", "experiment", "headlin"],
            "experiment must be one of headline, not 'headlin'; did you mean 'headline'?",
        ),
    ],
)
def test_extend_stops_on_a_wrong_parameter(tree, parameters, sentence):
    done = run(
        tree,
        Block("bash", None, f"papermill notebooks/extend.ipynb out.ipynb {' '.join(parameters)}"),
    )
    assert done.returncode != 0 and sentence in done.stdout.strip().splitlines()[-1]
