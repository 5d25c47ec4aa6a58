"""Below each figure stands a link to what it draws: the same numbers, as CSV."""

import base64
import hashlib
import importlib.util
import io
import json
import re
from functools import cache
from types import SimpleNamespace

import html5lib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from docutils.utils import new_document
from matplotlib.text import Text
from test_book import BOOK, built
from test_numbers import OF_LAPTOP, module, text

from pacd.data import ROOT
from study import theory_first_figures, theory_plots, theory_projection_figures
from study.figures.data import labelled, with_data

FIGURE = re.compile(r"^:?    name: (\S+)$(?:(?!^```).)*?^(\w+)\.(\w+)\(\);$", re.M | re.S)
PICTURES = {"fig-patterns", "fig-threat"}  # what they show are images
# Columns that say what a line of the table is of.
NAMES = {"sigma", "fraction", "damping", "target_class", "eps_linf", "seed", "epochs"}
NAMES |= {"weight_decay", "count"}  # the last stands at even distances


def figures():
    """(page, name of the figure, function that draws it) of every figure of rows."""
    return [
        (page, name, function)
        for page in OF_LAPTOP
        for name, _, function in FIGURE.findall(text(page))
        if name not in PICTURES
    ]


@cache
def drawn(page, function):
    """A figure, and what it gives as CSV."""
    figure = getattr(module(page), function)()
    plt.close(figure)
    return figure, figure._repr_mimebundle_(include=None, exclude=None)["text/csv"]


def lines_of(figure):
    """Coordinates of every line that is no reference, as (x, y)."""
    lines = [line for axis in figure.axes for line in axis.get_lines() if line.get_zorder() > 0]
    return [np.asarray(line.get_data(), float) for line in lines]


def coordinates(figure):
    """Every number that stands somewhere in the axes: of lines, bars of intervals, bands, bars."""
    found = [np.ravel(line.get_data()) for axis in figure.axes for line in axis.get_lines()]
    for axis in figure.axes:
        paths = [path for group in axis.collections for path in group.get_paths()]
        found += [path.vertices.ravel() for path in paths]
        found += [[patch.get_width(), patch.get_height()] for patch in axis.patches]
    return np.concatenate([np.asarray(part, float) for part in found])


def among(values, known):
    """Which values are in a set of numbers, to the six digits of the files."""
    values = np.asarray(values, float)[:, None]
    known = np.unique(known[np.isfinite(known)])
    at = np.clip(np.searchsorted(known, values), 1, len(known) - 1)
    off = np.minimum(abs(known[at] - values), abs(known[at - 1] - values))
    return (off <= 2e-5 * np.maximum(abs(values), 1e-2)).ravel()


def unlike(figure, content):
    """Sentences about numbers that only the picture or only the file has."""
    table = pd.read_csv(io.StringIO(content))
    numbers = table.select_dtypes("number")
    held = numbers.to_numpy(float).ravel()
    lines = lines_of(figure)
    found = [f"line {i}" for i, xy in enumerate(lines) if not any(among(v, held).all() for v in xy)]
    there = coordinates(figure)
    for name in numbers.columns.difference(NAMES):
        if not among(numbers[name].dropna(), there).all():
            found.append(f"column {name}")
    return found


@pytest.mark.parametrize("page, name, function", figures())
def test_a_file_holds_what_its_figure_draws(page, name, function):
    assert unlike(*drawn(page, function)) == []


PHONE = 342  # pixels that a page gives a figure where the window is 390 wide
SMALLEST = 9  # pixels


def small(figure):
    """Texts of a figure that are too small on a phone."""
    figure.draw_without_rendering()  # puts all in its place
    inches = figure.get_tightbbox().width + 2 * plt.rcParams["savefig.pad_inches"]
    height = PHONE / inches / 72  # pixels of a point
    said = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return {text.get_text() for text in said if height * text.get_fontsize() < SMALLEST}


@pytest.mark.parametrize("page, name, function", figures())
def test_a_figure_can_be_read_on_a_phone(page, name, function):
    assert small(drawn(page, function)[0]) == set()


def test_small_text_is_found():
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.set_title("small")
    plt.close(figure)
    assert "small" in small(figure)
    figure.set_size_inches(5, 3)
    assert small(figure) == set()


