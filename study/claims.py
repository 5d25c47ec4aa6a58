"""The ledger of claims: what the paper and this study say, the rows it rests on, and a verdict by a rule written beforehand.

``data/claims.yaml`` holds the claims and their rules, ``data/claims.json`` the committed ledger. Every number and verdict
is computed from rows; ``python -m study.claims`` prints the ledger and exits with 1 where the committed one disagrees.
"""

import argparse
import json
import math
import sys
import textwrap
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

from pacd.names import BASELINES
from study import grid, theory_claims
from study.intervals import acr, mean_interval, paired_drop, pairs
from study.predict import predict_acr
from study.results import ROOT, manifest_path, replacing

CLAIMS, LEDGER = ROOT / "data" / "claims.yaml", ROOT / "data" / "claims.json"
PROFILES = ("paper", "laptop")
CONTROLS = (*BASELINES, "accuracy")  # everything below the bilevel family against the ACR


class Cell(NamedTuple):
    """One estimate of a claim with its 95 % interval, the number of victim seeds and the runs whose rows it comes from."""

    cell: str
    estimate: float
    low: float
    high: float
    seeds: int
    runs: list


def verdict(cells, missing, above=None, below=None):
    """``reproduced``: every cell's whole interval is on the claimed side and none is missing. ``not reproduced``: no estimate is
    on the claimed side. ``not run``: no rows. Everything between is ``partly``."""
    if not cells:
        return "not run"
    sides = [_side(cell, above, below) for cell in cells]
    if all(whole for _, whole in sides) and not missing:
        return "reproduced"
    return "partly" if any(right for right, _ in sides) else "not reproduced"


def _side(cell, above, below):
    """Whether the estimate, and whether the whole interval, is on the claimed side, or between the two."""
    above, below = -math.inf if above is None else above, math.inf if below is None else below
    return above < cell.estimate < below, above < cell.low and cell.high < below


def drop(rows, by, against="none"):
    """Relative drop of the ACR in each cell, against clean data or another attack (interval over victims and points)."""
    for cell, clean, poisoned in pairs(rows, by, against):
        result = paired_drop(clean, poisoned)
        yield Cell(
            label(cell),
            result.drop,
            result.low,
            result.high,
            clean["seed"].nunique(),
            runs_of(clean, poisoned),
        )


def accuracy_drop(rows, by, against="none"):
    """Fall of the target class's accuracy without noise, in each cell (paired by victim seed)."""
    for cell, clean, poisoned in pairs(rows, by, against):
        change = [table.groupby("seed")["accuracy_target"].first() for table in (clean, poisoned)]
        mean, low, high = mean_interval(change[0] - change[1])
        yield Cell(label(cell), mean, low, high, len(change[0]), runs_of(clean, poisoned))


def imperceptibility(rows, by, measure):
    """A measure of the poison against the originals; exact, so the interval is a point."""
    poisoned = rows[rows["attack"] != "none"]
    for cell, table in poisoned.groupby(by):
        cell = dict(zip(by, cell))
        value = float(
            table[measure].iloc[0] - (table["eps_linf"].iloc[0] if measure == "linf" else 0)
        )
        yield Cell(label(cell), value, value, value, table["seed"].nunique(), runs_of(table))


def rounding(rows, by):
    """ACR of victims of the 8-bit poison over that of victims of the float poison, minus 1."""
    for cell, table in rows.groupby(by):
        cell = dict(zip(by, cell))
        seeds = set.intersection(
            *(set(table.loc[table["eight_bit"] == rounded, "seed"]) for rounded in (False, True))
        )
        if len(seeds) > 1:
            table = table[table["seed"].isin(seeds)]
            result = paired_drop(table[~table["eight_bit"]], table[table["eight_bit"]])
            yield Cell(
                label(cell), -result.drop, -result.high, -result.low, len(seeds), runs_of(table)
            )


def against_controls(rows, by, attack="first_order"):
    """What an attack takes off the ACR of each control's victims."""
    for control in sorted(set(rows["attack"]) & set(CONTROLS)):
        compared = rows[rows["attack"].isin([attack, control])]
        for cell in drop(compared, by, control):
            yield cell._replace(cell=control)


def published(rows, by, published, n):
    """Relative difference of the clean ACR at n draws to a published one (interval over victims); predicted where the rows have fewer draws."""
    for cell, table in rows[rows["attack"] == "none"].groupby(by):
        if "{} {:g}".format(*cell) not in published:
            continue  # a reader's own trainer
        victims = [victim for _, victim in table.groupby("seed")]
        found = np.array(
            [
                acr(victim)
                if victim["n"].max() == n
                else predict_acr(victim, n, resamples=2).predicted_acr
                for victim in victims
            ]
        )
        mean, low, high = mean_interval(found / published["{} {:g}".format(*cell)] - 1)
        if len(victims) > 1:
            yield Cell(label(dict(zip(by, cell))), mean, low, high, len(victims), runs_of(table))


def linear(rows, by, path):
    """Relative drop of the exact ACR of trained linear classifiers from eps = 0 to 0.1 (paired by seed and test image)."""
    rows = rows[rows["distance"].notna()].rename(columns={"point": "index"})
    rows = rows.assign(radius=rows["distance"].clip(lower=0))
    for model, table in rows.groupby("model"):
        result = paired_drop(*(table[table["eps"] == eps] for eps in (0.0, 0.1)))
        yield Cell(
            model, result.drop, result.low, result.high, table["seed"].nunique(), [path.stem]
        )


