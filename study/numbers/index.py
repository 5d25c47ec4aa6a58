"""The front page."""

from study.drops import (
    above_zero,
    drop_table,
    further_drop,
    headline,
    of_attack,
    percent,
    strongest_control,
    whole,
)
from study.figures.curves import curve_figure
from study.numbers import claims
from study.numbers.shared import CHOSEN_CLASS, accuracies, load, prefixed
from study.style import control_name

PROFILE = "laptop"
EXPERIMENTS = (
    "ladder",
    "trainers",
    "transfer",
    "curation",
    "eps",
    "fraction",
    "defences",
    "schedule",
    "classes",
    "architectures",
    "raw_pixels",
    "raw_trainers",
)


def numbers(profile=PROFILE):
    """What the front page says (dict of text)."""
    rows = load(profile, "ladder")
    return {
        **headline(rows),
        **of_rows(rows),
        **of_ladder(rows),
        **of_trainers(load(profile, "trainers"), rows["sigma"].iloc[0]),
        **of_transfer(load(profile, "transfer")),
        **of_curation(load(profile, "curation")),
        **of_sizes(load(profile, "eps"), load(profile, "fraction")),
        **of_training(load(profile, "defences"), load(profile, "schedule")),
        **of_classes(load(profile, "classes")),
        **of_networks(load(profile, "architectures")),
        **of_raw_pixels(load(profile, "raw_pixels"), load(profile, "raw_trainers")),
        **of_claims(claims.ledger()),
    }


def of_rows(rows):
    """What clean victims and those of PACD are like."""
    poisoned = rows[rows["attack"] == "first_order"]
    return {
        **accuracies(rows, "first_order"),
        **_certified(rows[rows["attack"] == "none"], "clean"),
        **_certified(poisoned, "poisoned"),
        "ssim": f"{poisoned['ssim'].mean():.2f}",
        "train_size": f"{rows['train_size'].iloc[0]:,.0f}",
    }


def _certified(rows, side):
    right = rows["radius"] > 0
    return {
        f"certified_{side}": f"{100 * right.mean():.0f}",
        f"radius_{side}": f"{rows.loc[right, 'radius'].mean():.2f}",
    }


def of_ladder(rows):
    """PACD beside its controls."""
    drops = drop_table(rows, ["trainer", "crafting_trainer"])
    best = strongest_control(drops)
    more = further_drop(rows, "first_order", best)["low"] > 0
    return {
        "best": control_name(best),
        **prefixed("uniform", headline(rows, "uniform")),
        **prefixed("control", headline(rows, best)),
        **prefixed("beyond", headline(rows, against=best)),
        "cg": percent(of_attack(drops, "cg")),
        "search": percent(of_attack(drops, "direct_search")),
        "search_control": percent(further_drop(rows, "direct_search", best)),
        "needed": "Most of that needs no" if more else "None of that was shown to need a",
    }


def of_trainers(rows, sigma):
    """The other robust trainers, each with a poison made against it."""
    rows = rows[rows["sigma"] == sigma]
    return {
        name: in_one(headline(rows[rows["trainer"] == name])) for name in ("smoothadv", "macer")
    }


def in_one(numbers):
    """Drop and interval of a headline, as one text."""
    return "{drop} % [{low}, {high}]".format(**numbers)


def of_transfer(rows):
    """In how many pairs of crafting and other trainer the ACR falls."""
    drops = drop_table(rows, ["crafting_trainer", "trainer"])
    others = drops[drops["crafting_trainer"] != drops["trainer"]]
    return {"crossed": above_zero(others)}


def of_curation(rows):
    """Without a filter and with the one that is chosen with the attack in mind."""
    whole_class = rows[rows["fraction"].fillna(1) == 1]
    found = {}
    for kind in ("none", "black_point"):
        cell = headline(whole_class[whole_class["curation"] == kind])
        found[f"drop_{kind}"] = cell["drop"]
        found[f"interval_{kind}"] = "[{low}, {high}]".format(**cell)
    return found


def of_sizes(sizes, shares):
    """The smallest and the largest change, and half of the class."""
    drops = drop_table(sizes, ["eps_linf"])
    drops = drops[drops["attack"] == "first_order"].sort_values("eps_linf")
    half = drop_table(shares, ["fraction"]).query("fraction == 0.5").iloc[0]
    found = {"half": percent(half)}
    for name, cell in (("least", drops.iloc[0]), ("most", drops.iloc[-1])):
        found[f"{name}_eps"] = f"{cell['eps_linf']:g}"
        found[f"{name}_drop"] = percent(cell)
    return found


def of_training(defences, schedule):
    """Victims that train for longest, and victims with a constant step size."""
    plain = defences[(defences["weight_decay"] == 0) & (defences["augmentation"] == "none")]
    longest = drop_table(plain, ["epochs"]).sort_values("epochs").iloc[-1]
    return {
        "long_epochs": longest["epochs"],
        "long_drop": percent(longest),
        "step_drop": in_one(headline(schedule, "first_order")),
        "step_uniform": in_one(headline(schedule, "uniform")),
        "step_search": in_one(headline(schedule, "direct_search")),
    }


def of_classes(rows):
    """The classes on which no setting was chosen."""
    drops = drop_table(rows, ["target_class"])
    others = drops.loc[drops["target_class"] != CHOSEN_CLASS, "drop"]
    least, most, mean = map(whole, (others.min(), others.max(), others.mean()))
    return {"classes": f"{least} to {most} %, {mean} % on average"}


def of_networks(rows):
    """Victims with another network than the one the poison was made on."""
    drops = drop_table(rows, ["architecture"]).set_index("architecture")
    return {network: percent(drops.loc[network]) for network in ("mlp", "cnn")}


def of_raw_pixels(rows, others):
    """Victims that take pixels as they are."""
    drops = drop_table(rows, ["trainer", "crafting_trainer"])
    best = strongest_control(drops)
    trainers = drop_table(others, ["trainer"]).set_index("trainer")
    return {
        "raw_best": control_name(best),
        "raw_control": percent(of_attack(drops, best)),
        "raw_first_order": percent(of_attack(drops, "first_order")),
        "raw_direct_search": percent(of_attack(drops, "direct_search")),
        "raw_beyond": percent(further_drop(rows, "direct_search", best)),
        "raw_smoothadv": percent(trainers.loc["smoothadv"]),
        "raw_macer": percent(trainers.loc["macer"]),
    }


def of_claims(lines):
    """How many claims of the paper and of this study have each verdict."""
    found = {}
    for source, name in (("paper", "paper"), ("this study", "study")):
        counts = claims.verdicts(lines, source)
        found[name] = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        found[f"{name}_claims"] = sum(counts.values())
    return found


def curves(profile=PROFILE):
    """Clean victims, those of PACD and those of the uniform control."""
    rows = load(profile, "ladder")
    return curve_figure(rows[rows["attack"].isin(["none", "uniform", "first_order"])])
