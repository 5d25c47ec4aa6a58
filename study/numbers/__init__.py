"""What the pages of the book say, a module a page: numbers as text, tables and figures.

A module exports ``PROFILE``, the ``EXPERIMENTS`` of it whose rows the page needs, and ``numbers``,
which returns what its prose names. A page shows these and computes nothing.
"""

from importlib import import_module
from pathlib import PurePosixPath
from typing import NamedTuple

from study.tables import provenance

__all__ = ["Needed", "experiments", "glue_all", "provenance"]


class Needed(NamedTuple):
    """A profile, and the experiments of it whose rows a page needs."""

    profile: str
    experiments: tuple


def experiments(page):
    """Which rows a page needs, by its address in the table of contents (Needed)."""
    module = import_module(f"study.numbers.{PurePosixPath(page).name}")
    return Needed(module.PROFILE, module.EXPERIMENTS)


def glue_all(numbers):
    """Make each entry of a dict known to the page's prose, as ``{glue:text}`` and its name."""
    from myst_nb import glue

    for name, value in numbers.items():
        glue(name, value, display=False)
