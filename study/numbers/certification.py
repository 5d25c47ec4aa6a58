"""What certification costs."""

import json
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import norm

from study import looks
from study.figures.draws import draws_figure
from study.intervals import acr, certified_accuracy, recertify
from study.numbers.shared import BENCHMARKS, cap, load
from study.predict import predict_acr
from study.tables import without_index

PROFILE = "laptop"
EXPERIMENTS = ("draws",)
MOST = 100_000
DRAWS = (1000, 2000, 5000, 10_000, 20_000, 50_000, MOST)
RADII = np.arange(0, 3.25, 0.5)  # asked about, in units of sigma
SIDES = {"none": "clean", "uniform": "poisoned"}


def speed():
    """The benchmark's table, a line for each variant in the order of the runs (DataFrame)."""
    rows = pd.read_csv(BENCHMARKS / "certify.csv")
    rows = rows[rows["kind"] == "speed"]
    table = rows.pivot(index="case", columns="quantity", values="value")
    return table.loc[rows["case"].unique()]


def moved():
    """Votes that another precision gives to another class, and all votes (DataFrame)."""
    rows = pd.read_csv(BENCHMARKS / "certify.csv")
    return rows[rows["kind"] == "moved"].pivot(index="case", columns="quantity", values="value")


@cache
def rows(profile=PROFILE):
    """Rows of 100,000 draws a point, clean and poisoned (dict of DataFrames)."""
    table = load(profile, "draws")
    return {attack: table[table["attack"] == attack].reset_index(drop=True) for attack in SIDES}


@cache
def ladders(profile=PROFILE):
    """ACR by draws and way of drawing, clean and poisoned (dict of DataFrames)."""
    rates = norm.cdf(RADII)
    return {SIDES[side]: looks.ladder(of, DRAWS, rates) for side, of in rows(profile).items()}


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    ran = json.loads((BENCHMARKS / "certify.json").read_text())["parameters"]
    found = {"threads": str(ran["threads"])} | of_speed(speed(), moved())
    for side, of in rows(profile).items():
        found |= {f"{SIDES[side]}_{name}": text for name, text in of_draws(of).items()}
    return found | {"cap_1000": cap(1000), "cap_2000": cap(2000), "cap_100000": cap(MOST)}


def of_speed(table, changed):
    """Ratios to the faster loop of others, at its best batch, and what the pair changes."""
    ours = {"few": "ours, 200,000 passes", "many": "ours, two million"}
    ours |= {"int8": "ours, int8, two million"}
    found = {name: f"{table.loc[line, 'ratio']:.1f}" for name, line in ours.items()}
    laid_out = table["ratio to channels_last"]
    found |= {f"{name}_laid_out": f"{laid_out[line]:.1f}" for name, line in ours.items()}
    found |= {"votes": f"{changed['votes'].max():,.0f}"}
    return found | {f"moved_{p}": f"{changed.loc[p, 'moved']:,.0f}" for p in changed.index}


def of_draws(table):
    """What a coin gains at 1,000 draws, and what stopping early saves and loses."""
    few = recertify(table, n=1000)
    early = looks.stopped_early(table, norm.cdf(RADII), MOST)
    curves = [certified_accuracy(of, RADII * of["sigma"].iloc[0]) for of in (table, early)]
    predicted = predict_acr(recertify(table, n=2000), MOST)
    whole = acr(table)
    return {
        "coin": f"{100 * (acr(looks.with_coin(few)) / acr(few) - 1):.1f}",
        "share_1000": f"{100 * acr(few) / whole:.0f}",
        "share_10000": f"{100 * acr(recertify(table, n=10_000)) / whole:.0f}",
        "fewer": f"{table['n'].sum() / early['n'].sum():.1f}",
        "share_early": f"{100 * acr(early) / whole:.0f}",
        "lost": f"{100 * (curves[0] - curves[1]).max():.1f}",
        "acr": f"{whole:.3f}",
        "predicted": "{:.3f} [{:.3f}, {:.3f}]".format(*predicted),
        "error": f"{100 * (predicted.predicted_acr / whole - 1):+.1f}",
    }


# ---- tables and figures ----


def speed_table():
    """Each loop at its best batch, and whole certificates of this study."""
    table = speed()
    pair = table.index == "ours, two million"
    rounds = zip(table["ratio, lowest round"], table["ratio, highest round"])
    shown = {
        "": table.index,
        "passes per second": table["passes per second"].map("{:,.0f}".format),
        "times the others'": table["ratio"].map("{:.1f}".format),
        "over rounds": [f"{low:.1f} to {high:.1f}" for low, high in rounds],
        # A pair multiplies in two precisions, and has no one peak.
        "share of peak": table["share of peak"].map("{:.0%}".format).mask(pair, "–"),
    }
    return without_index(pd.DataFrame(shown))


def draws(profile=PROFILE):
    """ACR against draws: one look, with a coin, stopped early; and the cap."""
    return draws_figure(ladders(profile))
