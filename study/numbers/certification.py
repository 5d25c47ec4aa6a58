"""What certification costs."""

import json

import pandas as pd

from study.figures.costs import prediction_figure
from study.numbers.shared import BENCHMARKS

PROFILE = "laptop"
EXPERIMENTS = ()
FASTEST = {"float32": "+ compiled", "bfloat16": "+ bfloat16", "int8": "+ int8"}  # lines of speed
UNKNOWN = "?"  # int8 is not on every machine


def benchmark(name="certify"):
    """Tables of the benchmark, a line for each case, by kind: speed, agreement, cost (dict)."""
    rows = pd.read_csv(BENCHMARKS / f"{name}.csv")
    return {
        kind: table.pivot(index="case", columns="quantity", values="value").loc[
            table["case"].unique()  # in the order in which the tricks were added
        ]
        for kind, table in rows.groupby("kind")
    }


def parameters(name="certify"):
    """What the benchmark ran with (dict)."""
    return json.loads((BENCHMARKS / f"{name}.json").read_text())["parameters"]


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    tables, ran = benchmark(), parameters()
    found = {"threads": str(ran["threads"]), "points": str(ran["points"])}
    for precision in FASTEST:
        found |= of_precision(tables, precision)
    return found | of_cost(tables["cost"])


def of_precision(tables, precision):
    """How fast a network of a precision is, how fast it could be, and what it changes."""
    line, speed = FASTEST[precision], tables["speed"]
    names = [f"{name}{precision}" for name in ("", "ceiling_", "equal_", "acr_")]
    if line not in speed.index:
        return dict.fromkeys(names, UNKNOWN)
    ratio, share = speed.loc[line, ["ratio", "share of peak"]]
    equal, error = agreement(tables["agreement"], precision)
    texts = (f"{ratio:.1f}", f"{ratio / share:.0f}", f"{100 * equal:.2f}", f"{100 * error:.2f}")
    return dict(zip(names, texts))


def agreement(table, precision):
    """Share of equal votes and relative error of the ACR, the worst over the networks."""
    errors = table[f"ACR, {precision}"] / table["ACR, float32"] - 1
    return table[f"votes equal, {precision}"].min(), errors.abs().max()


def of_cost(cost):
    """What deciding and predicting save and cost, over the networks."""
    fewer = cost["fewer evaluations, decided"]
    return {
        "fewest": f"{fewer.min():.0f}",
        "most": f"{fewer.max():.0f}",
        "undecided": f"{100 * cost['undecided'].max():.1f}",
        "worst": f"{100 * cost['prediction error'].abs().max():.1f}",
    }


# ---- tables and figures ----


def speed_table():
    """The tricks and what each is worth."""
    speed = benchmark()["speed"]
    rounds = zip(speed["ratio, lowest round"], speed["ratio, highest round"])
    table = pd.DataFrame(
        {
            "passes per second": speed["samples per second"].map("{:,.0f}".format),
            "times plain": speed["ratio"].map("{:.1f}".format),
            "over rounds": [f"{low:.1f} to {high:.1f}" for low, high in rounds],
            "share of peak": speed["share of peak"].map("{:.0%}".format),
        }
    )
    return table.rename_axis(index=None, columns=None)


def decided_table():
    """Deciding instead of measuring."""
    cost = benchmark()["cost"]
    columns = {
        "passes per point": ("evaluations per point, decided", "{:,.0f}"),
        "times fewer": ("fewer evaluations, decided", "{:.0f}"),
        "certified at σ/2": ("certified at sigma / 2, decided", "{:.1%}"),
        "undecided": ("undecided", "{:.1%}"),
        "exact, on its points": ("certified at sigma / 2, exact points", "{:.1%}"),
        "decided, on the same": ("certified at sigma / 2, decided, exact points", "{:.1%}"),
    }
    return _by_sigma(
        {name: cost[column].map(form.format) for name, (column, form) in columns.items()}
    )


def _by_sigma(columns):
    table = pd.DataFrame(columns).rename(index=lambda case: case.replace("sigma", "σ ="))
    return table.rename_axis(index=None, columns=None)


def predicted():
    """Predicted beside certified ACRs."""
    return prediction_figure(benchmark()["cost"])


def predicted_table():
    """The same in numbers."""
    cost = benchmark()["cost"]
    ends = zip(cost["ACR, predicted"], cost["predicted, low"], cost["predicted, high"])
    return _by_sigma(
        {
            "certified": cost["ACR, certified, n = 100,000"].map("{:.3f}".format),
            "predicted": pd.Series(
                ["{:.3f} [{:.3f}, {:.3f}]".format(*line) for line in ends], index=cost.index
            ),
            "error": cost["prediction error"].map("{:+.1%}".format),
        }
    )
