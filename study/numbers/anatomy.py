"""What PACD's poison is: how much of it is one brightness, one pattern, each image's own."""

import json

import pandas as pd

from study.figures.patterns import parts_figure, pattern_figure, shortcut_figure
from study.numbers.shared import SHORTCUT, mean_votes, pattern, share_of, shortcut
from study.style import TRAINER_NAME, attack_name, data_name
from study.tables import without_index

PROFILE = "laptop"
EXPERIMENTS = ()
ATTACKS = ("uniform", "first_order", "approxgrad", "direct_search")
PARTS = ("shift", "pattern", "own")


def looked_at():
    """Attacks whose poison has been taken apart, in their order."""
    return [attack for attack in ATTACKS if (SHORTCUT / f"{attack}.json").exists()]


def facts(attack):
    """The manifest of an attack's run (dict)."""
    return json.loads((SHORTCUT / f"{attack}.json").read_text())


def parts():
    """Shares of the mean squared change, and the mean change of background and strokes."""
    lines = [{"attack": attack, **facts(attack)["anatomy"]} for attack in looked_at()]
    return pd.DataFrame(lines)


def numbers():
    """What the page says (dict of text)."""
    shares = parts().set_index("attack")
    ours, eps = shares.loc["first_order"], facts("first_order")["poison"]["eps_linf"]
    return {
        "shift": f"{100 * ours['shift']:.0f}",
        "own": f"{100 * ours['own']:.0f}",
        "background": f"{ours['background']:.3f}",
        "strokes": f"{ours['strokes']:+.3f}",
        "eps": f"{eps:g}",
        "rows": of_rows(facts("first_order")["parameters"]),
        **of_votes("first_order"),
    }


def of_rows(made):
    """Where the rows come from, from a run's parameters (dict)."""
    data = data_name(made["dataset"], made["train_size"])
    victim = f"{TRAINER_NAME[made['trainer']]}, σ = {made['sigma']:g}, class {made['target_class']}"
    size = f"{len(made['seeds'])} victim seeds, {made['points']} test images of each kind"
    return f"{data}; {victim}; {size} with {made['draws']} noise draws each"


def of_votes(attack):
    """Noisy votes for the target class without and with a poison's mean change, per cent."""
    votes = mean_votes(attack)
    return {
        "others_0": share_of(votes, "poisoned", "others", 0, digits=1),
        "others_1": share_of(votes, "poisoned", "others", 1, digits=1),
        "target_0": share_of(votes, "poisoned", "target", 0),
        "target_1": share_of(votes, "poisoned", "target", 1),
        "clean_0": share_of(votes, "clean", "target", 0),
    }


# ---- tables and figures ----


def shares_figure():
    """What each poison's change is made of."""
    table = parts()
    names = table["attack"].map(attack_name)
    return parts_figure(table[list(PARTS)].set_axis(names, axis=0))


def parts_table():
    """The same in numbers."""
    table = parts().round({name: 2 for name in PARTS} | {"background": 3, "strokes": 3})
    return without_index(table.assign(attack=table["attack"].map(attack_name)))


def patterns_figure():
    """The mean change of each poison."""
    eps = facts("first_order")["poison"]["eps_linf"]
    return pattern_figure({attack_name(attack): pattern(attack) for attack in looked_at()}, eps)


def votes_figure():
    """What PACD's mean change does to votes."""
    return shortcut_figure(shortcut("first_order"))
