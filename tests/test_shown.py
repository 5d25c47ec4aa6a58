"""Pages show the rows of ``paper`` once they are there, and else those of ``laptop``."""

import inspect
from functools import cache
from importlib import import_module

import matplotlib.pyplot as plt
import pytest
from made import rows_of_every_run

from study import drops, grid
from study.numbers import shared, sweeps

PAGES = "architectures", "classes", "defences", "empirical", "published", "table1", "trainers"
PAGES += ("transfer",)


@pytest.fixture
def there(monkeypatch):
    """Runs of ``paper`` that have rows, a set to fill."""
    names, path = set(), grid._path
    found = {path(run): name for name, run in grid.load("paper").runs.items()}
    monkeypatch.setattr(grid, "exist", lambda path: found.get(path) in names)
    return names


def test_an_experiment_is_shown_when_its_last_run_is_there(there):
    runs = grid.load("paper").experiments["transfer"]
    there |= set(runs[1:])
    assert grid.shown("transfer") == "laptop"
    there.add(runs[0])
    assert grid.shown("transfer") == "paper" and grid.shown("transfer", "eps") == "laptop"


def test_the_grid_of_trainers_is_shown_from_its_first_setting_on(there):
    plan = grid.load("paper")
    for run in plan.experiments["trainers"]:
        victim = plan.victims[run]
        first = (victim["trainer"], victim["sigma"]) == ("gaussian", 0.5)
        if first and plan.attack_of(run) in ("none", "uniform", "first_order", "direct_search"):
            assert grid.shown("trainers") == "laptop"
            there.add(run)
    assert len(there) == 20 and grid.shown("trainers") == "paper"


def test_what_paper_does_not_hold_is_of_laptop(there):
    there |= set(grid.load("paper").runs)
    assert grid.shown("first_layer") == grid.shown("eps", "centred") == "laptop"


@pytest.fixture
def made(monkeypatch):
    """Rows of a complete ``paper``, as pages read them."""
    made = cache(lambda profile, name: rows_of_every_run(grid.load(profile), name, (0, 1)))
    monkeypatch.setattr(drops, "load", made)
    shared.load.cache_clear()
    yield
    shared.load.cache_clear()
    plt.close("all")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_made_of_paper_rows(page, made):
    module = import_module(f"study.numbers.{page}")
    assert set(module.EXPERIMENTS) <= set(grid.load("paper").experiments)
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction)]
    own = [f for f in functions if f.__module__ == module.__name__]
    shown = [f for f in own if "profile" in inspect.signature(f).parameters]
    assert len(shown) >= 2
    for f in shown:
        assert f(profile="paper") is not None


def test_sweeps_can_be_made_of_paper_rows(made):
    assert len(sweeps.sizes("paper")) == 8 and len(sweeps.shares("paper")) == 5
