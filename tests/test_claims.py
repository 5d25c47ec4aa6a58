"""The ledger: verdicts by their rule, and the committed numbers are those of the rows."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from pacd import claims
from pacd.claims import Cell, disagreements, drop, verdict
from profiles import grid

CLAIMS = yaml.safe_load(claims.CLAIMS.read_text())


def cell(estimate, low, high):
    return Cell("c", estimate, low, high, 3, ["run"])


@pytest.mark.parametrize("cells, missing, rule, expected", [
    ([], 9, {"above": 0.3}, "not run"),
    ([cell(0.5, 0.4, 0.6)], 0, {"above": 0.3}, "reproduced"),
    ([cell(0.5, 0.4, 0.6)], 1, {"above": 0.3}, "partly"),  # a missing cell
    ([cell(0.5, 0.2, 0.8)], 0, {"above": 0.3}, "partly"),  # the interval reaches over the threshold
    ([cell(0.5, 0.4, 0.6), cell(0.1, 0.0, 0.2)], 0, {"above": 0.3}, "partly"),
    ([cell(0.2, 0.1, 0.4)], 0, {"above": 0.3}, "not reproduced"),
    ([cell(0.02, 0.0, 0.04)], 0, {"below": 0.05}, "reproduced"),
    ([cell(0.02, -0.02, 0.06)], 0, {"below": 0.05}, "partly"),
    ([cell(0.10, 0.08, 0.12)], 0, {"below": 0.05}, "not reproduced"),
])
def test_verdicts(cells, missing, rule, expected):
    assert verdict(cells, missing, **rule) == expected


def rows(attack, radius, seeds=(0, 1, 2), **columns):
    """Rows of known ACR: every point of a seed has the radius plus a little that depends on the point."""
    generator = np.random.default_rng(0)
    spread = 0.01 * generator.standard_normal(40)
    tables = [pd.DataFrame({"seed": seed, "index": range(40), "radius": radius + spread, "attack": attack, **columns}) for seed in seeds]
    return pd.concat(tables).assign(run=f"{attack}-{radius}", trainer="gaussian", sigma=0.5)


def test_a_drop_of_known_size():
    table = pd.concat([rows("none", 1.0, accuracy_target=0.98), rows("first_order", 0.4, seeds=(1, 2, 3), accuracy_target=0.88)])
    (found,) = drop(table, ["trainer", "sigma"])
    assert found.estimate == pytest.approx(0.6, abs=1e-3) and found.low < 0.6 < found.high
    assert found.seeds == 2 and found.cell == "gaussian, 0.5" and found.runs == ["first_order-0.4", "none-1.0"]  # the common seeds
    (fall,) = claims.accuracy_drop(table, ["trainer"])
    assert fall.estimate == pytest.approx(0.1)


def test_against_controls():
    table = pd.concat([rows("none", 1.0), rows("uniform", 0.5), rows("checkerboard", 0.4), rows("first_order", 0.4)])
    found = {cell.cell: cell for cell in claims.against_controls(table, ["attack"])}
    assert set(found) == {"uniform", "checkerboard"}
    assert found["uniform"].estimate == pytest.approx(0.2, abs=1e-3) and found["checkerboard"].estimate == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("authors, ratio", [(0.35, 0.5), (0.2, 0.25)])  # the authors' setting gets there at its first snapshot, or never
def test_cost(tmp_path, authors, ratio):
    (tmp_path / "attack.json").write_text(json.dumps({"parameters": {"seeds": [0, 1], "growth": 2.0}}))
    lines = [("first_order", 50, 0.1), ("first_order", 100, 0.31), ("first_order", 150, 0.4), ("approxgrad", 200, authors), ("approxgrad", 400, authors)]
    table = pd.DataFrame(lines, columns=["case", "evaluations", "drop"]).assign(kind="snapshot")
    (found,) = claims.cost(table, [], tmp_path / "attack.csv")
    assert (found.low, found.estimate, found.high, found.seeds) == (ratio / 2, ratio, ratio * 2, 2)


def test_the_cell_to_compare_with_says_nothing_about_a_claim(monkeypatch):
    plain = pd.concat([rows("none", 1.0, decay=0), rows("first_order", 0.4, decay=0)])
    decayed = pd.concat([rows("none", 1.0, decay=1), rows("first_order", 0.8, decay=1)])
    names = dict.fromkeys(("id", "claim", "source", "rule"), "") | {"experiment": "ladder", "statistic": "drop", "by": ["decay"], "above": 0.3}
    claim = names | {"cells": {"laptop": 1}, "besides": {"decay": 0}}
    for table, verdict_ in ((plain, "not run"), (pd.concat([plain, decayed]), "not reproduced")):
        monkeypatch.setattr(claims.grid, "rows", lambda profile, experiment, table=table: (table, 0))
        assert claims.assess(claim, "laptop")["verdict"] == verdict_


def test_every_claim_names_what_exists():
    for claim in CLAIMS:
        assert {"id", "claim", "source", "rule", "statistic"} <= set(claim) and ("above" in claim) != ("below" in claim)
        if "experiment" in claim:
            assert all(claim["experiment"] in grid.load(profile).experiments or not claim["cells"][profile] for profile in claims.PROFILES), claim["id"]
    assert len({claim["id"] for claim in CLAIMS}) == len(CLAIMS)


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
    done = subprocess.run([sys.executable, "-m", "pacd.claims"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(claim["id"] in done.stdout for claim in CLAIMS)
