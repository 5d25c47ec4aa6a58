"""The rooms hold what they should, and each checker finds what is planted."""

import json
import subprocess

import pytest
import rooms
from rooms import ROOT

PACD = {"files": 18, "lines": 1500, "median": 8, "longest": 45}


def project(folder, **files):
    """A folder that git tracks, from ``path=text``; notebooks from lists of ``(source, tags)``."""
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else notebook(content))
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    return folder


def notebook(cells):
    content = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": source.splitlines(True)}
        for source, tags in cells
    ]
    return json.dumps({"cells": content})


def none(violations):
    """Nothing is wrong, else all that is."""
    assert not violations, "\n" + "\n".join(violations)


# --- the size of the method ---

SOURCE = '''"""A module.

Of two paragraphs.
"""

import math  # a comment on code


def area(r):
    """Of a disc."""
    # pi r squared

    text = """two
    lines"""

    def square():
        return r**2

    return math.pi * square(), text


class Shape:
    """With a method."""

    async def side(self): ...
'''


def test_lines_of_code_are_those_without_blanks_comments_and_docstrings():
    assert sorted(rooms.code_lines(SOURCE)) == [6, 9, 13, 14, 16, 17, 19, 22, 25]
    assert sorted(rooms.function_sizes(SOURCE)) == [("area", 6), ("side", 1), ("square", 2)]


def test_the_method_fits_in_the_hand():
    none(rooms.oversize(ROOT / "pacd", **PACD))


@pytest.mark.parametrize(
    "limit, sentence",
    [
        ("files", "2 files, allowed 1"),
        ("lines", "10 lines of code, allowed 9"),
        ("median", "2 lines in the median function, allowed 1"),
        ("longest", "6 lines in shape.py: area, allowed 5"),
    ],
)
def test_a_larger_method_is_found(tmp_path, limit, sentence):
    (tmp_path / "shape.py").write_text(SOURCE)
    (tmp_path / "one.py").write_text("X = 1\n")
    exact = {"files": 2, "lines": 10, "median": 2, "longest": 6}
    assert rooms.oversize(tmp_path, **exact) == []
    assert rooms.oversize(tmp_path, **{**exact, limit: exact[limit] - 1}) == [sentence]


def test_a_file_in_an_inner_folder_is_not_overlooked(tmp_path):
    project(tmp_path, **{"shape.py": SOURCE, "inner/one.py": "import study\n"})
    with pytest.raises(ValueError, match="must be flat, and inner is a package inside it"):
        rooms.oversize(tmp_path, **PACD)


# --- what the method knows ---


@pytest.mark.parametrize("room", ["pacd", "extras"])
def test_the_method_and_what_is_brought_know_neither_study_nor_book_nor_plots(room):
    none(rooms.outside_imports(ROOT / room))


@pytest.mark.parametrize(
    "line, name",
    [
        ("import study.grid as g", "study"),
        ("from study import grid", "study"),
        ("from study.results import ROOT", "study"),
        ("import math, matplotlib.pyplot", "matplotlib"),
        ("import importlib\nimportlib.import_module('study.grid')", "study"),
        ("__import__('papermill')", "papermill"),
        ("def late():\n    from snakemake import api", "snakemake"),
        ("if False:\n    import seaborn", "seaborn"),
    ],
)
def test_an_import_from_outside_is_found(tmp_path, line, name):
    (tmp_path / "losses.py").write_text("import studying\nfrom pacd import data\n")
    assert rooms.outside_imports(tmp_path) == []
    (tmp_path / "losses.py").write_text(line + "\n")
    assert rooms.outside_imports(tmp_path) == [f"losses.py imports {name}"]


# --- lines ---

SYS_PATH = "sys" + ".path"  # apart, so that this file holds no edit


def test_nothing_edits_the_path_of_imports():
    none(rooms.path_edits(ROOT))


@pytest.mark.parametrize("name", ["a.py", "docs/a.md", "a.ipynb", "Snakefile"])
@pytest.mark.parametrize(
    "edit",
    [
        f"{SYS_PATH}.insert(0, '.')",
        f"{SYS_PATH} += ['..']",
        f"{SYS_PATH}[:0] = ['..']",
        f"import sys; {SYS_PATH} = []",
        "from " + "sys import path",
        "site.add" + "sitedir('.')",
    ],
)
def test_an_edited_path_is_found(tmp_path, name, edit):
    harmless = f"print({SYS_PATH}, {SYS_PATH}[0], {SYS_PATH} == [])"
    project(tmp_path, **{name: [(harmless, [])] if name.endswith("ipynb") else harmless})
    assert rooms.path_edits(tmp_path) == []
    lines = f"import sys\n{edit}\n"
    project(tmp_path, **{name: [(lines, [])] if name.endswith("ipynb") else lines})
    (place,) = rooms.path_edits(tmp_path)
    assert place.startswith(name) and place.endswith("line 2")


def test_profiles_are_yaml():
    none(rooms.not_yaml(ROOT))


