"""How much poison, and in how many bits; and in how many bits victims train."""

from study.drops import drop_table, percent, whole
from study.figures.drops import sweep_figure
from study.grid import shown
from study.numbers.shared import load
from study.statistics import rounding
from study.tables import show_drops

EXPERIMENTS = ("eps", "fraction", "rounding", "training_precision")
PROFILE = shown(*EXPERIMENTS)


def sizes(profile=None):
    """The drop for each size of the change (DataFrame)."""
    drops = drop_table(load(profile or shown("eps"), "eps"), ["trainer", "eps_linf"])
    return drops.sort_values(["attack", "eps_linf"], ignore_index=True)


def shares(profile=None):
    """The drop for each share of the class (DataFrame)."""
    return drop_table(load(profile or shown("fraction"), "fraction"), ["trainer", "fraction"])


def precisions(profile=None):
    """The drop for each precision of training (DataFrame)."""
    return drop_table(
        load(profile or shown("training_precision"), "training_precision"),
        ["trainer", "training_precision"],
    )


def numbers():
    """What the page says (dict of text); each experiment is of the profile that has it."""
    return {
        "eps": listed(sizes(), "eps_linf"),
        "half": percent(shares().set_index("fraction").loc[0.5]),
        **of_rounding(load(shown("rounding"), "rounding")),
        **of_training(precisions()),
    }


def listed(drops, column):
    """PACD's drop at each value of a swept parameter, as one text."""
    ours = drops[drops["attack"] == "first_order"].sort_values(column)
    return "; ".join(f"{cell[column]:g}: {percent(cell)}" for _, cell in ours.iterrows())


def of_rounding(rows):
    """The ACR of the 8-bit poison's victims over that of the float poison's, in per cent."""
    cell = next(rounding(rows, ["trainer"]))
    ends = ("estimate", "low", "high")
    return {f"rounding_{name}": whole(getattr(cell, name)) for name in ends}


def of_training(drops):
    """Clean ACR and the uniform control's drop for each precision of training.

    Its poison is the same to the bit on any processor, so the victims alone differ.
    """
    uniform = drops[drops["attack"] == "uniform"].set_index("training_precision")
    clean = {f"acr_{name}": f"{acr:.3f}" for name, acr in uniform["ACR clean"].items()}
    return clean | {f"drop_{name}": percent(cell) for name, cell in uniform.iterrows()}


def sizes_figure():
    """The drop against eps."""
    return sweep_figure(sizes(), "eps_linf", "eps (L-inf, pixel units)")


def sizes_table():
    """The same in numbers."""
    return show_drops(sizes(), ["eps_linf", "attack"])


def shares_figure():
    """The drop against the share of the class."""
    return sweep_figure(shares(), "fraction", "share of the target class that is poisoned")


def shares_table():
    """The same in numbers."""
    return show_drops(shares(), ["fraction"])


def precisions_table():
    """What the precision of training changes, in numbers."""
    return show_drops(precisions(), ["training_precision", "attack"])
