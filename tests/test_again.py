"""A run that is made again: which one, and what counts as the same."""

import numpy as np
import pandas as pd
import pytest

from study import again, grid
from study.parameters import SettingsError


def rows(**changes):
    table = {"index": [3, 5, 8], "count_0": [1, 2, 3], "radius": [0.1, np.nan, 0.3]}
    return pd.DataFrame(table | changes)


@pytest.mark.parametrize(
    "after, wrong",
    [
        (rows(), 0),
        (rows(looks=[1, 1, 1]), 0),  # a column that older rows lack
        (rows(count_0=[1, 2, 4]), 1),
        (rows(count_0=[0, 2, 4], radius=[0.1, 0.2, 0.4]), 3),
        (rows().head(2), 3),
    ],
)
def test_rows_that_differ_are_counted(after, wrong):
    assert again.differing(rows(), after) == wrong


def test_a_run_with_rows_is_drawn_by_its_seed():
    plan = grid.load("laptop")
    names = [again.drawn(plan, seed) for seed in range(20)]
    assert names == [again.drawn(plan, seed) for seed in range(20)] and len(set(names)) > 10
    assert set(names) <= set(plan.victims)
    with pytest.raises(SettingsError, match="PROFILE must be one with rows, and paper has none"):
        again.drawn(grid.load("paper"), 0)


def test_a_run_is_made_again(tmp_path, monkeypatch):
    """A tiny victim and its poison, twice: the rows are the same."""
    data = {"train_size": 600, "threads": 1, "dataset": "mnist5k"}
    poison = data | {"attack": "uniform", "poison_file": "data/poison/t/p.npz"}
    victim = data | {"epochs": 1, "points": 3, "n": 100, "poison_file": "data/poison/t/p.npz"}
    plan = grid.Grid("t", poisons={"p": poison})
    plan.victims["v"] = victim | {"rows_file": "data/results/t/v.csv"}
    tables = []
    for name in "ab":
        (tmp_path / name).mkdir()
        tables.append(again.made_again(plan, "v", tmp_path / name))
    assert again.differing(*tables) == 0 and len(tables[0]) == 3