def of_theory():
    """The figures of the theory chapter that stand still and show numbers, by their names."""
    rows, prediction, _ = theory_plots.read()
    return {
        "fig-th-digits": theory_plots.plot_digits(rows, prediction),
        "fig-th-parts": theory_plots.plot_offset_angle(prediction),
        "fig-th-lenet": theory_plots.plot_lenet(rows),
        "fig-th-first-layer": theory_first_figures.plot_drops(),
        "fig-th-projection": theory_projection_figures.plot(),
    }


def test_figures_of_the_theory_can_be_read_and_downloaded():
    for name, figure in of_theory().items():
        plt.close(figure)
        content = figure._repr_mimebundle_(include=None, exclude=None)["text/csv"]
        assert unlike(figure, content) == [] and small(figure) == set(), name


def test_every_page_with_a_figure_is_seen():
    """The pattern above finds as many figures as the pages name."""
    named = sum(text(page).count("    name: fig-") for page in OF_LAPTOP)
    pictures = sum(f"    name: {name}\n" in text(page) for page in OF_LAPTOP for name in PICTURES)
    assert len(figures()) + pictures == named > 10


def test_other_numbers_are_found():
    figure, axis = plt.subplots()
    axis.plot([0.1, 0.2], [3.0, 5.0])
    plt.close(figure)
    table = pd.DataFrame({"radius": [0.1, 0.2], "share": [3.0, 5.0]})
    assert unlike(figure, table.to_csv(index=False)) == []
    wrong = table.assign(share=[3.0, 5.01])
    assert unlike(figure, wrong.to_csv(index=False)) == ["column share"]
    assert "line 0" in unlike(figure, (table + 1).to_csv(index=False))


# ---- from a notebook's output to a link ----


@pytest.fixture
def downloads():
    path = ROOT / "book" / "_ext" / "downloads.py"
    spec = importlib.util.spec_from_file_location("downloads", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def executed(folder, picture, content):
    """A notebook as MyST-NB leaves it, with one picture with a table and one without."""
    outputs = [
        {"data": {"image/png": base64.b64encode(data).decode(), **more}}
        for data, more in ((picture, {"text/csv": content}), (b"another", {}))
    ]
    path = folder / "jupyter_execute" / "experiments" / "ladder.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"cells": [{"outputs": outputs}, {"source": "text"}]}))


def page_of(*pictures):
    """A page with a named figure for each picture, under the name that its hash gives it."""
    page = new_document("ladder")
    for i, picture in enumerate(pictures):
        figure = nodes.figure("", names=[f"fig-{i}"])
        image = nodes.image(uri=f"../x/{hashlib.sha256(picture).hexdigest()}.png")
        figure += nodes.container("", nodes.container("", image))  # of an output, of its format
        page += figure
    return page


@pytest.mark.parametrize("kind", ["html", "latex"])
def test_a_link_stands_below_the_figure_with_a_table(downloads, tmp_path, kind):
    content = ["attack,drop\n", "uniform,3.5\n"]
    executed(tmp_path, b"a picture", content)
    page = page_of(b"another", b"a picture")
    builder, env = SimpleNamespace(format=kind), SimpleNamespace(docname="experiments/ladder")
    downloads.add_links(SimpleNamespace(outdir=tmp_path / "html", builder=builder, env=env), page)
    kinds = [type(node).__name__ for node in page.children]
    assert kinds == ["figure", "figure"] + ["paragraph"] * (kind == "html")
    if kind == "html":
        (link,) = page.children[-1].children
        assert link.astext() == "Data (CSV)"
        path = tmp_path / "html" / "_downloads" / link["filename"]
        assert path.read_text() == "".join(content) and path.name == "fig-1.csv"


def test_a_kernel_puts_the_table_beside_the_picture():
    """As IPython formats what a cell shows."""
    from IPython.core.formatters import DisplayFormatter

    figure = with_data(plt.figure(), labelled(pd.DataFrame({"x": [1 / 3]}), attack="none"))
    plt.close(figure)
    found, _ = DisplayFormatter().format(figure)
    assert found["text/csv"] == "attack,x\nnone,0.333333\n"


@built
def test_built_figures_have_their_link():
    """Of the pages in the book: the file is what the figure gives now."""
    pages = [entry for entry in figures() if (BOOK / f"{entry[0]}.html").exists()]
    assert pages
    for page, name, function in pages:
        tree = html5lib.parse((BOOK / f"{page}.html").read_text(), namespaceHTMLElements=False)
        links = [a.get("href", "") for a in tree.iter("a") if a.text or len(a)]
        (link,) = [href for href in links if href.endswith(f"/{name}.csv")]
        path = BOOK / page
        assert (path.parent / link).read_text() == drawn(page, function)[1]