def closed_form(rows, by, path):
    """Relative error of the closed form's ACR for linear classifiers at eps = 0.1 against trained ones (interval over victims' seeds)."""
    prediction = path.with_name(f"{path.stem}_prediction.csv")
    predicted = pd.read_csv(prediction).set_index(["learner", "eps"])["acr"]
    for learner, model in by.items():
        measured = rows[(rows["model"] == model) & (rows["eps"] == 0.1)]
        measured = (
            measured.assign(radius=measured["distance"].clip(lower=0))
            .groupby("seed")["radius"]
            .mean()
        )
        mean, low, high = mean_interval(predicted[learner, 0.1] / measured - 1)
        yield Cell(model, mean, low, high, len(measured), [path.stem, prediction.stem])


def cost(rows, by, path):
    """Gradient evaluations of our setting until a drop of 30 %, over those of the authors', or over all it was given if it never got there.

    The drop is looked at in snapshots whose evaluations are a factor apart, ``growth`` in the manifest, so both are known to that factor;
    of a setting that gets there at its first snapshot an upper bound is known, of one that never does a lower bound.
    """
    rows = rows[rows["kind"] == "snapshot"]
    first, spent = (rows.groupby("case")["evaluations"].agg(name) for name in ("min", "max"))
    reached = rows[rows["drop"] >= 0.3].groupby("case")["evaluations"].min()
    ours, authors = (
        reached.get("first_order", math.inf),
        reached.get("approxgrad", spent["approxgrad"]),
    )
    parameters = json.loads(manifest_path(path).read_text())["parameters"]
    growth = parameters.get("growth", 1.25)  # it was this before it could be chosen
    ratio, never = ours / authors, "approxgrad" not in reached
    low = 0.0 if never or ours == first["first_order"] else ratio / growth
    high = ratio if never else math.inf if authors == first["approxgrad"] else ratio * growth
    yield Cell("first_order / approxgrad", ratio, low, high, len(parameters["seeds"]), [path.stem])


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
    **theory_claims.STATISTICS,
}


def label(cell):
    return ", ".join(
        f"{value:g}" if isinstance(value, (int, float)) else str(value) for value in cell.values()
    )


def runs_of(*tables):
    return sorted({run for table in tables for run in table["run"].unique()})


def assess(claim, profile):
    """One line of the ledger: the claim with its cells and verdict on one profile, from the profile's experiment or file of rows."""
    options, cells = claim.get("options", {}), []
    if "files" in claim:
        path = ROOT / claim["files"][profile]
        rows, options = pd.read_csv(path) if path.exists() else None, options | {"path": path}
    else:
        rows = (
            grid.rows(profile, claim["experiment"])[0]
            if claim["experiment"] in grid.load(profile).experiments
            else None
        )
    if rows is not None:
        for name, value in claim.get("unless", {}).items():  # another column, or a value
            rows = rows[rows[name] != (rows[value] if value in rows else value)]
        if (
            "besides" in claim
        ):  # the cell that the others are compared with says nothing about the claim
            rows = rows[(rows[list(claim["besides"])] != pd.Series(claim["besides"])).any(axis=1)]
        for name, values in claim.get("where", {}).items():
            rows = rows[rows[name].isin(values if isinstance(values, list) else [values])]
        cells = list(STATISTICS[claim["statistic"]](rows, claim["by"], **options))
    missing = claim["cells"][profile] - len(cells)
    outcome = verdict(cells, missing, claim.get("above"), claim.get("below"))
    line = {name: claim[name] for name in ("id", "claim", "source", "rule", "statistic")} | {
        "profile": profile,
        "verdict": outcome,
    }
    return line | {
        "rows": claim["files"][profile] if "files" in claim else claim["experiment"],
        "missing_cells": missing,
        "cells": [_rounded(cell) for cell in cells],
    }


def _rounded(cell):
    return {
        name: round(float(value), 4) + 0.0 if name in ("estimate", "low", "high") else value
        for name, value in cell._asdict().items()
    }


def ledger():
    """The whole ledger, computed from the rows."""
    return [
        assess(claim, profile)
        for claim in yaml.safe_load(CLAIMS.read_text())
        for profile in claim["cells"]
    ]


def disagreements(computed, committed):
    """One sentence for each line whose verdict, cells or numbers are not those committed."""
    before = {(line["id"], line["profile"]): line for line in committed}
    for line in computed:
        key = line["id"], line["profile"]
        if key not in before:
            yield f"{' '.join(key)}: not in the committed ledger"
        elif line != before.pop(key):
            yield f"{' '.join(key)}: the rows say {line['verdict']}, {_numbers(line)}; the committed ledger differs"
    yield from (f"{' '.join(key)}: in the committed ledger only" for key in before)


def text(line):
    """A line of the ledger for the terminal: its verdict, and below it the numbers."""
    return f"{line['verdict']:<15} {line['id']}, {line['profile']}\n{textwrap.fill(_numbers(line), 110, initial_indent=' ' * 16, subsequent_indent=' ' * 16)}"


def _numbers(line):
    return (
        "; ".join(
            f"{c['cell']}: {shown(c['estimate'])} [{shown(c['low'])}, {shown(c['high'])}]"
            for c in line["cells"]
        )
        or "no rows"
    )


def shown(value):
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m study.claims",
        description="Print the ledger of claims and compare it with the committed one.",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="commit to what the rows say now: write data/claims.json",
    )
    write, computed = parser.parse_args().write, ledger()
    print(*map(text, computed), sep="\n")
    if write:
        with replacing(LEDGER) as temporary:
            temporary.write_text(json.dumps(computed, indent=1) + "\n")
    found = list(disagreements(computed, json.loads(LEDGER.read_text()) if LEDGER.exists() else []))
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
