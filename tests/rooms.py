"""What the rooms of this project may hold: checkers that return violations as sentences.

``python tests/rooms.py`` prints the lines of code of each room, which are all but blanks, comments
and docstrings.
"""

import ast
import io
import json
import re
import statistics
import subprocess
import sys
import tokenize
from typing import NamedTuple

from pacd.data import ROOT

SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = ast.Module | ast.ClassDef | FUNCTIONS
# What the method may not know: what is done with it, who draws it and who runs it.
OUTSIDE = {
    *("extras", "study", "notebooks", "book", "profiles", "benchmarks", "tests"),
    *("matplotlib", "seaborn", "plotly", "papermill", "snakemake"),
}
DRAWERS = {"matplotlib", "seaborn", "plotly"}
PATH_EDIT = re.compile(
    r"\bsys\.path\s*(\.\s*(insert|append|extend|remove|pop|clear)\b|\[[^]]*\]\s*=|\+?=[^=])"
    r"|\bfrom\s+sys\s+import\b.*\bpath\b|\baddsitedir\b"
)
MARK = re.compile(r"#\s*(noqa|fmt:|ruff:|flake8|isort:|pylint:|yapf:)", re.IGNORECASE)
CODE_CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


# --- counting ---


def code_lines(source):
    """Numbers of the lines that hold code."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines.difference_update(range(text.lineno, text.end_lineno + 1))
    return lines


def function_sizes(source):
    """``(name, lines of code)`` of each function, methods and inner functions too."""
    lines = code_lines(source)
    return [
        (node.name, len(lines & set(range(node.lineno, node.end_lineno + 1))))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, FUNCTIONS)
    ]


class Size(NamedTuple):
    """Of a package: files, lines of code, lines in the median function and in the longest one."""

    files: int
    lines: int
    median: float
    longest: tuple


def modules(folder):
    """The files of a flat package; one in a folder inside it would hide from a count."""
    inner = [path.parent.name for path in folder.glob("*/*.py")]
    if inner:
        raise ValueError(f"{folder.name} must be flat, and {inner[0]} is a package inside it.")
    return sorted(folder.glob("*.py"))


def size(folder):
    """The :class:`Size` of a package."""
    sources = {path.name: path.read_text() for path in modules(folder)}
    functions = [
        (lines, f"{file}: {name}")
        for file, source in sources.items()
        for name, lines in function_sizes(source)
    ]
    return Size(
        len(sources),
        sum(len(code_lines(source)) for source in sources.values()),
        statistics.median(lines for lines, _ in functions),
        max(functions)[::-1],
    )


def oversize(folder, *, files, lines, median, longest):
    """Sentences about what of a package is larger than allowed."""
    got = size(folder)
    pairs = {
        "files": (got.files, files),
        "lines of code": (got.lines, lines),
        "lines in the median function": (got.median, median),
        f"lines in {got.longest[0]}": (got.longest[1], longest),
    }
    return [f"{have} {what}, allowed {most}" for what, (have, most) in pairs.items() if have > most]


# --- what a file imports ---


def imported(source):
    """Top-level names of all modules that a source imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([node.module] if node.module and not node.level else [])
        elif isinstance(node, ast.Call):
            names.update(_by_name(node))
    return {name.split(".")[0] for name in names}


def _by_name(call):
    """The module of ``importlib.import_module("x")`` or ``__import__("x")``."""
    called = getattr(call.func, "attr", getattr(call.func, "id", None))
    if called in ("import_module", "__import__") and call.args:
        first = call.args[0]
        return [first.value] if isinstance(first, ast.Constant) else []
    return []


def outside_imports(folder):
    """Sentences about files of a package that import what the method may not know.

    Nor may other people's ideas: they are written against the method alone.
    """
    return [
        f"{path.name} imports {name}"
        for path in modules(folder)
        for name in sorted(imported(path.read_text()) & OUTSIDE)
    ]


# --- lines of text ---


def tracked(folder, *ends):
    """Files that git knows in a folder, by the ends of their names, and that are still there."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True
    )
    paths = [folder / name for name in done.stdout.split("\0") if name.endswith(ends)]
    return [path for path in paths if path.is_file()]


def cells(path, kind="code"):
    """``(source, tags)`` of a notebook's cells of one kind, or of all where ``kind`` is None."""
    return [
        ("".join(cell["source"]), cell["metadata"].get("tags", []))
        for cell in json.loads(path.read_text())["cells"]
        if kind in (None, cell["cell_type"])
    ]


