# The grid of the study: every run is a notebook under papermill. `make study PROFILE=...` runs one
# profile, and EXPERIMENT=... only one of its experiments.
import json
import os
import re
from pathlib import Path

from study import grid, named

grid.check_config(config)
PROFILE = config.get("profile", "smoke")
GRID = grid.load(PROFILE)
RUNS = GRID.runs
MISSING = GRID.missing(config.get("experiment"))
WORTH = GRID.worth

# What a result depends on: the folder pacd/ and its notebook; study/ sets runs up and reads them.
METHOD = sorted(map(str, Path("pacd").glob("*.py")))
# Made once, as if they had been downloaded.
COLOURED = "data/downloads/coloured_digits.npz"


def sources(notebook):
    """Kept rows stay when the code changes, or a clone gives every file another time."""
    return [] if GRID.kept else [*METHOD, f"notebooks/{notebook}.ipynb"]


def files(parameters):
    """What a run reads: its poison file, its data set where that is a file, brought code.

    Kept rows stay whatever happens to these; what a rule makes is made.
    """
    poison, dataset = parameters.get("poison_file"), str(parameters.get("dataset"))
    there = dataset.endswith(".npz") and Path(dataset).exists() and not GRID.kept
    code = [] if GRID.kept else map(str, named.sources(parameters).values())
    return [poison] * bool(poison) + [dataset] * (there or dataset == COLOURED) + [*code]


def parameters_of(place):
    """Of the run whose rows have this place below data/results."""
    return RUNS[Path(place).name]


def places(notebook):
    """A pattern for the places of a notebook's rows below data/results; of none, what none has."""
    rows = [Path(run["rows_file"]).with_suffix("") for run in GRID.by_notebook[notebook].values()]
    found = [re.escape(str(path.relative_to("data/results"))) for path in rows]
    return "|".join(found) or "-"


def results(*patterns):
    """Files that the book reads, but for what is made here or belongs to the reader."""
    found = [path for pattern in patterns for path in Path("data").glob(pattern)]
    ours = {PROFILE, "trial", "audit", "local"}
    return [str(path) for path in found if not ours & set(path.parts)]


def pages():
    """The book's own files."""
    made = ("book/_build", "book/runs", "book/conf.py")
    found = [str(path) for path in Path("book").rglob("*.*") if "__pycache__" not in path.parts]
    return [path for path in found if not path.startswith(made)]


# Each kernel says on stderr that it is not encrypted on this machine's own loopback, and some that
# they were told to stop.
QUIETLY = "2> >(grep -v '^.IPKernelApp. \\(WARNING\\|ERROR . KeyboardInterrupt\\)' >&2)"
PAPERMILL = (
    "papermill notebooks/{rule}.ipynb {log.notebook:q} -y {params.settings:q} "
    "--no-progress-bar --log-level WARNING " + QUIETLY
)

rule study:
    input:
        [RUNS[run]["rows_file"] for run in MISSING],

rule book:
    input:
        rules.study.input,
        METHOD,
        pages(),
        results("results/*/*.*", "benchmarks/*.*", "claims.*"),
        sorted(map(str, Path("study").rglob("*.py"))),
        "notebooks/extend.ipynb",
    output:
        "book/_build/html/index.html",
    params:
        repository=os.environ.get("REPOSITORY", ""),
    shell:
        "REPOSITORY={params.repository:q} python book/build.py " + QUIETLY

rule coloured_digits:
    output:
        COLOURED,
    shell:
        "python -m study.coloured_digits {output}"

rule poison:
    wildcard_constraints:
        run="[^/]+",
    input:
        sources("poison"),
        lambda w: files(GRID.poisons[w.run] | {"poison_file": None}),
    output:
        poison=f"data/poison/{PROFILE}/{{run}}.npz",
        manifest=f"data/poison/{PROFILE}/{{run}}.json",
    params:
        settings=lambda w: json.dumps(GRID.poisons[w.run]),
    log:
        notebook=f"data/executed/{PROFILE}/{{run}}.ipynb",
    priority: lambda w: WORTH[w.run]
    threads: lambda w: GRID.poisons[w.run]["threads"]
    shell:
        PAPERMILL

# One rule for each notebook that makes rows, under its name.
for notebook in grid.ROWS_NOTEBOOKS:
    rule:
        name: notebook
        wildcard_constraints:
            place=places(notebook),
        input:
            sources(notebook),
            lambda w: files(parameters_of(w.place)),
        output:
            [f"data/results/{{place}}{end}" for end in grid.BESIDE.get(notebook, [])],
            rows="data/results/{place}.csv",
            manifest="data/results/{place}.json",
        params:
            settings=lambda w: json.dumps(parameters_of(w.place)),
        log:
            notebook="data/executed/{place}.ipynb",
        priority: lambda w: WORTH[Path(w.place).name]
        threads: lambda w: parameters_of(w.place)["threads"]
        shell:
            PAPERMILL
