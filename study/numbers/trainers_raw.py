"""Three robust trainers at three noise levels, on the paper's raw pixels."""

from study.drops import CELL, above_zero, drop_table, in_order_of_trainers, verdict
from study.figures.drops import forest_figure
from study.numbers.shared import accuracies, cap, load
from study.tables import show_drops

PROFILE = "raw"
EXPERIMENTS = ("trainers",)
CONTROL = "uniform"


def drops(profile=PROFILE, against="none"):
    """The drop by each attack in each setting of trainer and noise (DataFrame)."""
    rows = load(profile, "trainers")
    if against != "none":
        rows = rows[rows["attack"] != "none"]
    return in_order_of_trainers(drop_table(rows, [*CELL, "attack"], against))


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, table, further = load(profile, "trainers"), drops(profile), drops(profile, CONTROL)
    ours = table[table["attack"] == "first_order"]
    beyond = further[further["attack"] == "first_order"]
    return {
        "verdict": verdict(profile, "trainers", ours, 0.3),
        "beyond": above_zero(beyond),
        "cap": cap(rows["n"].max(), rows["alpha"].max()),
        **of_accuracy(rows),
    }


def of_accuracy(rows):
    """Accuracy of the class without noise in the first setting, in whole per cent."""
    first = rows[(rows["trainer"] == "gaussian") & (rows["sigma"] == 0.5)]
    return accuracies(first, "first_order")


# ---- tables and figures ----


def figure(profile=PROFILE):
    """The drop in each setting, by PACD, by the control and by direct search."""
    return forest_figure(drops(profile))


def table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["trainer", "sigma", "attack"])


def further_table(profile=PROFILE):
    """What each attack takes off the ACR of the control's victims."""
    return show_drops(drops(profile, CONTROL), ["trainer", "sigma", "attack"])
