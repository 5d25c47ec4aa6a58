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
from study.figures.patterns import pattern_figure, shortcut_figure
from study.numbers.shared import (
    accuracies,
    cap,
    load,
    mean_votes,
    pattern,
    predicted_acrs,
    predicted_drop,
    rungs,
    share_of,
    shortcut,
)
from study.style import attack_name, control_name
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("ladder",)
ATTACKS = ("first_order", "direct_search")
VOTES = "raw_pixels"  # of the file of votes


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, drops = load(profile, "ladder"), rungs(profile, "ladder")
    return {
        "eps": f"{rows['eps_linf'].max():g}",
        "cap": cap(rows["n"].max(), rows["alpha"].max()),
        **of_controls(rows, drops),
        **of_accuracy(rows),
        **of_search(grid.load(profile)),
        **of_votes(),
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


def of_votes():
    """Noisy votes for the target class without and with the search's mean change."""
    votes = mean_votes(VOTES)
    return {
        "others_1": share_of(votes, "poisoned", "others", 1, digits=1),
        "target_0": share_of(votes, "poisoned", "target", 0),
        "target_1": share_of(votes, "poisoned", "target", 1),
        "clean_0": share_of(votes, "clean", "target", 0),
    }


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


def patterns_figure(profile=PROFILE):
    """The mean change of direct search."""
    patterns = {attack_name("direct_search"): pattern(VOTES)}
    return pattern_figure(patterns, load(profile, "ladder")["eps_linf"].max())


def votes_figure():
    """What that pattern does to votes."""
    return shortcut_figure(shortcut(VOTES))
