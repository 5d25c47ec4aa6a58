# The grid of the study: every run is one of three notebooks under papermill. `make study PROFILE=...` runs one profile, and
# EXPERIMENT=... only one of its experiments.
import json
import os
from pathlib import Path

from study import grid

grid.check_config(config)
PROFILE = config.get("profile", "smoke")
GRID = grid.load(PROFILE)
MISSING = GRID.missing(config.get("experiment"))

# What a result depends on is the folder pacd/; study/ reads rows.
METHOD = sorted(map(str, Path("pacd").glob("*.py")))
READERS = sorted(map(str, Path("study").glob("**/*.py")))
# Rows that are kept stay as they are when the code changes or a clone gives every file another time.
SOURCES = {kind: [] if GRID.kept else [*METHOD, f"notebooks/{kind}.ipynb"] for kind in ("poison", "victim", "curator")}
COLOURED = "data/downloads/coloured_digits.npz"


def images(settings):
    """The data set of a run, where a rule makes it."""
    return [COLOURED] if settings["dataset"] == COLOURED else []


# Each kernel says on stderr that it is not encrypted on this machine's own loopback, and some that they were told to stop.
QUIETLY = "2> >(grep -v '^.IPKernelApp. \\(WARNING\\|ERROR . KeyboardInterrupt\\)' >&2)"
PAPERMILL = (
    "papermill notebooks/{rule}.ipynb {log.notebook:q} -y {params.settings:q} --no-progress-bar --log-level WARNING " + QUIETLY
)

wildcard_constraints:
    run="[^/]+",

rule study:
    input:
        [GRID.runs[run]["rows_file"] for run in MISSING],

rule book:
    input:
        rules.study.input,
        METHOD,
        [str(path) for path in Path("data/results").rglob("*.*") if not {PROFILE, "audit", "local"} & set(path.parts)],  # no results of this run or of the reader's own
        [path for path in map(str, Path("book").rglob("*.*")) if not path.startswith(("book/_build", "book/runs", "book/conf.py")) and "__pycache__" not in path],
        READERS,
        [str(path) for path in (*Path("data/benchmarks").glob("*.*"), *Path("data").glob("claims.*"))],
        "data/results/audit/audit.csv",
        "notebooks/extend.ipynb",
    output:
        "book/_build/html/index.html",
    params:
        repository=os.environ.get("REPOSITORY", ""),
    shell:
        "REPOSITORY={params.repository:q} python book/build.py " + QUIETLY

rule coloured_digits:
    input:
        "study/coloured_digits.py",
    output:
        COLOURED,
    shell:
        "python {input} {output}"

rule poison:
    input:
        SOURCES["poison"],
        lambda w: images(GRID.poisons[w.run]),
    output:
        poison=f"data/poison/{PROFILE}/{{run}}.npz",
        manifest=f"data/poison/{PROFILE}/{{run}}.json",
    params:
        settings=lambda w: json.dumps(GRID.poisons[w.run]),
    log:
        notebook=f"data/executed/{PROFILE}/{{run}}.ipynb",
    priority: 1
    threads: lambda w: GRID.poisons[w.run]["threads"]
    shell:
        PAPERMILL

rule victim:
    wildcard_constraints:
        run="(?!curator-)[^/]+",
    input:
        SOURCES["victim"],
        lambda w: GRID.victims[w.run]["poison_file"] or [],
        lambda w: images(GRID.victims[w.run]),
    output:
        rows=f"data/results/{PROFILE}/{{run}}.csv",
        manifest=f"data/results/{PROFILE}/{{run}}.json",
    params:
        settings=lambda w: json.dumps(GRID.victims[w.run]),
    log:
        notebook=f"data/executed/{PROFILE}/{{run}}.ipynb",
    threads: lambda w: GRID.victims[w.run]["threads"]
    shell:
        PAPERMILL

use rule victim as curator with:
    input:
        SOURCES["curator"],
        lambda w: GRID.curators[f"curator-{w.run}"]["poison_file"],
    output:
        rows=f"data/results/{PROFILE}/curator-{{run}}.csv",
        manifest=f"data/results/{PROFILE}/curator-{{run}}.json",
    params:
        settings=lambda w: json.dumps(GRID.curators[f"curator-{w.run}"]),
    log:
        notebook=f"data/executed/{PROFILE}/curator-{{run}}.ipynb",
    threads: 1

rule audit:
    input:
        "pacd/hypergradient.py",
        "pacd/losses.py",
        "pacd/smoothing.py",
        "notebooks/audit.ipynb",
    output:
        "data/results/audit/audit.csv",
        "data/results/audit/audit.json",
    params:
        settings=json.dumps({"rows_file": "data/results/audit/audit.csv"}),
    log:
        notebook="data/executed/audit.ipynb",
    shell:
        PAPERMILL
