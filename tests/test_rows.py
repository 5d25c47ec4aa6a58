"""Rows as they were written, wherever they are kept."""

import json

import pandas as pd
import pytest

from study import grid, keep, rows
from study.results import write_rows

RADII = {"a": [0.1, 1 / 3], "b": [2.0, 1e-17], "c": [0.5, 0.25]}


def facts(run):
    accuracy = {0: {"all": 0.9, "target": 0.8}}
    parameters = {"trainer": "gaussian", "trainer_options": {}, "sigma": 0.5, "seeds": [0]}
    return {"parameters": parameters, "poison": None, "accuracy": accuracy, "commit": run}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Two experiments that share run b; run c has a column more; d has no rows."""
    folder = tmp_path / "data/results/t"
    monkeypatch.setattr(grid, "ROOT", tmp_path)
    plan = grid.Grid("t", kept=True, experiments={"one": ["a", "b"], "two": ["b", "c", "d"]})
    for run in "abcd":
        plan.victims[run] = {"rows_file": f"data/results/t/{run}.csv"}
    monkeypatch.setattr(grid, "load", lambda profile: plan)
    for run, radii in RADII.items():
        table = pd.DataFrame({"seed": 0, "index": [3, 5], "radius": radii})
        table = table.assign(empirical_radius=1.5) if run == "c" else table
        write_rows(folder / f"{run}.csv", table, facts(run))
    return plan


def test_kept_rows_are_those_that_were_written(plan):
    paths = grid.rows_files("t", "one") | grid.rows_files("t", "two")
    before = {run: rows.load(path) for run, path in paths.items() if run != "d"}
    table, missing = grid.rows("t", "two")
    assert keep.keep("t") == 3 and keep.keep("t") == 0
    folder = paths["a"].parent
    assert {path.name for path in folder.iterdir()} == {
        f"{name}{end}" for name in ("one", "two") for end in (rows.RUNS, rows.TABLE)
    }
    for run, (values, made) in before.items():
        kept, manifest = rows.load(paths[run])
        pd.testing.assert_frame_equal(kept, values, check_exact=True)
        assert manifest == {name: value for name, value in made.items() if name != "sha256"}
    again, still_missing = grid.rows("t", "two")
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert missing == still_missing == 1 and plan.missing() == ["d"]
    assert set(rows.manifests(folder / "one.runs.json")["runs"]) == {"a", "b"}


def test_later_runs_join_a_table(plan):
    later = grid.rows_files("t", "one")["b"]
    aside = later.rename(later.with_suffix(".away"))
    keep.keep("t")
    aside.rename(later)
    assert keep.keep("t") == 1 and grid.rows("t", "one")[1] == 0
    assert list(rows.load(later)[0]["radius"]) == RADII["b"]


def test_a_run_that_is_kept_already_is_refused_and_nothing_is_lost(plan):
    path = grid.rows_files("t", "one")["a"]
    content, beside = path.read_bytes(), path.with_suffix(".json").read_bytes()
    keep.keep("t")
    path.write_bytes(content)
    path.with_suffix(".json").write_bytes(beside)
    with pytest.raises(ValueError, match="a.csv must be new, and .*one.runs.json holds that run"):
        keep.keep("t")
    assert path.read_bytes() == content and len(rows.load(path)[0]) == 2


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("part", ["rows", "manifest"])
def test_what_does_not_belong_together_is_refused(plan, kept, part):
    """A full disk or a hand may leave old rows under a new manifest, or the other way round."""
    path = grid.rows_files("t", "one")["a"]
    other = path.with_name("b.csv")
    if kept:
        keep.keep("t")
        path, other = path.with_name("one.csv.xz"), path.with_name("two.csv.xz")
    if part == "rows":
        path.write_bytes(other.read_bytes())
    else:
        beside = path.with_name("one.runs.json") if kept else path.with_suffix(".json")
        beside.write_text(beside.read_text().replace("0.8", "0.7"))
    with pytest.raises(ValueError, match="must belong together, and their hash differs"):
        grid.rows("t", "one")
    if not kept:
        with pytest.raises(ValueError, match="must belong together"):
            keep.keep("t")
        assert path.exists()


def test_a_manifest_without_a_hash_is_refused(plan):
    path = grid.rows_files("t", "one")["a"]
    beside = path.with_suffix(".json")
    made = json.loads(beside.read_text())
    beside.write_text(json.dumps({name: made[name] for name in made if name != "sha256"}))
    with pytest.raises(ValueError, match="must belong together"):
        rows.load(path)


def test_a_run_without_rows_is_named(plan):
    with pytest.raises(FileNotFoundError, match="d.json"):
        rows.load(grid.rows_files("t", "two")["d"])


def test_a_profile_that_is_not_kept_stays_as_it_is(plan):
    plan.kept = False
    assert keep.keep("t") == 0 and grid.rows_files("t", "one")["a"].exists()
