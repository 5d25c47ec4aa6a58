"""What the attack costs."""

import json

import pandas as pd
from IPython.display import Markdown

from study.drops import percent
from study.figures.costs import SETTING_NAME, cost_figure, solver_figure
from study.grid import rows_files
from study.statistics import DROP
from study.style import data_name, spaced
from study.tables import without_index

PROFILE = "laptop"
EXPERIMENTS = ()
RUNS = "cost"  # real MNIST first; the embedded digits are the smaller run
PASSES = {
    "gradient": "gradient of the training loss",
    "radius": "gradient of the soft radius",
    "product": "Hessian-vector product",
    "mixed": "mixed derivative",
}
SOLVED = ["evaluations", "residual", "cosine", "error", "signs"]


def benchmarks():
    """The runs of the benchmark that are there: a dict of tables by kind, and ``parameters``."""
    paths = rows_files(PROFILE, RUNS).values()
    return [_benchmark(path) for path in paths if path.exists()]


def _benchmark(path):
    kinds = pd.read_csv(path).groupby("kind")
    tables = {kind: table.dropna(axis=1, how="all") for kind, table in kinds}
    manifest = json.loads(path.with_suffix(".json").read_text())
    return tables | {"parameters": manifest["parameters"]}


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    found = benchmarks()
    # A manifest without the factor is from before it could be chosen.
    growth = [run["parameters"].get("growth", 1.25) for run in found]
    return {
        "growth": " and ".join(f"{factor:g}" for factor in growth),
        **of_solvers(found[0]["solver"]),
    }


def of_solvers(solvers):
    """How well solvers agree with a solve to convergence at the least damping."""
    damping = solvers["damping"].min()
    means = solvers[solvers["damping"] == damping].groupby("case")[["signs", "evaluations"]].mean()
    times = means["evaluations"] / means.loc["identity", "evaluations"]
    return {
        "damping": f"{damping:g}",
        "signs_identity": f"{100 * means.loc['identity', 'signs']:.0f} %",
        "signs_minres": f"{100 * means.loc['minres 20', 'signs']:.0f} %",
        "signs_cg": f"{100 * means.loc['cg 20', 'signs']:.0f} %",
        "times_minres": f"{times['minres 20']:.0f}",
    }


# ---- until the drop ----


def spent(snapshots, case):
    """What a setting of the attack took until the drop, as text."""
    line = snapshots[snapshots["case"] == case]
    there = line[line["drop"] >= DROP]
    row = there.iloc[0] if len(there) else line.iloc[-1]
    if there.empty:
        how = "not reached within"
    else:
        how = "at most" if row["step"] == line["step"].min() else "reached with"
    return (
        f"{SETTING_NAME[case]}: {how} {row['evaluations']:,.0f} gradient evaluations "
        f"({row['step']:.0f} poison steps, {row['seconds']:,.0f} s)"
    )


def found_by(run):
    """What one run found, as an item of a list."""
    parameters, snapshots, controls = run["parameters"], run["snapshot"], run["control"]
    data = data_name(parameters["dataset"], parameters["train_size"])
    last = snapshots.groupby("case").last()
    ours, authors = (percent(last.loc[name]) for name in ("first_order", "approxgrad"))
    best = controls.loc[controls["drop"].idxmax()]
    uniform = controls[controls["case"] == "uniform"].iloc[0]
    return (
        f"- **{data}** ({len(parameters['seeds'])} victim seeds, one crafting seed): "
        f"{spent(snapshots, 'first_order')}; {spent(snapshots, 'approxgrad')}. "
        f"At the end of its run ours has lowered the ACR by {ours}, "
        f"the authors' setting by {authors}, "
        f"the best control ({spaced(best['case'])}) by {percent(best)}, "
        f"and the uniform control, which costs nothing, by {percent(uniform)}."
    )


def answer():
    """What all runs found, as Markdown."""
    lines = ["**Answer.** Until the drop of 30 %:\n", *map(found_by, benchmarks())]
    return Markdown("\n".join(lines))


def drops():
    """Drop against gradient evaluations."""
    return cost_figure(benchmarks(), DROP)


# ---- what was spent, and what it buys ----


def passes_table():
    """Evaluations that each kind of pass counts as."""
    unit = benchmarks()[0]["unit"]
    names = ["pass, for one image", "evaluations", "evaluations, by time"]
    table = unit.assign(case=unit["case"].map(PASSES))[["case", "operations", "time"]]
    return without_index(table.set_axis(names, axis=1)).format(precision=2)


def steps_table():
    """For what the evaluations of each setting were spent, and what a step takes."""
    run = benchmarks()[0]
    last = run["snapshot"].groupby("case").last()
    work = last[list(PASSES)] * run["unit"].set_index("case")["operations"]
    shares = 100 * work.div(work.sum(axis=1), axis=0)[list(PASSES)]
    table = shares.round(0).astype(int).rename(columns=PASSES)
    table["evaluations a step"] = (last["evaluations"] / last["step"]).map("{:,.0f}".format)
    table["seconds a step"] = (last["seconds"] / last["step"]).map("{:.2f}".format)
    table["peak memory, MB"] = last["memory"].map("{:,.0f}".format)
    return table.rename(index=SETTING_NAME).rename_axis(None)


def solvers():
    """Agreement of signs against cost."""
    return solver_figure(benchmarks()[0]["solver"])


def solvers_table():
    """The same in numbers, and other measures of a solve."""
    rows = benchmarks()[0]["solver"]
    table = rows.groupby(["damping", "case"], sort=False)[SOLVED].mean().reset_index()
    forms = {"damping": "{:g}", "evaluations": "{:,.0f}", "residual": "{:.2g}", "signs": "{:.0%}"}
    forms |= {"cosine": "{:.3f}", "error": "{:.3f}"}
    return without_index(table).format(forms, na_rep="")
