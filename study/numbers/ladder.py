"""What the bilevel step adds: PACD beside controls with the same bound."""

import math

from study import grid
from study.drops import (
    above_zero,
    beyond_controls,
    drop_table,
    further_drop,
    headline,
    is_control,
    of_attack,
    percent,
    strongest_control,
    whole,
)
from study.figures.drops import drop_figure
from study.figures.patterns import pattern_figure, shortcut_figure
from study.numbers.shared import (
    fall_for,
    load,
    mean_votes,
    pattern,
    predicted_acrs,
    predicted_drop,
    prefixed,
    rungs,
    share_of,
    shortcut,
)
from study.style import attack_name, control_name
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("ladder", "search", "steps", "table1", "ablation", "schedule", "eps", "poison_seeds")
PATTERNED = ("low_frequency", "checkerboard", "random_sign")  # fixed patterns, not smooth


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, drops = load(profile, "ladder"), rungs(profile, "ladder")
    best = strongest_control(drops)
    return {
        **of_rungs(rows, drops, best),
        **of_search(rows, drops, best),
        **of_search_settings(grid.load(profile), load(profile, "search")),
        **of_patterns(drops),
        **of_few_steps(load(profile, "steps")),
        **of_accuracy(rows, drops, load(profile, "table1")),
        **of_votes(),
        **of_more_draws(rows, best),
        **of_schedule(load(profile, "schedule")),
        **of_sizes(load(profile, "eps")),
    }


def of_rungs(rows, drops, best):
    """First-order PACD beside the controls."""
    controls = drops.loc[is_control(drops), "attack"]
    further = beyond_controls(rows, "first_order", controls)
    level = controls[(further["low"] <= 0).to_numpy()]
    return {
        "best": control_name(best),
        "level": ", ".join(map(control_name, level)) or "none",
        "cg": percent(of_attack(drops, "cg")),
        **prefixed("best", in_parts(of_attack(drops, best))),
        **prefixed("ours", in_parts(of_attack(drops, "first_order"))),
        **prefixed("beyond", in_parts(further.loc[best])),
    }


def in_parts(cell):
    """A drop and the ends of its interval, each as text."""
    return {name: whole(cell[name]) for name in ("drop", "low", "high")}


def of_search(rows, drops, best):
    """Direct search beside the controls and first-order PACD."""
    controls = drops.loc[is_control(drops), "attack"]
    further = beyond_controls(rows, "direct_search", controls)
    return {
        "search": percent(of_attack(drops, "direct_search")),
        "search_control": percent(further.loc[best]),
        "search_first": percent(further_drop(rows, "direct_search", "first_order")),
        "beaten": above_zero(further),
    }


def of_search_settings(plan, rows):
    """How many patterns were tried with each setting, and what the second one costs."""
    searched = rows[rows["attack"] == "direct_search"]
    patterns = searched.groupby("attack_options")["steps"].first().sort_values()
    chosen = next(filter(_is_second_setting, plan.poisons.values()))
    victims = short_victims(chosen["steps"])
    images = victims * chosen["attack_options"]["epochs"] * chosen["train_size"]
    return {
        "first_patterns": int(patterns.iloc[-1]),
        "second_patterns": int(patterns.iloc[0]),
        "short_victims": victims,
        "search_evaluations": f"{images / 1e6:.1f}",
    }


def _is_second_setting(poison):
    return poison["attack"] == "direct_search" and poison["attack_options"]


def short_victims(patterns):
    """Victims that successive halving trains: one for each pattern left, until one is left."""
    trained = 0
    while patterns > 1:
        trained += patterns
        patterns = math.ceil(patterns / 2)
    return trained


def of_patterns(drops):
    """Length and drop of those poisons whose patterns are compared."""
    found = {}
    for name in ("cg", "first_order", "direct_search", *PATTERNED):
        cell = of_attack(drops, name)
        found[f"l2_{name}"] = f"{cell['l2']:.1f}"
        found[f"drop_{name}"] = whole(cell["drop"])
    return found


