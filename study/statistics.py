"""The statistics of claims: what an experiment's rows say, in cells with 95 % intervals.

Each is ``statistic(rows, by, **options)``, which yields a :class:`Cell` for each value of the
columns ``by``.
"""

import json
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from pacd.controls import LEARNED, PATTERNS
from study.intervals import accuracy_by_seed, acr, mean_interval, paired_drop, pairs
from study.predict import predict_acr
from study.results import manifest_path

DROP = 0.3  # of the average certified radius: the paper's claim
# Rungs of other papers, of the same size, which come in by their paths.
RUNGS = "separable_patches", "autoregressive", "linear_surrogate", "stable_error_minimising"
LITERATURE = tuple(f"extras.unlearnable:{name}" for name in RUNGS)
# Everything below the bilevel family against the ACR.
CONTROLS = (*PATTERNS, *LEARNED, "accuracy", *LITERATURE)


class Cell(NamedTuple):
    """One estimate of a claim: 95 % interval, number of victim seeds, runs that it comes from."""

    cell: str
    estimate: float
    low: float
    high: float
    seeds: int
    runs: list


def drop(rows, by, against="none"):
    """Relative drop of the ACR, against clean data or another attack (over victims and points)."""
    for cell, clean, poisoned in pairs(rows, by, against):
        found = paired_drop(clean, poisoned)
        seeds, runs = clean["seed"].nunique(), runs_of(clean, poisoned)
        yield Cell(label(cell), found.drop, found.low, found.high, seeds, runs)


def accuracy_drop(rows, by, against="none"):
    """Fall of the target class's accuracy without noise (paired by victim seed)."""
    for cell, clean, poisoned in pairs(rows, by, against):
        before, after = map(accuracy_by_seed, (clean, poisoned))
        mean, low, high = mean_interval(before - after)
        yield Cell(label(cell), mean, low, high, len(before), runs_of(clean, poisoned))


def imperceptibility(rows, by, measure):
    """A measure of the poison against the originals; exact, so the interval is a point."""
    for cell, table in rows[rows["attack"] != "none"].groupby(by):
        first = table.iloc[0]
        value = float(first[measure] - (first["eps_linf"] if measure == "linf" else 0))
        name, seeds = label(dict(zip(by, cell))), table["seed"].nunique()
        yield Cell(name, value, value, value, seeds, runs_of(table))


def rounding(rows, by):
    """ACR of victims of the 8-bit poison over that of victims of the float poison, minus 1."""
    for cell, table in rows.groupby(by):
        floats, rounded = (table[table["eight_bit"] == eight_bit] for eight_bit in (False, True))
        seeds = set(floats["seed"]) & set(rounded["seed"])
        if len(seeds) < 2:
            continue
        table = table[table["seed"].isin(seeds)]
        rise = paired_drop(table[~table["eight_bit"]], table[table["eight_bit"]])
        name = label(dict(zip(by, cell)))
        yield Cell(name, -rise.drop, -rise.high, -rise.low, len(seeds), runs_of(table))


def against_controls(rows, by, attack="first_order"):
    """What an attack takes off the ACR of each control's victims."""
    for control in sorted(set(rows["attack"]) & set(CONTROLS)):
        compared = rows[rows["attack"].isin([attack, control])]
        for cell in drop(compared, by, control):
            yield cell._replace(cell=control)


def published(rows, by, published, n):
    """Relative difference of the clean ACR at n draws to a published one (over victims).

    Predicted where the rows have fewer draws.
    """
    for cell, table in rows[rows["attack"] == "none"].groupby(by):
        key = "{} {:g}".format(*cell)
        if key not in published:
            continue  # a reader's own trainer
        victims = [victim for _, victim in table.groupby("seed")]
        found = np.array([_acr_at(victim, n) for victim in victims])
        mean, low, high = mean_interval(found / published[key] - 1)
        if len(victims) > 1:
            name = label(dict(zip(by, cell)))
            yield Cell(name, mean, low, high, len(victims), runs_of(table))


def _acr_at(victim, n):
    if victim["n"].max() == n:
        return acr(victim)
    return predict_acr(victim, n, resamples=2).predicted_acr


def linear(rows, by, path):
    """Relative drop of the exact ACR of trained linear classifiers from eps = 0 to 0.1.

    Paired by seed and test image.
    """
    rows = rows[rows["distance"].notna()].rename(columns={"point": "index"})
    rows = rows.assign(radius=rows["distance"].clip(lower=0))
    for model, table in rows.groupby("model"):
        found = paired_drop(*(table[table["eps"] == eps] for eps in (0.0, 0.1)))
        seeds = table["seed"].nunique()
        yield Cell(model, found.drop, found.low, found.high, seeds, [path.stem])


def closed_form(rows, by, path):
    """Relative error of the closed form's ACR at eps = 0.1 against trained linear classifiers.

    The interval is over victims' seeds.
    """
    prediction = path.with_name(f"{path.stem}_prediction.csv")
    predicted = pd.read_csv(prediction).set_index(["learner", "eps"])["acr"]
    for learner, model in by.items():
        trained = rows[(rows["model"] == model) & (rows["eps"] == 0.1)]
        radius = trained["distance"].clip(lower=0)
        measured = radius.groupby(trained["seed"]).mean()
        mean, low, high = mean_interval(predicted[learner, 0.1] / measured - 1)
        yield Cell(model, mean, low, high, len(measured), [path.stem, prediction.stem])


def cost(rows, by, path):
    """Gradient evaluations of our setting until the drop, over those of the authors'.

    Over all that theirs was given, if it never got there. The drop is looked at in snapshots whose
    evaluations are a factor apart, ``growth`` in the manifest, so both are known to that factor; of
    a setting that gets there at its first snapshot an upper bound is known, of one that never does
    a lower bound.
    """
    rows = rows[rows["kind"] == "snapshot"]
    spent = rows.groupby("case")["evaluations"].agg(["min", "max"])
    reached = rows[rows["drop"] >= DROP].groupby("case")["evaluations"].min()
    never = "approxgrad" not in reached
    ours = reached.get("first_order", math.inf)
    authors = spent.loc["approxgrad", "max"] if never else reached["approxgrad"]
    parameters = json.loads(manifest_path(path).read_text())["parameters"]
    growth = parameters.get("growth", 1.25)  # it was this before it could be chosen
    ratio = ours / authors
    unbounded = never or ours == spent.loc["first_order", "min"]
    low = 0.0 if unbounded else ratio / growth
    at_once = authors == spent.loc["approxgrad", "min"]
    high = ratio if never else math.inf if at_once else ratio * growth
    seeds = len(parameters["seeds"])
    yield Cell("first_order / approxgrad", ratio, low, high, seeds, [path.stem])


STATISTICS = {
    "linear": linear,
    "closed_form": closed_form,
    "drop": drop,
    "against_controls": against_controls,
    "accuracy_drop": accuracy_drop,
    "imperceptibility": imperceptibility,
    "rounding": rounding,
    "cost": cost,
    "published": published,
}


def label(cell):
    """The values that name a cell, as text."""
    numbers = (int, float)
    parts = [f"{v:g}" if isinstance(v, numbers) else str(v) for v in cell.values()]
    return ", ".join(parts)


def runs_of(*tables):
    return sorted({run for table in tables for run in table["run"].unique()})
