"""Victims that regularise, augment or train for longer."""

from study.drops import drop_table, headline, percent
from study.figures.drops import drop_figure
from study.grid import shown
from study.numbers.shared import load
from study.numbers.trainers import first_setting
from study.tables import show_drops

EXPERIMENTS = ("defences", "augmented", "trainers")
PROFILE = shown(*EXPERIMENTS)
TRAINING = ["weight_decay", "augmentation", "epochs"]


def drops(profile=PROFILE):
    """The drop for each way of training (DataFrame)."""
    return drop_table(load(profile, "defences"), ["trainer", *TRAINING])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    table = drops(profile)
    decays, crops = table["weight_decay"] > 0, table["augmentation"] == "crop"
    neither = table[~decays & ~crops].sort_values("epochs")
    plain, longer = neither.iloc[0], neither.iloc[1:]
    return {
        "decay": percent(table[decays].iloc[0]),
        "crops": percent(table[crops].iloc[0]),
        "longer": " and ".join(_after(cell) for _, cell in longer.iterrows()),
        "plain": _after(plain),
        "usual": headline(first_setting(load(profile, "trainers")))["drop"],
        **of_augmented(drop_table(load(profile, "augmented"), ["trainer"])),
    }


def of_augmented(table):
    """The drop where victims train on the worst of several augmentations."""
    (cell,) = table.to_dict("records")
    return {"augmented": percent(cell), "augmented_clean": f"{cell['ACR clean']:.2f}"}


def _after(cell):
    return f"{percent(cell)} after {cell['epochs']}"


def training_figure(profile=PROFILE):
    """The drop for each way of training."""
    return drop_figure(drops(profile), TRAINING)


def training_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), TRAINING)
