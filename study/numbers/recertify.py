"""The page on which a reader certifies again."""

import pandas as pd
from IPython.display import HTML

from study import recertify
from study.numbers.shared import load

PROFILE = "laptop"
EXPERIMENTS = ("ladder", "raw_trainers")


def rows(profile=PROFILE):
    """Rows of the experiments; runs that they share are there once (DataFrame)."""
    found = pd.concat([load(profile, experiment) for experiment in EXPERIMENTS])
    return found.drop_duplicates(["run", "index"])


def numbers(profile=PROFILE):
    """Which rows the page shows (dict of text)."""
    table = rows(profile)
    return {
        "profile": profile,
        "experiment": " and ".join(EXPERIMENTS),
        "dataset": ", ".join(table["dataset"].unique()),
        "target_class": ", ".join(map(str, table["target_class"].unique())),
    }


def figure(profile=PROFILE):
    """The figure with its sliders."""
    return HTML(recertify.html(rows(profile)))