def text_lines(path):
    """``(place, line)`` of a text file, or of the cells' sources of a notebook."""
    parts = {"": path.read_text()}
    if path.suffix == ".ipynb":
        parts = {f" cell {i}": source for i, (source, _) in enumerate(cells(path, None))}
    for part, text in parts.items():
        for number, line in enumerate(text.split("\n"), 1):
            yield f"{part} line {number}", line


def lines_where(folder, wrong, *ends):
    """Places of the tracked lines for which ``wrong(line)`` is true."""
    return [
        f"{path.relative_to(folder)}{place}"
        for path in tracked(folder, *ends)
        for place, line in text_lines(path)
        if wrong(line)
    ]


def path_edits(folder):
    return lines_where(folder, PATH_EDIT.search, ".py", ".md", ".ipynb", "Snakefile")


def long_lines(folder, most=120):
    return lines_where(folder, lambda line: len(line) > most, ".py", ".md", ".ipynb")


def marks(folder):
    return lines_where(folder, MARK.search, ".py", ".md", ".ipynb", "Snakefile")


def not_yaml(folder):
    """Tracked files of ``profiles/`` that are no YAML."""
    return [path.name for path in tracked(folder / "profiles", "") if path.suffix != ".yaml"]


# --- pages and notebooks ---


def first_cell(page):
    """Lines of a page's first code cell but for blanks and options; None where there is no cell."""
    found = CODE_CELL.search(page)
    if not found:
        return None
    lines = found[1].split("\n")
    options = 0
    while lines[options].startswith((":", " ")):
        options += 1
    return [line for line in lines[options:] if line.strip()]


def first_cells(folder):
    """Lengths of the first code cells of the pages that have one."""
    book = folder / "book"
    firsts = {path: first_cell(path.read_text()) for path in tracked(book, ".md")}
    return {
        str(path.relative_to(book).with_suffix("")): len(lines)
        for path, lines in firsts.items()
        if lines is not None
    }


def long_first_cells(folder, most=8, median=3):
    lengths = first_cells(folder)
    found = [f"{name}: {length} lines" for name, length in lengths.items() if length > most]
    middle = statistics.median(lengths.values())
    return found + ([f"the median is {middle} lines"] if middle > median else [])


def bound_by(source, modules):
    """Names that a source binds by importing from some top-level modules."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            chosen = [alias for alias in node.names if alias.name.split(".")[0] in modules]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in modules:
            chosen = node.names
        else:
            continue
        names.update((alias.asname or alias.name).split(".")[0] for alias in chosen)
    return names


def loaded(source):
    """Names that a source reads."""
    nodes = ast.walk(ast.parse(source))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def core_cells(path):
    """Sources of a notebook's cells that tell its story, by the number of the code cell.

    All code cells but those that hold the parameters, that only import, and that only draw: they
    use a plotting package, and nothing of pacd.
    """
    sources = cells(path)
    plain = {
        i: re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)
        for i, (source, tags) in enumerate(sources)
        if "parameters" not in tags
    }
    whole = "\n".join(plain.values())
    drawers, method = bound_by(whole, DRAWERS), bound_by(whole, {"pacd"})

    def exempt(source):
        statements = ast.parse(source).body
        imports = all(isinstance(part, ast.Import | ast.ImportFrom) for part in statements)
        names = loaded(source)
        return imports or bool(names & drawers and not names & method)

    return {i: source for i, source in plain.items() if not exempt(source)}


def long_core_cells(folder, most=15):
    lengths = {
        f"{path.name} code cell {i}": len(code_lines(source))
        for path in tracked(folder / "notebooks", ".ipynb")
        for i, source in core_cells(path).items()
    }
    return [f"{name}: {length} lines" for name, length in lengths.items() if length > most]


# --- formatter and linter ---


def ruff(command, folder):
    """What ruff says of format or code, by the rules of this project; empty if all is well."""
    words = {"format": ["format", "--check"], "check": ["check"]}[command]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *words, "--quiet", "--no-cache"]
        + ["--config", str(ROOT / "pyproject.toml"), "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    return output if done.returncode else ""


if __name__ == "__main__":
    for room in ("pacd", "extras", "study"):
        for path in sorted((ROOT / room).glob("*.py")):
            print(f"{len(code_lines(path.read_text())):5d} {room}/{path.name}")
        print(f"{room}: {size(ROOT / room)}")
