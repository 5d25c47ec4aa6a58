"""The smoke profile: one class, poisoned and certified."""

from study.drops import drop_table, headline
from study.figures.curves import curve_figure, victims_figure, votes_figure
from study.intervals import abstention
from study.numbers.shared import load, prefixed
from study.tables import show_drops

PROFILE = "smoke"
EXPERIMENTS = ("headline",)


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows = load(profile, "headline")
    return {
        **headline(rows),
        **prefixed("beyond", headline(rows, against="uniform")),
        "abstention_clean": abstained(rows, "none"),
        "abstention_poisoned": abstained(rows, "first_order"),
    }


def abstained(rows, attack):
    """Share of the points at which the certifier abstains, in per cent."""
    return f"{100 * abstention(rows[rows['attack'] == attack]):.1f}"


def drops_table(profile=PROFILE):
    """The drop of the attack and of the control."""
    return show_drops(drop_table(load(profile, "headline")))


def victims(profile=PROFILE):
    """ACR of each victim."""
    return victims_figure(load(profile, "headline"))


def curves(profile=PROFILE):
    """Certified accuracy against radius."""
    return curve_figure(load(profile, "headline"))


def votes(profile=PROFILE):
    """How sure the noisy votes are."""
    return votes_figure(load(profile, "headline"))
