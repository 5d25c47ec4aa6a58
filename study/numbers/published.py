"""Clean victims beside published ones."""

from functools import cache

from study.grid import shown
from study.numbers.shared import claim, load
from study.statistics import published
from study.tables import show_published

EXPERIMENTS = ("fidelity",)
PROFILE = shown(*EXPERIMENTS)


@cache
def cells(profile=PROFILE):
    """How far each clean ACR is from the published one (list of Cell)."""
    options = claim("fidelity")["options"]
    return list(published(load(profile, "fidelity"), ["trainer", "sigma"], **options))


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    found, rule = cells(profile), claim("fidelity")
    near = [cell for cell in found if rule["above"] < cell.low and cell.high < rule["below"]]
    worst = max(found, key=lambda cell: abs(cell.estimate))
    return {
        "near": f"{len(near)} of {len(found)}",
        "margin": f"{100 * rule['below']:g}",
        "worst": f"{100 * worst.estimate:.0f}",
    }


def fidelity_table(profile=PROFILE):
    """The same in numbers."""
    return show_published(cells(profile), claim("fidelity")["options"]["published"])
