"""What the builder of the book decides before Sphinx runs."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pacd.data import ROOT


def imported(path):
    """A module of the book, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build():
    return imported(ROOT / "book" / "build.py")


@pytest.mark.parametrize("repository", ["", "https://example.org/someone/pacd"])
def test_buttons_only_for_a_public_copy(monkeypatch, repository):
    monkeypatch.setenv("REPOSITORY", repository)
    publish = imported(ROOT / "book" / "_ext" / "publish.py")

    config = SimpleNamespace(html_theme_options={"home_page_in_toc": True})
    publish.add_buttons(None, config)
    assert (
        config.html_theme_options["home_page_in_toc"]
        and config.html_theme_options.get("repository_url", "") == repository
    )
    assert ("launch_buttons" in config.html_theme_options) == bool(repository)


def test_an_address_that_is_none_stops_in_one_sentence(tmp_path):
    environment = {**os.environ, "REPOSITORY": "pacd", "PYTHONPATH": str(ROOT / "book" / "_ext")}
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-C",
        "-D",
        "extensions=publish",
        ROOT / "book",
        tmp_path,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "REPOSITORY must be the https address of a public repository, not 'pacd'."
        in done.stderr
    )


def test_the_runs_that_are_pages(build):
    """Named apart from the builder: the first seed of the headline, and where they are executed."""
    runs = build.shown_runs()
    plan = build.grid.load("smoke")
    assert list(sorted(runs)) == ["audit", "poison", "victim-clean", "victim-poisoned"]
    assert runs["poison"] in plan.poisons and runs["audit"] in plan.by_notebook["audit"]
    poisons = [
        plan.victims[runs[f"victim-{kind}"]]["poison_file"] for kind in ("clean", "poisoned")
    ]
    assert poisons == [None, f"data/poison/smoke/{runs['poison']}.npz"]
    assert [plan.victims[runs[f"victim-{kind}"]]["seeds"] for kind in ("clean", "poisoned")] == [
        [0]
    ] * 2
    toc = build.yaml.safe_load((build.BOOK / "_toc.yml").read_text())
    shown = {part["file"] for chapters in toc["parts"] for part in chapters["chapters"]}
    assert {f"runs/{page}" for page in runs} <= shown


def test_pages_without_rows_are_left_out(build, monkeypatch):
    toc = {"parts": [{"chapters": [{"file": "method"}, {"file": "experiments/ladder"}]}]}
    assert build.shown_pages(toc) == toc
    monkeypatch.setattr(build.grid.Grid, "missing", lambda plan, name: plan.experiments[name][:1])
    monkeypatch.setattr(build.grid, "rows", lambda profile, experiment: (None, 3))
    assert build.shown_pages(toc) == {"parts": [{"chapters": [{"file": "method"}]}]}


def test_clean_victims_that_are_still_to_be_made_leave_no_page_out(build, monkeypatch):
    """Without poison in an experiment there is nothing to pair; else clean rows say nothing yet."""
    whole = build.grid.rows

    def rows(profile, experiment, part):
        found, missing = whole(profile, experiment)
        return (found[found["attack"] == "none"], 1) if experiment == part else (found, missing)

    monkeypatch.setattr(build.grid.Grid, "missing", lambda plan, name: plan.experiments[name][:1])
    parts = {"fidelity": "experiments/published", "trainers": "experiments/trainers"}
    for part, unready in (("fidelity", False), ("trainers", True)):
        page = parts[part]
        monkeypatch.setattr(
            build.grid,
            "rows",
            lambda profile, experiment, part=part: rows(profile, experiment, part),
        )
        assert build.unready(page) == unready
