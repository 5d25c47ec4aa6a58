"""The ledger: verdicts by their rule, and the committed numbers are those of the rows."""

import json
import subprocess
import sys
from functools import cache, partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from made import rows_of_every_run

from study import claims, grid, statistics
from study.claims import disagreements, verdict
from study.statistics import Cell, drop

CLAIMS = yaml.safe_load(claims.CLAIMS.read_text())


def cell(estimate, low, high):
    return Cell("c", estimate, low, high, 3, ["run"])


@pytest.mark.parametrize(
    "cells, missing, rule, expected",
    [
        ([], 9, {"above": 0.3}, "not run"),
        ([cell(0.5, 0.4, 0.6)], 0, {"above": 0.3}, "reproduced"),
        ([cell(0.5, 0.4, 0.6)], 1, {"above": 0.3}, "partly"),  # a missing cell
        (
            [cell(0.5, 0.2, 0.8)],
            0,
            {"above": 0.3},
            "partly",
        ),  # the interval reaches over the threshold
        ([cell(0.5, 0.4, 0.6), cell(0.1, 0.0, 0.2)], 0, {"above": 0.3}, "partly"),
        ([cell(0.2, 0.1, 0.4)], 0, {"above": 0.3}, "not reproduced"),
        ([cell(0.02, 0.0, 0.04)], 0, {"below": 0.05}, "reproduced"),
        ([cell(0.02, -0.02, 0.06)], 0, {"below": 0.05}, "partly"),
        ([cell(0.10, 0.08, 0.12)], 0, {"below": 0.05}, "not reproduced"),
        ([cell(-0.02, -0.04, 0.0)], 0, {"above": -0.05, "below": 0.05}, "reproduced"),
        ([cell(-0.02, -0.06, 0.02)], 0, {"above": -0.05, "below": 0.05}, "partly"),
        ([cell(-0.06, -0.08, -0.04)], 0, {"above": -0.05, "below": 0.05}, "not reproduced"),
    ],
)
def test_verdicts(cells, missing, rule, expected):
    assert verdict(cells, missing, **rule) == expected


def rows(attack, radius, seeds=(0, 1, 2), **columns):
    """Rows of known ACR: every point of a seed has the radius, plus a little of its own."""
    generator = np.random.default_rng(0)
    spread = 0.01 * generator.standard_normal(40)
    tables = [
        pd.DataFrame(
            {
                "seed": seed,
                "index": range(40),
                "radius": radius + spread,
                "attack": attack,
                **columns,
            }
        )
        for seed in seeds
    ]
    return pd.concat(tables).assign(run=f"{attack}-{radius}", trainer="gaussian", sigma=0.5)


def test_a_drop_of_known_size():
    table = pd.concat(
        [
            rows("none", 1.0, accuracy_target=0.98),
            rows("first_order", 0.4, seeds=(1, 2, 3), accuracy_target=0.88),
        ]
    )
    (found,) = drop(table, ["trainer", "sigma"])
    assert found.estimate == pytest.approx(0.6, abs=1e-3) and found.low < 0.6 < found.high
    assert (
        found.seeds == 2
        and found.cell == "gaussian, 0.5"
        and found.runs == ["first_order-0.4", "none-1.0"]
    )  # the common seeds
    (fall,) = statistics.accuracy_drop(table, ["trainer"])
    assert fall.estimate == pytest.approx(0.1)


def test_against_controls():
    table = pd.concat(
        [
            rows("none", 1.0),
            rows("uniform", 0.5),
            rows("checkerboard", 0.4),
            rows("first_order", 0.4),
        ]
    )
    found = {cell.cell: cell for cell in statistics.against_controls(table, ["attack"])}
    assert set(found) == {"uniform", "checkerboard"}
    assert found["uniform"].estimate == pytest.approx(0.2, abs=1e-3) and found[
        "checkerboard"
    ].estimate == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    "n, off", [(100_000, -0.02), (2000, -0.01)]
)  # certified as it was published, or predicted from fewer draws
def test_distance_to_a_published_acr(monkeypatch, n, off):
    monkeypatch.setattr(
        statistics,
        "predict_acr",
        lambda rows, n, resamples: SimpleNamespace(
            predicted_acr=rows["radius"].mean() + 0.01 * (n == 100_000)
        ),
    )
    table = pd.concat([rows("none", 0.98, n=n), rows("first_order", 0.4, n=n)])
    table["radius"] -= table.groupby(["attack", "seed"])["radius"].transform("mean") - table[
        "attack"
    ].map({"none": 0.98, "first_order": 0.4})
    (found,) = statistics.published(table, ["trainer", "sigma"], {"gaussian 0.5": 1.0}, 100_000)
    assert (found.estimate, found.low, found.high) == pytest.approx((off, off, off)) and (
        found.cell,
        found.runs,
    ) == ("gaussian, 0.5", ["none-0.98"])


