"""CIFAR-10."""

from study.drops import drop_table, verdict
from study.figures.curves import curve_figure
from study.figures.drops import drop_figure
from study.numbers.shared import load
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("cifar10",)


def drops(profile=PROFILE):
    """The drop of each attack (DataFrame)."""
    return drop_table(load(profile, "cifar10"), ["trainer", "attack"])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, table = load(profile, "cifar10"), drops(profile)
    clean = rows[rows["attack"] == "none"]
    return {
        "verdict": verdict(profile, "cifar10", table[table["attack"] == "tint"], 0.3),
        "accuracy_none": f"{100 * clean['accuracy_all'].mean():.0f}",
        **of_class(rows),
        **under_noise(rows),
    }


def of_class(rows):
    """Accuracy of the target class without noise under each attack, in whole per cent."""
    accuracy = rows.groupby("attack")["accuracy_target"].mean()
    return {f"target_{attack}": f"{100 * share:.0f}" for attack, share in accuracy.items()}


def under_noise(rows):
    """Share of points whose noisy copies are mostly named right under each attack, likewise."""
    right = (rows["guess"] == rows["label"]).groupby(rows["attack"]).mean()
    return {f"noisy_{attack}": f"{100 * share:.0f}" for attack, share in right.items()}


def attacks_figure(profile=PROFILE):
    """The drop of each attack."""
    return drop_figure(drops(profile), ["attack"])


def attacks_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["attack"])


def curves(profile=PROFILE):
    """Certified accuracy against radius."""
    return curve_figure(load(profile, "cifar10"))
