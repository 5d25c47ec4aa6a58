"""Transfer of poison to other networks."""

from study.drops import drop_table, percent, verdict
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import load
from study.tables import show_drops

EXPERIMENTS = ("architectures",)
PROFILE = shown(*EXPERIMENTS)


def drops(profile=PROFILE):
    """The drop for each victim network and attack (DataFrame)."""
    return drop_table(load(profile, "architectures"), ["trainer", "architecture"])


def beyond(profile=PROFILE):
    """What PACD takes off beyond the uniform control for each victim network (DataFrame)."""
    rows = load(profile, "architectures")
    both = rows[rows["attack"].isin(["first_order", "uniform"])]
    return drop_table(both, ["architecture"], against="uniform")


def numbers(profile=PROFILE, crafting="lenet"):
    """What the page says (dict of text); ``crafting`` is the network the poison was made on."""
    table = drops(profile)
    ours = table["attack"] == "first_order"
    others = table[ours & (table["architecture"] != crafting)]
    further = [f"{cell['architecture']}: {percent(cell)}" for _, cell in beyond(profile).iterrows()]
    return {"verdict": verdict(profile, "architectures", others, 0.0), "beyond": "; ".join(further)}


def networks_figure(profile=PROFILE):
    """The drop for each network and attack."""
    return drop_figure(drops(profile), ["architecture", "attack"])


def networks_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["architecture", "attack"])
