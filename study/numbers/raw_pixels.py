"""What the first layer decides: victims that take pixels as they are."""

from study.drops import (
    above_zero,
    beyond_controls,
    drop_table,
    is_control,
    of_attack,
    percent,
    strongest_control,
)
from study.figures.drops import drop_figure
from study.figures.patterns import pattern_figure
from study.numbers.shared import (
    accuracies,
    load,
    mean_votes,
    pattern,
    predicted_acrs,
    predicted_drop,
    prefixed,
    rungs,
    share_of,
)
from study.style import control_name
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("raw_pixels", "ladder", "raw_trainers", "first_layer")


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, drops = load(profile, "raw_pixels"), rungs(profile, "raw_pixels")
    return {
        **prefixed("raw", of_attacks(drops)),
        **prefixed("centred", of_attacks(rungs(profile, "ladder"))),
        **of_controls(rows, drops),
        **of_acrs(drops),
        **accuracies(rows, "direct_search"),
        "predicted": predicted(rows),
        **of_votes(),
        **of_trainers(load(profile, "raw_trainers")),
        **of_layers(load(profile, "first_layer")),
    }


def of_attacks(drops):
    """The drops that are compared between the two first layers."""
    names = ("direct_search", "first_order", "uniform")
    return {name: percent(of_attack(drops, name)) for name in names}


def of_controls(rows, drops):
    """What the two attacks add to the controls."""
    best = strongest_control(drops)
    controls = drops.loc[is_control(drops), "attack"]
    found = {"best": control_name(best)}
    for attack in ("direct_search", "first_order"):
        further = beyond_controls(rows, attack, controls)
        found[f"{attack}_beyond"] = percent(further.loc[best])
        found[f"{attack}_beaten"] = above_zero(further)
    return found


def of_acrs(drops):
    """ACR of clean victims and of those of direct search."""
    return {
        "acr_clean": f"{drops['ACR clean'].iloc[0]:.2f}",
        "acr_search": f"{of_attack(drops, 'direct_search')['ACR poisoned']:.2f}",
    }


def predicted(rows):
    """Direct search's drop as it would be with 100,000 draws, a prediction."""
    return predicted_drop(predicted_acrs(rows, ("none", "direct_search")), "direct_search")


def of_votes():
    """Noisy votes for the target class with direct search's two patterns."""
    raw, centred = mean_votes("raw_pixels"), mean_votes("direct_search")
    return {**prefixed("raw_votes", _votes(raw)), **prefixed("centred_votes", _votes(centred))}


def _votes(votes):
    return {
        "0": share_of(votes, "poisoned", "target", 0),
        "1": share_of(votes, "poisoned", "target", 1),
        "clean": share_of(votes, "clean", "target", 0),
        "others": share_of(votes, "poisoned", "others", 1, digits=1),
    }


def of_trainers(rows):
    """The other robust trainers under the poison made against Gaussian augmentation."""
    drops = drop_table(rows, ["trainer"]).set_index("trainer")
    return {f"others_{name}": percent(drops.loc[name]) for name in ("smoothadv", "macer")}


def of_layers(rows):
    """ACR of clean victims with each first layer."""
    drops = drop_table(rows, ["normalisation"])
    acrs = drops.groupby("normalisation")["ACR clean"].first()
    return {f"clean_{name}": f"{acr:.2f}" for name, acr in acrs.items()}


# ---- tables and figures ----


def rungs_figure(profile=PROFILE):
    """The drop of each rung."""
    return drop_figure(rungs(profile, "raw_pixels"), ["attack"], threshold=None)


def rungs_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(rungs(profile, "raw_pixels"), ["attack", "l2"])


def patterns_figure(profile=PROFILE):
    """Direct search's mean changes for both first layers."""
    patterns = {
        "made on raw pixels": pattern("raw_pixels"),
        "made on centred pixels": pattern("direct_search"),
    }
    return pattern_figure(patterns, load(profile, "raw_pixels")["eps_linf"].max())


def layers(profile=PROFILE):
    """The drop of each attack for each first layer (DataFrame)."""
    return drop_table(load(profile, "first_layer"), ["trainer", "normalisation"])


def layers_figure(profile=PROFILE):
    """The drop for each first layer."""
    return drop_figure(layers(profile), ["normalisation", "attack"], threshold=None)


def layers_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(layers(profile), ["normalisation", "attack"])


def trainers_table(profile=PROFILE):
    """The other robust trainers on raw pixels."""
    drops = drop_table(load(profile, "raw_trainers"), ["crafting_trainer", "trainer"])
    return show_drops(drops, ["trainer"])
