"""Three robust trainers at three noise levels."""

from study.drops import drop_table, headline, in_order_of_trainers, verdict
from study.figures.curves import curve_figure, probit_figure
from study.figures.drops import drop_figure
from study.intervals import point_at_cap
from study.numbers.shared import claim, load, predicted_acrs, predicted_drop
from study.predict import predict_acr
from study.statistics import published
from study.tables import show_beyond, show_drops, show_published

PROFILE = "laptop"
EXPERIMENTS = ("trainers", "fidelity")


def drops(profile=PROFILE):
    """The drop in each setting of trainer and noise (DataFrame)."""
    return in_order_of_trainers(drop_table(load(profile, "trainers")))


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows = load(profile, "trainers")
    return {
        "verdict": verdict(profile, "trainers", drops(profile), 0.3),
        "below": below_published(rows),
        **of_low_noise(rows),
    }


def fidelity():
    """The published ACRs and their number of draws (dict)."""
    return claim("fidelity")["options"]


def below_published(rows):
    """Over what range the predicted ACRs of clean victims lie below the published ones."""
    options = fidelity()
    clean = rows[rows["attack"] == "none"].groupby(["trainer", "sigma"])
    found = {
        f"{trainer} {sigma:g}": predict_acr(side, options["n"], resamples=2).predicted_acr
        for (trainer, sigma), side in clean
    }
    under = [1 - found[cell] / acr for cell, acr in options["published"].items()]
    return f"{100 * min(under):.0f} to {100 * max(under):.0f}"


def of_low_noise(rows, trainer="gaussian"):
    """What the cap of n hides at the lowest noise level."""
    rows = rows[(rows["trainer"] == trainer) & (rows["sigma"] == rows["sigma"].min())]
    clean = rows[rows["attack"] == "none"]
    acrs = predicted_acrs(rows, ("none", "first_order"))
    return {
        "low_sigma": f"{rows['sigma'].iloc[0]:g}",
        "capped": f"{100 * point_at_cap(clean).mean():.0f}",
        "drop_low": headline(rows)["drop"],
        "drop_long": predicted_drop(acrs, "first_order"),
    }


# ---- tables and figures ----


def trainers_figure(profile=PROFILE):
    """The drop in each setting."""
    return drop_figure(drops(profile), ["trainer", "sigma"])


def trainers_table(profile=PROFILE):
    """The same in numbers."""
    return show_drops(drops(profile), ["trainer", "sigma"])


def curves(profile=PROFILE):
    """Certified accuracy against radius."""
    return curve_figure(load(profile, "trainers"))


def beyond_table(profile=PROFILE):
    """What the ACR hides."""
    return show_beyond(load(profile, "trainers"))


def probits(profile=PROFILE, sigma=0.5):
    """Distribution of p_A at one noise level."""
    rows = load(profile, "trainers")
    return probit_figure(rows[rows["sigma"] == sigma])


def fidelity_table(profile=PROFILE):
    """Clean victims beside published ones."""
    options = fidelity()
    cells = published(load(profile, "fidelity"), ["trainer", "sigma"], **options)
    return show_published(cells, options["published"])
