"""Poison made against standard training, the paper's table 1."""

from study.drops import drop_table, fall_of_accuracy, verdict
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import claim, load
from study.style import TRAINER_NAME
from study.tables import points, show_accuracy, show_drops

EXPERIMENTS = ("table1",)
PROFILE = shown(*EXPERIMENTS)


def robust_drops(profile=PROFILE):
    """The drop of the ACR of each robust trainer (DataFrame)."""
    rows = load(profile, "table1")
    return drop_table(rows[rows["trainer"] != "standard"])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    falls = fall_of_accuracy(load(profile, "table1")).to_dict("records")
    (standard,) = [cell for cell in falls if cell["trainer"] == "standard"]
    return {
        "premise": premise(standard),
        "verdict": verdict(profile, "table1", robust_drops(profile), 0.1, "below"),
        **{TRAINER_NAME[cell["trainer"]]: points(cell) for cell in falls},
    }


def premise(cell):
    """Whether a fall of accuracy, in points, is the ruin that the claim speaks of."""
    ruined = 100 * claim("table1-standard")["above"]
    if cell["low"] > ruined:
        return "standard training is ruined here too"
    if cell["high"] < ruined:
        return "here the premise fails, as standard training is not ruined"
    return "whether standard training is ruined here stays open"


def accuracy_table(profile=PROFILE):
    """Accuracy of the class without noise."""
    return show_accuracy(load(profile, "table1"))


def robust_figure(profile=PROFILE):
    """The drop of the ACR of each robust trainer."""
    return drop_figure(robust_drops(profile), ["trainer"], threshold=None)


def robust_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(robust_drops(profile), ["trainer"])
