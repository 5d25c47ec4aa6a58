"""CIFAR-10."""

from types import SimpleNamespace

import torch
from matplotlib.colors import to_rgb

from pacd.attack import project
from pacd.controls import tint
from study.distortion import colour_difference
from study.drops import drop_table, verdict
from study.figures.curves import curve_figure
from study.figures.drops import drop_figure
from study.figures.patterns import swatches_figure
from study.numbers.shared import load
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("cifar10",)
# On which the tint is shown, as the data may not be published with the study.
COLOURS = {
    "sky": "skyblue",
    "sea": "steelblue",
    "ship": "dimgrey",
    "skin": "tan",
    "grass": "olivedrab",
    "black": "black",
}


def drops(profile=PROFILE):
    """The drop of each attack (DataFrame)."""
    return drop_table(load(profile, "cifar10"), ["trainer", "attack"])


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows, table = load(profile, "cifar10"), drops(profile)
    clean = rows[rows["attack"] == "none"]
    return {
        "verdict": verdict(profile, "cifar10", table[table["attack"] == "tint"], 0.3),
        "accuracy_none": f"{100 * clean['accuracy_all'].mean():.0f}",
        **of_length(rows[rows["attack"] == "tint"]),
        **of_class(rows),
        **under_noise(rows),
    }


def of_length(poisoned):
    """How far the tint is from the originals (dict of text)."""
    means = poisoned[["ciede2000", "psnr", "ssim"]].mean()
    forms = {"ciede2000": ".1f", "psnr": ".0f", "ssim": ".2f"}
    return {name: format(means[name], form) for name, form in forms.items()}


def of_class(rows):
    """Accuracy of the target class without noise under each attack, in whole per cent."""
    accuracy = rows.groupby("attack")["accuracy_target"].mean()
    return {f"target_{attack}": f"{100 * share:.0f}" for attack, share in accuracy.items()}


def under_noise(rows):
    """Share of points whose noisy copies are mostly named right under each attack, likewise."""
    right = (rows["guess"] == rows["label"]).groupby(rows["attack"]).mean()
    return {f"noisy_{attack}": f"{100 * share:.0f}" for attack, share in right.items()}


def attacks_figure(profile=PROFILE):
    """The drop of each attack."""
    return drop_figure(drops(profile), ["attack"])


def attacks_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["attack"])


def curves(profile=PROFILE):
    """Certified accuracy against radius."""
    return curve_figure(load(profile, "cifar10"))


def colours(profile=PROFILE):
    """What the tint makes of some colours, at the size that the rows have."""
    rows = load(profile, "cifar10")
    eps = rows.loc[rows["attack"] == "tint", "eps_linf"].iloc[0]
    before = torch.tensor([to_rgb(colour) for colour in COLOURS.values()]).view(-1, 3, 1, 1)
    images = SimpleNamespace(shape=before.shape[1:], x_train=before)
    after = project(before + tint(images, None, eps, None), before, eps)
    pairs = dict(zip(COLOURS, zip(before.split(1), after.split(1))))
    differences = {name: colour_difference(*pair) for name, pair in pairs.items()}
    return swatches_figure(before.flatten(1), after.flatten(1), differences)