@pytest.mark.parametrize(
    "ours, authors, expected",
    [
        (
            (0.1, 0.31, 0.4),
            (0.1, 0.35),
            (0.25, 0.125, 0.5),
        ),  # both at their second snapshots, 100 and 400
        (
            (0.1, 0.31, 0.4),
            (0.1, 0.2),
            (0.25, 0.0, 0.25),
        ),  # the authors' never gets there: at most this
        ((0.31, 0.3, 0.4), (0.1, 0.35), (0.125, 0.0, 0.25)),  # ours at its first
        (
            (0.1, 0.31, 0.4),
            (0.35, 0.2),
            (0.5, 0.25, np.inf),
        ),  # the authors' at its first: at least this
        ((0.1, 0.2, 0.2), (0.1, 0.35), (np.inf, np.inf, np.inf)),  # ours never
    ],
)
def test_cost(tmp_path, ours, authors, expected):
    (tmp_path / "attack.json").write_text(
        json.dumps({"parameters": {"seeds": [0, 1], "growth": 2.0}})
    )
    lines = [
        *zip(["first_order"] * 3, (50, 100, 150), ours),
        *zip(["approxgrad"] * 2, (200, 400), authors),
    ]
    table = pd.DataFrame(lines, columns=["case", "evaluations", "drop"]).assign(kind="snapshot")
    (found,) = statistics.cost(table, [], tmp_path / "attack.csv")
    assert (found.estimate, found.low, found.high, found.seeds) == (*expected, 2)


def test_the_cell_to_compare_with_says_nothing_about_a_claim(monkeypatch):
    plain = pd.concat([rows("none", 1.0, decay=0), rows("first_order", 0.4, decay=0)])
    decayed = pd.concat([rows("none", 1.0, decay=1), rows("first_order", 0.8, decay=1)])
    names = dict.fromkeys(("id", "claim", "source", "rule"), "") | {
        "experiment": "ladder",
        "statistic": "drop",
        "by": ["decay"],
        "above": 0.3,
    }
    claim = names | {"cells": {"laptop": 1}, "besides": {"decay": 0}}
    for table, verdict_ in ((plain, "not run"), (pd.concat([plain, decayed]), "not reproduced")):
        monkeypatch.setattr(
            claims.grid, "rows", lambda profile, experiment, table=table: (table, 0)
        )
        assert claims.assess(claim, "laptop")["verdict"] == verdict_


def test_every_claim_names_what_exists():
    for claim in CLAIMS:
        assert {"id", "claim", "source", "rule", "statistic"} <= set(claim) and {
            "above",
            "below",
        } & set(claim)
        if "experiment" in claim:
            assert all(
                claim["experiment"] in grid.load(profile).experiments for profile in claim["cells"]
            ), claim["id"]
    assert len({claim["id"] for claim in CLAIMS}) == len(CLAIMS)


def test_every_file_that_a_claim_rests_on_is_of_the_grid():
    """So ``make study`` makes it again, and nothing outside is evidence."""
    made = {run["rows_file"] for run in grid.load("laptop").runs.values()}
    files = {file for claim in CLAIMS for file in claim.get("files", {}).values()}
    assert files and files <= made


@pytest.mark.parametrize("profile", claims.PROFILES)
def test_a_complete_profile_has_the_cells_that_the_ledger_waits_for(monkeypatch, profile):
    plan = grid.load(profile)
    made = cache(partial(rows_of_every_run, plan))
    monkeypatch.setattr(claims.grid, "rows", lambda profile, experiment: (made(experiment), 0))
    monkeypatch.setattr(
        statistics, "predict_acr", lambda rows, n, resamples: SimpleNamespace(predicted_acr=1.0)
    )
    judged = [
        claims.assess(claim, profile)
        for claim in CLAIMS
        if "experiment" in claim and profile in claim["cells"]
    ]
    assert len(judged) > 15 and {
        line["id"]: line["missing_cells"] for line in judged
    } == dict.fromkeys((line["id"] for line in judged), 0)


def test_the_committed_ledger_is_what_the_rows_say():
    committed = json.loads(claims.LEDGER.read_text())
    assert list(disagreements(claims.ledger(), committed)) == []


def test_a_planted_disagreement_is_found(tmp_path, monkeypatch):
    committed = json.loads(claims.LEDGER.read_text())
    changed = json.loads(json.dumps(committed))
    line = next(line for line in changed if line["cells"])
    line["cells"][0]["estimate"] += 0.01
    assert len(list(disagreements(committed, changed))) == 1
    line["verdict"] = "reproduced!"
    assert len(list(disagreements(committed, changed[1:]))) in (1, 2)
    (tmp_path / "claims.json").write_text(json.dumps(changed))
    monkeypatch.setattr(claims, "LEDGER", tmp_path / "claims.json")
    monkeypatch.setattr(sys, "argv", ["claims"])
    with pytest.raises(SystemExit) as stopped:
        claims.main()
    assert stopped.value.code == 1


def test_the_command_prints_and_agrees():
    done = subprocess.run([sys.executable, "-m", "study.claims"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(claim["id"] in done.stdout for claim in CLAIMS)
