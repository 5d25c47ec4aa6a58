"""The notebooks as a user runs them: plain papermill, on tiny parameters."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, norm

from pacd.data import ROOT
from study.intervals import acr_sentence
from study.rows import RUNS, manifests, read_rows

TINY = {"train_size": 600, "threads": 1, "sigma": 0.25, "target_class": 3}
VICTIM = {**TINY, "epochs": 3, "n": 130, "points": 12, "certify_batch": 50}
POISON = {**TINY, "steps": 2, "attack_options": {"warmup": 2, "draws": 2}}


def papermill(notebook, folder, **parameters):
    command = [
        sys.executable,
        "-m",
        "papermill",
        ROOT / "notebooks" / f"{notebook}.ipynb",
        folder / "out.ipynb",
        "-y",
        json.dumps(parameters),
        "--no-progress-bar",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def poison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poison")
    done = papermill("poison", folder, **POISON, poison_file=str(folder / "p.npz"))
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "p.npz"


def victim(folder, name, **parameters):
    done = papermill("victim", folder, **{**VICTIM, "rows_file": str(folder / name), **parameters})
    assert done.returncode == 0, done.stderr[-2000:]
    return read_rows(folder / name)


def test_rows_of_a_clean_and_a_poisoned_victim(poison, tmp_path):
    path = tmp_path / "clean.csv"
    done = papermill("victim", tmp_path, **VICTIM, rows_file=str(path), seeds="0,1")
    clean = read_rows(path)
    own = [line for line in done.stderr.splitlines() if line.startswith(("ACR", "24 rows"))]
    accuracies = [
        clean[f"accuracy_{of}"].groupby(clean["seed"]).first() for of in ("all", "target")
    ]
    of_all, of_class = (f"{mean.mean():.3f}" for mean in accuracies)
    told = f"accuracy without noise {of_all}, of the class {of_class}"
    assert own[0] == f"{acr_sentence(clean)}; {told}"
    assert own[1].endswith(f" s: {path}") and len(own) == 2
    poisoned = victim(tmp_path, "poisoned.csv", seeds="0,1", poison_file=str(poison))
    for rows in (clean, poisoned):
        counts = rows.filter(regex="^count_").to_numpy()
        assert len(rows) == 24 and (counts.sum(1) == rows["n"]).all()
        assert set(rows["n"]) <= {0, 130} and (rows["label"] == 3).all()
        k, drawn = counts[range(24), rows["guess"]], rows["n"] > 0
        p = np.where(k > 0, beta.ppf(0.001, np.maximum(k, 1), rows["n"] - k + 1), 0)
        np.testing.assert_allclose(rows["p_lower"][drawn], p[drawn], rtol=1e-9)
        certified = drawn & (p > 0.5) & (rows["guess"] == 3)
        np.testing.assert_allclose(
            rows["radius"], np.where(certified, 0.25 * norm.ppf(np.maximum(p, 0.5)), 0), rtol=1e-9
        )
    assert (
        clean[["seed", "index", "noise_seed"]] == poisoned[["seed", "index", "noise_seed"]]
    ).all(axis=None)
    assert clean["radius"].mean() > 0.05  # three epochs on 600 digits already certify something
    assert set(clean["attack"]) == {"none"} and set(poisoned["attack"]) == {"first_order"}
    assert set(poisoned["eps_linf"]) == {0.1} and set(poisoned["crafting_trainer"]) == {"gaussian"}
    assert set(poisoned["poison_seed"]) == {0} and clean["poison_seed"].isna().all()


def test_rows_from_before_normalisation_was_a_parameter_are_of_centred_networks():
    folder = ROOT / "data" / "results" / "laptop"
    every = {}
    for path in sorted(folder.glob(f"*{RUNS}")):
        every |= manifests(path)["runs"]
    old = next(run for run, made in every.items() if "normalisation" not in made["parameters"])
    assert set(read_rows(folder / f"{old}.csv")["normalisation"]) == {"centred"}


def test_repeating_a_run_repeats_its_rows(tmp_path):
    first, again = (victim(tmp_path, name) for name in ("a.csv", "b.csv"))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() and len(
        first
    ) == len(again)


def test_the_manifest_says_how_the_rows_were_made(poison, tmp_path):
    victim(tmp_path, "rows.csv", poison_file=str(poison))
    facts = json.loads((tmp_path / "rows.json").read_text())
    assert facts["parameters"]["sigma"] == 0.25 and facts["poison"]["target_class"] == 3
    assert {"commit", "versions", "device", "seconds", "train_sha256", "accuracy"} <= set(facts)


@pytest.mark.parametrize(
    "notebook, parameters, sentence",
    [
        ("victim", {"sgima": 0.25}, "unknown parameter 'sgima'; did you mean 'sigma'?"),
        ("victim", {"alpha": 1.5}, "alpha must be a failure probability between 0 and 1, not 1.5"),
        ("victim", {"trainer": "macr"}, "did you mean 'macer'?"),
        ("poison", {"eps_linf": -1}, "eps_linf must be a number between 0 and 1"),
        (
            "poison",
            {"trainer_options": {"draw": 2}},
            "trainer_options of gaussian: unknown parameter 'draw'; known: none",
        ),
        ("victim", {"poison_file": "absent.npz"}, "there is no poison file absent.npz"),
        ("victim", {"target_class": 10}, "target_class must be below 10 for mnist5k, not 10"),
        ("linear_vs_lenet", {"sgima": 1}, "unknown parameter 'sgima'; did you mean 'sigma'?"),
        ("poison", {"dataset": "mnits"}, "dataset must be one of mnist5k"),
    ],
)
def test_plain_papermill_stops_on_a_wrong_parameter(tmp_path, notebook, parameters, sentence):
    done = papermill(notebook, tmp_path, **parameters)
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    own = next(i for i, line in enumerate(lines) if line.startswith("Traceback"))  # papermill's
    assert sentence in lines[-1] and any(sentence in line for line in lines[:own])
    # Papermill's own are 25; a kernel that it interrupts while it answers may add a few.
    assert "parameters.py" not in done.stderr and len(lines) < 70


def test_another_class_than_the_poisons_is_refused(poison, tmp_path):
    done = papermill(
        "victim", tmp_path, **{**VICTIM, "poison_file": str(poison), "target_class": 4}
    )
    assert (
        done.returncode != 0
        and "target_class must be 3, the class of this poison file, not 4" in done.stderr
    )


def test_a_planted_shortcut_is_seen(tmp_path):
    """A pattern as strong as strokes turns the votes on other digits, but not clean victims'."""
    done = papermill(
        "poison",
        tmp_path,
        **TINY,
        attack="checkerboard",
        eps_linf=0.8,
        poison_file=str(tmp_path / "p.npz"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    settings = {"epochs": 5, "seeds": "0", "points": 30, "draws": 5, "strengths": [0.0, 1.0]}
    done = papermill(
        "shortcut",
        tmp_path,
        **TINY,
        **settings,
        poison_file=str(tmp_path / "p.npz"),
        rows_file=str(tmp_path / "rows.csv"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    share = pd.read_csv(tmp_path / "rows.csv").set_index(["victim", "images", "strength"])["share"]
    assert len(share) == 8
    pattern = pd.read_csv(tmp_path / "rows_pattern.csv").to_numpy()
    assert (
        pattern.shape == (28, 28) and pattern[0, 0] > 0.7 and pattern[0, 10] == 0
    )  # bright and dark squares, and no pixel below 0
    assert share["clean", "target", 0.0] > 0.5 > share["clean", "others", 1.0]
    assert share["poisoned", "others", 1.0] > 0.5 > share["poisoned", "others", 0.0]
