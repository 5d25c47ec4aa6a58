"""CIFAR-10."""

from types import SimpleNamespace

import skimage  # its parts load at first use
import torch
from IPython.display import HTML

from pacd.controls import tint
from study.drops import drop_table, verdict
from study.figures.curves import curve_figure
from study.figures.drops import drop_figure
from study.figures.strengths import strengths_html
from study.intervals import by_seed
from study.numbers.shared import load
from study.tables import show_drops

PROFILE = "laptop"
EXPERIMENTS = ("cifar10",)


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


def photograph():
    """A cat of the images' size, (32, 32, 3); theirs may not be published with the study."""
    return skimage.transform.resize(skimage.data.chelsea()[:, 60:360], (32, 32), anti_aliasing=True)


def colour():
    """The tint's change for each unit of strength, (3,)."""
    one = SimpleNamespace(shape=(3, 1, 1), x_train=torch.zeros(1, 3, 1, 1))
    return tint(one, None, 1.0, None).flatten().numpy()


def pair(profile=PROFILE):
    """The photograph, and the same with the tint of the rows, arrays (32, 32, 3)."""
    eps = load(profile, "cifar10").set_index("attack")["eps_linf"]["tint"].iloc[0]
    return photograph(), (photograph() + eps * colour()).clip(0, 1)


def strengths_figure(profile=PROFILE):
    """A photograph, the same with the tint, and the certified radii of both sides' victims."""
    rows = load(profile, "cifar10")
    shown = rows[rows["attack"].isin(("none", "tint"))]
    sides = shown.groupby(["attack", shown["eps_linf"].fillna(0)])
    radii = {side: by_seed(of_side) for side, of_side in sides}
    return HTML(strengths_html(photograph(), {"tint": colour()}, radii))
