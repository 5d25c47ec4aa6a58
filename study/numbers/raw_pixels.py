"""What the first layer decides: victims that take pixels as they are, scale or centre them."""

from study.drops import drop_table, of_attack, percent
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import accuracies, load, rungs
from study.tables import show_drops

EXPERIMENTS = ("first_layer", "centred", "ladder")
PROFILE = shown(*EXPERIMENTS)


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    centred, drops = load(profile, "centred"), rungs(profile, "centred")
    raw = accuracies(load(profile, "ladder"), "direct_search")
    return {
        **of_layers(layers(profile)),
        **accuracies(centred, "direct_search"),
        "accuracy_raw": raw["accuracy_poisoned"],
        "search": percent(of_attack(drops, "direct_search")),
        "first_order": percent(of_attack(drops, "first_order")),
    }


def of_layers(drops):
    """ACR of clean victims with each first layer, and the uniform control's drop."""
    found = {}
    for name, lines in drops.groupby("normalisation"):
        found[f"clean_{name}"] = f"{lines['ACR clean'].iloc[0]:.2f}"
        found[f"{name}_uniform"] = percent(of_attack(lines, "uniform"))
    return found


# ---- tables and figures ----


def layers(profile=PROFILE):
    """The drop of each attack for each first layer (DataFrame)."""
    return drop_table(load(profile, "first_layer"), ["trainer", "normalisation"])


def layers_figure(profile=PROFILE):
    """The drop for each first layer."""
    return drop_figure(layers(profile), ["normalisation", "attack"], threshold=None)


def layers_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(layers(profile), ["normalisation", "attack"])


def centred_figure(profile=PROFILE):
    """Attacks that know of a first layer which centres."""
    return drop_figure(rungs(profile, "centred"), ["attack"], threshold=None)


def centred_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(rungs(profile, "centred"), ["attack", "l2"])
