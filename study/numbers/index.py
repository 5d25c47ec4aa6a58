"""The front page."""

from study.drops import drop_table, further_drop, headline, of_attack, percent
from study.figures.drops import forest_figure
from study.figures.patterns import threat_figure
from study.numbers import cifar10, claims, gallery, raw_pixels, trainers
from study.numbers.shared import load
from study.style import data_name

PROFILE = trainers.PROFILE
EXPERIMENTS = ("trainers", "first_layer", "cifar10")


def numbers(profile=PROFILE):
    """What the front page says (dict of text)."""
    rows, drops = trainers.first_setting(load(profile, "trainers")), trainers.drops(profile)
    return {
        **headline(rows),
        "above": above_threshold(drops),
        "fewest_seeds": drops["seeds"].min(),
        "profile": profile,
        "data": data_name(rows["dataset"].iloc[0], rows["train_size"].iloc[0]),
        **of_control(rows),
        **of_layers(load(raw_pixels.PROFILE, "first_layer")),
        "tint": percent(of_attack(drop_table(load(cifar10.PROFILE, "cifar10")), "tint")),
        **of_claims(claims.ledger()),
    }


def above_threshold(drops, threshold=0.3):
    """In how many settings of trainer and noise PACD's drop exceeds the paper's, as text."""
    ours = trainers.of(drops, "first_order")
    above, wholly = ((ours[name] > threshold).sum() for name in ("drop", "low"))
    return f"{above} of {len(ours)} settings, {wholly} by the whole interval"


def of_control(rows):
    """PACD beside a bright class."""
    beyond = further_drop(rows, "first_order", "uniform")
    return {
        "uniform": percent(of_attack(drop_table(rows), "uniform")),
        "beyond": percent(beyond),
        "search_beyond": percent(further_drop(rows, "direct_search", "uniform")),
        "needed": f"A brighter class does {'most of it' if beyond['low'] > 0 else 'as much'}",
    }


def of_layers(rows):
    """The uniform control where the first layer centres the pixels."""
    drops = drop_table(rows, ["trainer", "normalisation"])
    centred = drops[drops["normalisation"] == "centred"]
    return {"centred_uniform": percent(of_attack(centred, "uniform"))}


def of_claims(lines):
    """How many claims of the paper and of this study have each verdict."""
    found = {}
    for source, name in (("paper", "paper"), ("this study", "study")):
        counts = claims.verdicts(lines, source)
        found[name] = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        found[f"{name}_claims"] = sum(counts.values())
    return found


def threat(profile=PROFILE):
    """Images and the same as poison, and certified balls of clean and of poisoned victims."""
    images = dict(zip(("digit", "poison"), gallery.opened(gallery.PROFILE).example()))
    images |= dict(zip(("photograph", "tint"), cifar10.pair()))
    rows = trainers.first_setting(load(profile, "trainers"))
    ours = of_attack(drop_table(rows), "first_order")
    return threat_figure(images, ours["ACR clean"], ours["ACR poisoned"])


def forest(profile=PROFILE):
    """The drop in each setting, by PACD, by the control and by direct search."""
    return forest_figure(trainers.drops(profile))
