"""What several pages say in the same way."""

from functools import cache

import pandas as pd
import yaml

from study import drops
from study.claims import CLAIMS
from study.drops import drop_table, fall_of_accuracy, mean_lengths
from study.predict import predict_acr
from study.results import ROOT
from study.theory import radius_cap

CHOSEN_CLASS = 8  # on which the attack's settings were chosen
SHORTCUT = ROOT / "data" / "results" / "shortcut"
BENCHMARKS = ROOT / "data" / "benchmarks"


@cache
def load(profile, experiment):
    """:func:`study.drops.load`, read once: a page asks for the same rows again and again."""
    return drops.load(profile, experiment)


def prefixed(prefix, numbers):
    """The same numbers under names that begin with a prefix."""
    return {f"{prefix}_{name}": value for name, value in numbers.items()}


def rungs(profile, experiment):
    """The drop of each attack and the mean length of its change, least drop first (DataFrame)."""
    rows = load(profile, experiment)
    table = drop_table(rows, ["trainer", "crafting_trainer"])
    table = table.sort_values("drop", ignore_index=True)
    return table.assign(l2=mean_lengths(rows, table["attack"]))


def accuracies(rows, attack):
    """Accuracy of the target class without noise, clean and under an attack, in whole per cent."""
    sides = rows[rows["attack"].isin(["none", attack])]
    cell = fall_of_accuracy(sides).iloc[0]
    return {f"accuracy_{side}": f"{cell[side]:.0f}" for side in ("clean", "poisoned")}


def predicted_acrs(rows, attacks, n=100_000):
    """Predicted ACR of the victims of each of some attacks (dict; pixel units)."""
    return {
        attack: predict_acr(rows[rows["attack"] == attack], n, resamples=2).predicted_acr
        for attack in attacks
    }


def predicted_drop(acrs, attack):
    """Drop of a predicted ACR, in whole per cent."""
    return f"{100 * (1 - acrs[attack] / acrs['none']):.0f}"


def shortcut(name):
    """Votes of victims on images that were given a poison's mean change (DataFrame)."""
    return pd.read_csv(SHORTCUT / f"{name}.csv")


def pattern(name):
    """A poison's mean change, array (H, W), pixel units."""
    return pd.read_csv(SHORTCUT / f"{name}_pattern.csv").to_numpy()


def mean_votes(name):
    """Mean shares of noisy votes for the target class, by victim, images and strength (Series)."""
    return shortcut(name).groupby(["victim", "images", "strength"])["share"].mean()


def share_of(votes, victim, images, strength, digits=0):
    """One of :func:`mean_votes` in per cent, as text."""
    return f"{100 * votes[victim, images, strength]:.{digits}f}"


def cap(n, alpha=0.001):
    """The largest radius that n draws can certify, in units of sigma, as text."""
    return f"{radius_cap(1, n, alpha):.2f}"


def claim(name):
    """A claim with its rule, from ``data/claims.yaml``."""
    (found,) = [entry for entry in yaml.safe_load(CLAIMS.read_text()) if entry["id"] == name]
    return found
