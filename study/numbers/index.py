"""The front page."""

from study.drops import drop_table, further_drop, headline, of_attack, percent, strongest_control
from study.figures.curves import curve_figure
from study.numbers import claims
from study.numbers.shared import accuracies, load
from study.style import control_name

PROFILE = "laptop"
EXPERIMENTS = ("ladder", "raw_trainers", "first_layer")


def numbers(profile=PROFILE):
    """What the front page says (dict of text)."""
    rows = load(profile, "ladder")
    return {
        **headline(rows),
        **accuracies(rows, "first_order"),
        "train_size": f"{rows['train_size'].iloc[0]:,.0f}",
        **of_ladder(rows),
        **of_trainers(load(profile, "raw_trainers")),
        **of_layers(load(profile, "first_layer")),
        **of_claims(claims.ledger()),
    }


def of_ladder(rows):
    """PACD beside its controls."""
    drops = drop_table(rows, ["trainer", "crafting_trainer"])
    best = strongest_control(drops)
    beyond = further_drop(rows, "first_order", best)
    return {
        "best": control_name(best),
        "control": percent(of_attack(drops, best)),
        "beyond": percent(beyond),
        "search_beyond": percent(further_drop(rows, "direct_search", best)),
        "needed": "Most of that needs no"
        if beyond["low"] > 0
        else "None of that was shown to need",
    }


def of_trainers(rows):
    """The other robust trainers under the poison made against Gaussian augmentation."""
    drops = drop_table(rows, ["trainer"]).set_index("trainer")
    found = {name: percent(drops.loc[name]) for name in ("smoothadv", "macer")}
    return found | {"others_seeds": str(drops["seeds"].max())}


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


def curves(profile=PROFILE):
    """Clean victims, those of PACD and those of the uniform control."""
    rows = load(profile, "ladder")
    return curve_figure(rows[rows["attack"].isin(["none", "uniform", "first_order"])])
