"""Rows and drops for pandas: whole, documented, and what the study's own functions give."""

import re

import pandas as pd
import pytest

from pacd.data import ROOT
from study import drops, frames
from study.parameters import SettingsError

EXAMPLE = re.compile(r"\(sec-frames\)=.*?```python\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def tables():
    return {profile: frames.rows(profile) for profile in ("laptop",)}


def test_no_column_is_undocumented(tables):
    found = {column for table in tables.values() for column in table}
    assert found <= set(frames.COLUMNS)
    # What no committed row has: colour images, other optimisers, and hashes of later rows.
    assert set(frames.COLUMNS) - found <= {"ciede2000", "optimizer", "data_sha256"}
    lines = frames.columns()
    assert lines["meaning"].str.len().min() > 5 and not lines["meaning"].duplicated().all()
    assert set(lines["column"]) == set(frames.COLUMNS) | set(frames.DROP_COLUMNS)


def test_a_profile_holds_every_run_once(tables):
    for profile, table in tables.items():
        assert not table.duplicated(["run", "index"]).any()
        for experiment in ("ladder", "architectures"):
            own = drops.load(profile, experiment)
            part = table[table["experiments"].str.contains(rf"\b{experiment}\b")]
            assert set(part["run"]) == set(own["run"]) and len(part) == len(own)
            assert part["radius"].sum() == pytest.approx(own["radius"].sum())


def test_drops_are_those_of_the_pages():
    """With the columns that vary in an experiment its cells are those that its page names."""
    found = frames.drops("laptop", "architectures")
    expected = drops.drop_table(drops.load("laptop", "architectures"), ["architecture"])
    names = ["drop", "low", "high", "low_seeds", "high_seeds", "seeds", "points", "n"]
    pd.testing.assert_frame_equal(
        found[["architecture", *names]], expected[["architecture", *names]]
    )
    assert set(found) <= {*frames.COLUMNS, *frames.DROP_COLUMNS}
    assert set(frames.DROP_COLUMNS) <= set(found)


def test_files_hold_the_rows(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(frames, "rows", tables.get)
    frames.write("laptop", tmp_path)
    again = pd.read_csv(tmp_path / "laptop.csv.gz", low_memory=False)
    assert list(again) == list(tables["laptop"])
    pd.testing.assert_series_equal(again["radius"], tables["laptop"]["radius"])
    documented = pd.read_csv(tmp_path / "columns.csv")["column"]
    assert set(again) <= set(documented)


def test_the_example_of_the_book_runs(capsys):
    (code,) = EXAMPLE.findall((ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    exec(code, {})
    said = capsys.readouterr().out
    assert "accuracy" in said and "smoothadv" in said and "low" in said


@pytest.mark.parametrize("read", [frames.rows, frames.drops])
def test_a_misspelt_experiment_is_named(read):
    with pytest.raises(SettingsError, match="EXPERIMENT must be one of .*ladder.*, not 'laddr'"):
        read("laptop", "laddr")


def test_an_experiment_without_rows_says_how_to_make_them():
    with pytest.raises(FileNotFoundError, match="make study PROFILE=laptop EXPERIMENT=cost"):
        frames.rows("laptop", "cost")