def test_a_script_among_profiles_is_found(tmp_path):
    project(tmp_path, **{"profiles/smoke.yaml": "{}", "profiles/make.py": ""})
    assert rooms.not_yaml(tmp_path) == ["make.py"]


def test_lines_are_short():
    none(rooms.long_lines(ROOT))


@pytest.mark.parametrize("name", ["a.py", "b/c.md", "a.ipynb"])
def test_a_long_line_is_found(tmp_path, name):
    """By one character, in umlauts: characters count, not bytes, and not the JSON around a cell."""
    for length in (120, 121):
        line = "# " + "ü" * (length - 2)
        text = [("1\n" + line, ["x" * 200])] if name.endswith("ipynb") else "1\n" + line
        project(tmp_path, **{name: text, "data.csv": "x" * 200})
        places = rooms.long_lines(tmp_path)
        assert len(places) == (length > 120) and all(p.endswith("line 2") for p in places)


def test_no_marks_for_tools():
    none(rooms.marks(ROOT))


@pytest.mark.parametrize("mark", ["noqa", "NOQA: E731", "fmt: off", "fmt:skip", "ruff: noqa"])
def test_a_mark_is_found(tmp_path, mark):
    project(tmp_path, **{"a.py": "# fmtlib, no quality\n"})
    assert rooms.marks(tmp_path) == []
    project(tmp_path, **{"a.py": f"x = 1  #{' ' * (mark != 'noqa')}{mark}\n"})
    assert rooms.marks(tmp_path) == ["a.py line 1"]


# --- pages and notebooks ---


def page(lines):
    """Prose, a first cell with options of two kinds, and a long second cell."""
    code = "\n\n".join(f"x = {i}" for i in range(lines))
    options = ":tags: [remove-cell]\n:mystnb:\n  figure:\n    caption: |\n      Words.\n"
    second = "y = 2\n" * 30
    cells = (
        f"```{{code-cell}} ipython3\n{options}\n{code}\n```\nText\n```{{code-cell}}\n{second}```"
    )
    return f"# Title\n{cells}\n"


def test_pages_begin_in_few_lines():
    none(rooms.long_first_cells(ROOT))


def test_a_page_that_begins_with_code_is_found(tmp_path):
    short = {f"book/{i}.md": page(3) for i in range(3)} | {"book/part/long.md": page(3)}
    pages = {**short, "book/long.md": page(8), "book/prose.md": "# No cell\n"}
    project(tmp_path, **pages)
    assert rooms.first_cells(tmp_path) == {"0": 3, "1": 3, "2": 3, "long": 8, "part/long": 3}
    assert rooms.long_first_cells(tmp_path) == []
    project(tmp_path, **{"book/long.md": page(9)})
    assert rooms.long_first_cells(tmp_path) == ["long: 9 lines"]
    project(tmp_path, **{f"book/{i}.md": page(4) for i in range(3)} | {"book/long.md": page(1)})
    assert rooms.long_first_cells(tmp_path) == ["the median is 4 lines"]


def test_core_cells_of_notebooks_are_short():
    none(rooms.long_core_cells(ROOT))


def cell(lines, first=""):
    return first + "\n# a comment\n\n" + "x = 1\n" * lines


PLOT = "import matplotlib.pyplot as plt\nplt.plot([1])\n"


def test_a_long_core_cell_is_found(tmp_path):
    cells = [
        (cell(30), ["parameters"]),
        ("import a\n" * 20, []),
        ("from pacd.train import train\nfrom pacd import certify as c\n" + "import b\n" * 20, []),
        (cell(30, PLOT), []),
        (cell(15, "%matplotlib inline"), []),
    ]
    project(tmp_path, **{"notebooks/a.ipynb": cells})
    assert rooms.long_core_cells(tmp_path) == []
    too_long = [
        (cell(16), []),
        (cell(16, "import matplotlib\n"), []),  # imports it and draws nothing
        (cell(16, PLOT + "train()\n"), []),  # draws what it computes on the way
        (cell(16, PLOT + "c.certify()\n"), []),
    ]
    project(tmp_path, **{"notebooks/a.ipynb": cells + too_long})
    places = [place.split(":")[0] for place in rooms.long_core_cells(tmp_path)]
    assert places == [f"a.ipynb code cell {i}" for i in range(5, 9)]


# --- formatter and linter ---


@pytest.mark.parametrize("command", ["format", "check"])
def test_ruff_has_nothing_to_say(command):
    assert rooms.ruff(command, ROOT) == ""


@pytest.mark.parametrize(
    "command, source",
    [
        ("format", "x = [1,2]\n"),
        ("check", "import os\n\nx = 1\n"),
        ("check", f'x = "{"long" * 30}"\n'),
    ],
)
def test_ruff_is_asked_with_our_rules(tmp_path, command, source):
    (tmp_path / "a.py").write_text("x = [1, 2]\n")
    assert rooms.ruff(command, tmp_path) == ""
    (tmp_path / "a.py").write_text(source)
    assert "a.py" in rooms.ruff(command, tmp_path)
