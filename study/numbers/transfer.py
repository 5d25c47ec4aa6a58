"""Transfer of poison to other trainers."""

from study.drops import drop_table, percent, verdict
from study.figures.drops import drop_figure
from study.grid import shown
from study.intervals import paired_drop
from study.numbers.shared import load
from study.tables import show_drops

EXPERIMENTS = ("transfer",)
PROFILE = shown(*EXPERIMENTS)


def drops(profile=PROFILE):
    """The drop of each pair of crafting and victim trainer (DataFrame)."""
    return drop_table(load(profile, "transfer"), ["crafting_trainer", "trainer", "sigma"])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, table = load(profile, "transfer"), drops(profile)
    others = table[table["trainer"] != table["crafting_trainer"]]
    return {
        "own_smoothadv": own_poison(rows, "smoothadv"),
        "own_macer": own_poison(rows, "macer"),
        "verdict": verdict(profile, "transfer", others, 0.0),
    }


def own_poison(rows, trainer, foreign="gaussian"):
    """What poison made against a trainer takes off beyond the poison made against another."""
    poisoned = rows[rows["trainer"] == trainer].groupby("crafting_trainer")
    other, own = (poisoned.get_group(name) for name in (foreign, trainer))
    return percent(paired_drop(other, own)._asdict())


def transfer_figure(profile=PROFILE):
    """The drop of each pair."""
    return drop_figure(drops(profile), ["crafting_trainer", "trainer"])


def transfer_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["crafting_trainer", "trainer"])