def of_few_steps(rows):
    """First-order PACD with as few steps as CG."""
    few = rows[(rows["attack"] == "none") | (rows["steps"] == 100)]
    return {"few": percent(drop_table(few).iloc[0]), "l2_few": f"{few['l2'].max():.1f}"}


def of_accuracy(rows, drops, table1):
    """Poison against standard training, and what other poisons take off the accuracy."""
    return {
        **prefixed("accuracy", in_parts(of_attack(drops, "accuracy"))),
        "accuracy_fall": fall_for(rows, "accuracy"),
        "fall_low": fall_for(table1, "accuracy"),
        "fall_ours": fall_for(rows, "first_order"),
        "fall_uniform": fall_for(rows, "uniform"),
    }


def of_votes():
    """Noisy votes for the target class without and with the poison's mean change."""
    first, search = mean_votes("first_order"), mean_votes("direct_search")
    found = {}
    for strength in (0, 1):
        found[f"others_{strength}"] = share_of(first, "poisoned", "others", strength, digits=1)
        found[f"target_{strength}"] = share_of(first, "poisoned", "target", strength)
        found[f"clean_{strength}"] = share_of(first, "clean", "target", strength)
        found[f"search_{strength}"] = share_of(search, "poisoned", "target", strength)
    return found


def of_more_draws(rows, best):
    """Drops as they would be with 100,000 draws, a prediction."""
    acrs = predicted_acrs(rows, ("none", "first_order", best))
    return {
        "ours_predicted": predicted_drop(acrs, "first_order"),
        "best_predicted": predicted_drop(acrs, best),
    }


def of_schedule(rows):
    """Victims with the paper's step size."""
    rival = strongest_control(drop_table(rows, ["trainer"]))
    return {
        "schedule_control": control_name(rival),
        "schedule_search": percent(further_drop(rows, "direct_search", rival)),
        **prefixed("schedule", headline(rows, against=rival)),
    }


def of_sizes(rows):
    """How the drop grows with eps, and how close PACD and the uniform control stay."""
    drops = drop_table(rows, ["eps_linf"])
    ours = drops[drops["attack"] == "first_order"].set_index("eps_linf")["drop"]
    poisoned = rows[rows["attack"] != "none"].groupby("eps_linf")
    paired = [percent(further_drop(part, "first_order", "uniform")) for _, part in poisoned]
    return {
        "growth_first": f"{ours[0.1] / ours[0.05]:.1f}",
        "growth_second": f"{ours[0.2] / ours[0.1]:.1f}",
        "paired": ", ".join(paired),
    }


# ---- tables and figures ----


def rungs_figure(profile=PROFILE):
    """The drop of each rung."""
    return drop_figure(rungs(profile, "ladder"), ["attack"], threshold=None)


def rungs_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(rungs(profile, "ladder"), ["attack", "l2"])


def ablation_table(profile=PROFILE):
    """First-order PACD with one option changed at a time."""
    return show_drops(_largest_first(profile, "ablation", "attack_options"), ["attack_options"])


def search_table(profile=PROFILE):
    """Both settings of direct search."""
    table = _largest_first(profile, "search", "attack_options")
    return show_drops(table, ["attack", "attack_options"])


def schedule_table(profile=PROFILE):
    """Victims with the paper's step size."""
    return show_drops(_largest_first(profile, "schedule"), ["attack"])


def _largest_first(profile, experiment, *by):
    drops = drop_table(load(profile, experiment), ["trainer", *by])
    return drops.sort_values("drop", ascending=False)


def poison_seeds_table(profile=PROFILE):
    """Poisons that differ in their seed."""
    drops = drop_table(load(profile, "poison_seeds"), ["trainer", "poison_seed"])
    return show_drops(drops, ["poison_seed"])


def patterns_figure(profile=PROFILE):
    """The mean changes of first-order PACD and of direct search."""
    patterns = {attack_name(name): pattern(name) for name in ("first_order", "direct_search")}
    return pattern_figure(patterns, load(profile, "ladder")["eps_linf"].max())


def votes_figure():
    """What the pattern of first-order PACD does to votes."""
    return shortcut_figure(shortcut("first_order"))
