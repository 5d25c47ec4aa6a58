"""What PACD's poison is: how much of it is one brightness, one pattern, each image's own."""

import json

import pandas as pd
from IPython.display import HTML

from pacd import data
from study.figures.patterns import parts_figure, pattern_figure, shortcut_figure
from study.figures.strengths import strengths_html
from study.intervals import by_seed
from study.numbers.shared import SHORTCUT, load, mean_votes, pattern, share_of, shortcut
from study.style import TRAINER_NAME, attack_name, data_name
from study.tables import without_index

PROFILE = "laptop"
EXPERIMENTS = ("ladder", "trainers", "eps")  # of strengths: those that may hold them
ATTACKS = ("uniform", "first_order", "approxgrad", "direct_search")
PARTS = ("shift", "pattern", "own")
# What rows of weaker and stronger poisons must share with the run that measured the patterns.
SAME = ("dataset", "train_size", "trainer", "sigma", "architecture", "normalisation")
SAME += ("target_class", "epochs", "batch", "lr")
SHOWN = ("uniform", "first_order")
DRAWS = 2000


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
        **of_strengths(radii()),
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


def of_strengths(tables):
    """The strengths that :func:`radii` holds, as text (dict)."""
    strengths = sorted({eps for _, eps in tables})
    return {"strengths": ", ".join(f"{eps:g}" for eps in strengths), "draws": f"{DRAWS:,}"}


def radii():
    """Radii of clean and poisoned victims, by attack and strength.

    A dict of tables of victims and test points, pixel units; a cell that several experiments hold
    is read once.
    """
    found, made = {}, facts("first_order")["parameters"]
    for experiment in EXPERIMENTS:
        rows = load(PROFILE, experiment)
        same = (rows[list(SAME)] == pd.Series(made)[list(SAME)]).all(axis=1)
        cell = rows[same & rows["attack"].isin(("none", *SHOWN))]
        for key, side in cell.groupby(["attack", cell["eps_linf"].fillna(0)]):
            if side["n"].max() == DRAWS:
                found.setdefault(key, by_seed(side))
    return found


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


def strengths_figure():
    """A digit, the same as poison, and the certified radii at every strength that has rows."""
    digits = data.load("mnist5k")
    target = facts("first_order")["parameters"]["target_class"]
    digit = digits.x_test[digits.y_test == target][0, 0].numpy()
    changes = {name: pattern(name) / facts(name)["poison"]["eps_linf"] for name in SHOWN}
    return HTML(strengths_html(digit, changes, radii()))
