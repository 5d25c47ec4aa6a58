"""What the attack adds: PACD beside controls with the same bound."""

import math

from study import grid
from study.drops import (
    above_zero,
    beyond_controls,
    is_control,
    of_attack,
    percent,
    strongest_control,
)
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import accuracies, cap, load, predicted_acrs, predicted_drop, rungs
from study.style import control_name
from study.tables import show_drops

EXPERIMENTS = ("ladder", "convolution")
PROFILE = shown(*EXPERIMENTS)
ATTACKS = ("first_order", "direct_search")


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, drops = load(profile, "ladder"), rungs(profile, "ladder")
    return {
        "eps": f"{rows['eps_linf'].max():g}",
        "cap": cap(rows["n"].max(), rows["alpha"].max()),
        "convolution": percent(rungs(profile, "convolution").iloc[0]),
        **of_controls(rows, drops),
        **of_accuracy(rows),
        **of_search(grid.load(profile)),
        **of_more_draws(rows),
    }


def of_controls(rows, drops):
    """What each attack takes, and what it adds to the controls."""
    best = strongest_control(drops)
    controls = drops.loc[is_control(drops), "attack"]
    found = {"best": control_name(best), "control": percent(of_attack(drops, best))}
    found["controls"] = len(controls)
    for attack in ATTACKS:
        further = beyond_controls(rows, attack, controls)
        found[attack] = percent(of_attack(drops, attack))
        found[f"{attack}_beyond"] = percent(further.loc[best])
        found[f"{attack}_beaten"] = above_zero(further)
    return found


def of_accuracy(rows):
    """Accuracy of the class without noise, clean and under two poisons, in whole per cent."""
    found = {"accuracy_clean": accuracies(rows, "first_order")["accuracy_clean"]}
    for attack in ("first_order", "uniform"):
        found[f"accuracy_{attack}"] = accuracies(rows, attack)["accuracy_poisoned"]
    return found


def of_search(plan):
    """What the search costs."""
    chosen = next(run for run in plan.poisons.values() if run["attack"] == "direct_search")
    victims = short_victims(chosen["steps"])
    images = victims * chosen["attack_options"]["epochs"] * chosen["train_size"]
    return {"short_victims": victims, "search_evaluations": f"{images / 1e6:.1f}"}


def short_victims(patterns):
    """Victims that successive halving trains: one for each pattern left, until one is left."""
    trained = 0
    while patterns > 1:
        trained += patterns
        patterns = math.ceil(patterns / 2)
    return trained


def of_more_draws(rows):
    """Drops as they would be with 100,000 draws, a prediction."""
    acrs = predicted_acrs(rows, ("none", *ATTACKS))
    return {f"{attack}_predicted": predicted_drop(acrs, attack) for attack in ATTACKS}


# ---- tables and figures ----


def rungs_figure(profile=PROFILE):
    """The drop of each rung."""
    return drop_figure(rungs(profile, "ladder"), ["attack"], threshold=None)


def rungs_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(rungs(profile, "ladder"), ["attack", "l2"])
