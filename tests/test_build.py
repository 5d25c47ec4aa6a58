"""What the builder of the book decides before Sphinx runs."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def build(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book")
    import build

    return build


@pytest.mark.parametrize("repository", ["", "https://example.org/someone/pacd"])
def test_buttons_only_for_a_public_copy(monkeypatch, repository):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    monkeypatch.setenv("REPOSITORY", repository)
    import publish

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


def test_pages_without_rows_are_left_out(build, monkeypatch):
    toc = {"parts": [{"chapters": [{"file": "method"}, {"file": "experiments/ladder"}]}]}
    assert build.shown_pages(toc) == toc
    monkeypatch.setattr(build.grid, "rows", lambda profile, experiment: (None, 3))
    assert build.shown_pages(toc) == {"parts": [{"chapters": [{"file": "method"}]}]}


def test_clean_victims_that_are_still_to_be_made_leave_no_page_out(build, monkeypatch):
    """Where an experiment has no poison there is nothing to pair; elsewhere clean rows alone say nothing yet."""
    whole = build.grid.rows

    def rows(profile, experiment, part):
        found, missing = whole(profile, experiment)
        return (found[found["attack"] == "none"], 1) if experiment == part else (found, missing)

    for part, unready in (("fidelity", False), ("trainers", True)):
        monkeypatch.setattr(
            build.grid,
            "rows",
            lambda profile, experiment, part=part: rows(profile, experiment, part),
        )
        assert build.unready("experiments/trainers") == unready
