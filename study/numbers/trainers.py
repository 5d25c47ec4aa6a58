"""Three robust trainers at three noise levels."""

from study.drops import CELL, above_zero, drop_table, headline, in_order_of_trainers, verdict
from study.figures.curves import curve_figure
from study.figures.drops import forest_figure
from study.grid import shown
from study.intervals import point_at_cap
from study.numbers.shared import accuracies, cap, load, predicted_acrs, predicted_drop
from study.tables import show_beyond, show_drops

EXPERIMENTS = ("trainers",)
CONTROL, ATTACKS = "uniform", ("first_order", "direct_search")
PROFILE = shown(*EXPERIMENTS)


def drops(profile=PROFILE, against="none"):
    """The drop by each attack in each setting of trainer and noise (DataFrame)."""
    rows = load(profile, "trainers")
    if against != "none":
        rows = rows[rows["attack"] != "none"]
    return in_order_of_trainers(drop_table(rows, [*CELL, "attack"], against))


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows = load(profile, "trainers")
    ours = of(drops(profile), "first_order")
    lowest = ours[ours["trainer"] == "gaussian"]["sigma"].min()
    return {
        "verdict": verdict(profile, "trainers", ours, 0.3),
        **{attack: above_zero(of(drops(profile, CONTROL), attack)) for attack in ATTACKS},
        "cap": cap(rows["n"].max(), rows["alpha"].max()),
        **accuracies(first_setting(rows), "first_order"),
        **of_low_noise(rows[(rows["trainer"] == "gaussian") & (rows["sigma"] == lowest)]),
    }


def of(table, attack):
    """The lines of a table of drops that are about an attack."""
    return table[table["attack"] == attack]


def first_setting(rows):
    """The rows of Gaussian augmentation at sigma 0.5, of which prose speaks."""
    return rows[(rows["trainer"] == "gaussian") & (rows["sigma"] == 0.5)]


def of_low_noise(rows):
    """What the cap of n hides at the lowest noise level."""
    clean = of(rows, "none")
    acrs = predicted_acrs(rows, ("none", "first_order"))
    return {
        "low_sigma": f"{rows['sigma'].iloc[0]:g}",
        "capped": f"{100 * point_at_cap(clean).mean():.0f}",
        "drop_low": headline(rows)["drop"],
        "drop_long": predicted_drop(acrs, "first_order"),
    }


# ---- tables and figures ----


def trainers_figure(profile=PROFILE):
    """The drop in each setting, by PACD, by the control and by direct search."""
    return forest_figure(drops(profile))


def trainers_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["trainer", "sigma", "attack"])


def further_table(profile=PROFILE):
    """What each attack takes off the ACR of the control's victims."""
    return show_drops(drops(profile, CONTROL), ["trainer", "sigma", "attack"])


def curves(profile=PROFILE):
    """Certified accuracy against radius, of the trainers that have poisoned victims."""
    rows = load(profile, "trainers")
    poisoned = rows[rows["attack"] != "none"]["trainer"].unique()
    return curve_figure(rows[rows["trainer"].isin(poisoned)])


def beyond_table(profile=PROFILE):
    """What the ACR hides."""
    rows = load(profile, "trainers")
    return show_beyond(rows[rows["attack"].isin(["none", "first_order"])])
