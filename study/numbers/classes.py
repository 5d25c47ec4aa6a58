"""Each class as the target."""

from study.drops import above_zero, drop_table, percent, whole
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import CHOSEN_CLASS, load
from study.tables import show_drops

EXPERIMENTS = ("classes",)
PROFILE = shown(*EXPERIMENTS)


def drops(profile=PROFILE):
    """The drop of each class (DataFrame)."""
    return drop_table(load(profile, "classes"), ["trainer", "target_class"])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    table = drops(profile)
    chosen = table["target_class"] == CHOSEN_CLASS
    others = table[~chosen].sort_values("drop")
    return {
        "eight": percent(table[chosen].iloc[0]),
        "others": f"{whole(others['drop'].mean())} % on average",
        "clear": above_zero(table),
        "least": _of_class(others.iloc[0]),
        "most": _of_class(others.iloc[-1]),
    }


def _of_class(cell):
    return f"{whole(cell['drop'])} % (class {cell['target_class']})"


def classes_figure(profile=PROFILE):
    """The drop of each class."""
    return drop_figure(drops(profile), ["target_class"])


def classes_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["target_class"])
