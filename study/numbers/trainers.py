"""Three robust trainers at three noise levels."""

from study.drops import drop_table, headline, in_order_of_trainers, verdict
from study.figures.curves import curve_figure, probit_figure
from study.figures.drops import drop_figure
from study.intervals import mean_interval, point_at_cap
from study.numbers.shared import claim, load, predicted_acrs, predicted_drop
from study.predict import predict_acr
from study.statistics import published
from study.tables import show_beyond, show_drops, show_published

PROFILE = "laptop"
EXPERIMENTS = ("trainers", "fidelity", "longer")
# A setting of SmoothAdv or MACER: trainer, epochs and noise draws. What is asked is what the first
# of a pair gains over the second.
GAINS = {
    "smoothadv": (("smoothadv", 40, "4"), ("smoothadv", 10, "1")),
    "epochs": (("macer", 40, "4"), ("macer", 10, "4")),
    "draws": (("macer", 10, "16"), ("macer", 10, "4")),
}


def drops(profile=PROFILE):
    """The drop in each setting of trainer and noise (DataFrame)."""
    return in_order_of_trainers(drop_table(load(profile, "trainers")))


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    rows = load(profile, "trainers")
    longer = relative_acrs(load(profile, "longer"))
    return {
        "verdict": verdict(profile, "trainers", drops(profile), 0.3),
        "below": below_published(rows),
        **of_low_noise(rows),
        **of_longer(longer),
        **of_gains(longer),
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


def of_longer(acrs):
    """How far longer trained victims are from the published ones, in per cent."""
    found = {}
    for setting in dict.fromkeys(victim[:-1] for victim in acrs):
        off = [100 * (acr - 1) for victim, acr in acrs.items() if victim[:-1] == setting]
        name = "_".join(map(str, setting))
        found[f"off_{name}"] = _one_decimal(*mean_interval(off))
    return found


def _draws(options):
    """The number of draws in the text of a trainer's options, "draws = 4"."""
    return options.split()[-1]


def _one_decimal(value, low, high):
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def of_gains(acrs):
    """What more epochs or draws gain, in per cent of the published ACR, paired by seed."""
    found = {}
    for name, (more, base) in GAINS.items():
        seeds = [seed for *setting, seed in acrs if tuple(setting) == more]
        gains = [100 * (acrs[*more, seed] - acrs[*base, seed]) for seed in seeds]
        found[f"gain_{name}"] = _one_decimal(*mean_interval(gains))
    return found


def relative_acrs(rows):
    """Predicted over published ACR of each victim, by trainer, epochs, draws and seed (dict)."""
    options = fidelity()
    found = {}
    by = ["trainer", "sigma", "epochs", "trainer_options", "seed"]
    for (trainer, sigma, epochs, text, seed), victim in rows.groupby(by):
        acr = predict_acr(victim, options["n"], resamples=2).predicted_acr
        published_acr = options["published"][f"{trainer} {sigma:g}"]
        found[trainer, epochs, _draws(text), seed] = acr / published_acr
    return found


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
    return _published_table(load(profile, "fidelity"))


def longer_table(profile=PROFILE):
    """The same with more training."""
    return _published_table(load(profile, "longer"), "epochs", "trainer_options")


def _published_table(rows, *more):
    options = fidelity()
    cells = published(rows, ["trainer", "sigma", *more], **options)
    return show_published(cells, options["published"], *more)
