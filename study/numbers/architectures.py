"""Transfer of poison to other networks."""

from study.drops import drop_table, verdict
from study.figures.drops import drop_figure
from study.numbers.shared import load
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("architectures",)


def drops(profile=PROFILE):
    """The drop for each victim network (DataFrame)."""
    return drop_table(load(profile, "architectures"), ["trainer", "architecture"])


def numbers(profile=PROFILE, crafting="lenet"):
    """What the page says (dict of text); ``crafting`` is the network the poison was made on."""
    table = drops(profile)
    others = table[table["architecture"] != crafting]
    return {"verdict": verdict(profile, "architectures", others, 0.0)}


def networks_figure(profile=PROFILE):
    """The drop for each network."""
    return drop_figure(drops(profile), ["architecture"])


def networks_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["architecture"])
