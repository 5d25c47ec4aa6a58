"""Tables for readers, and the sentence that says where rows come from."""

import numpy as np
import pandas as pd
from IPython.display import Markdown

from study import grid
from study.drops import fall_of_accuracy, whole
from study.intervals import abstention, paired_bootstrap, pairs, point_at_cap
from study.results import ROOT
from study.rows import exist, manifest_of
from study.style import TRAINER_NAME, column_name, data_name, named_values


def provenance(experiment, profile=None):
    """One sentence: profile, data, how many runs are there, and the command that makes them."""
    profile = profile or grid.shown(experiment)
    rows, missing = grid.rows(profile, experiment)
    planned = len(grid.load(profile).experiments[experiment])
    first = rows.iloc[0]
    data = data_name(first["dataset"], first["train_size"])
    if set(rows.get("normalisation", [])) == {"centred"}:
        data += ", networks that centre pixels"
    draws = f"n = {first['n0']:,} + {rows['n'].max():,}, α = {first['alpha']:g}"
    return Markdown(
        f"*Profile `{profile}` ({data}): {planned - missing} of {planned} runs are there, "
        f"{rows['index'].nunique()} test points, {draws}. "
        f"`make study PROFILE={profile} EXPERIMENT={experiment}` makes them.*"
    )


def without_index(table):
    """A table (DataFrame) as readers see it, without the numbers of its lines."""
    return table.style.hide(axis="index")


def show_drops(table, columns=("trainer", "sigma", "attack")):
    """The cells' names, ACRs, and the drop in per cent with both 95 % intervals."""
    named = {column_name(name): named_values(table[name]) for name in columns}
    numbers = {
        "clean": table["ACR clean"].map("{:.3f}".format),
        "poisoned": table["ACR poisoned"].map("{:.3f}".format),
        "drop, %": table["drop"].map(whole),
        "95 %, victims": _intervals(table, "low_seeds", "high_seeds"),
        "95 %, and points": _intervals(table, "low", "high"),
        "seeds": table["seeds"],
    }
    return without_index(pd.DataFrame(named | numbers))


def _intervals(table, low, high):
    return [f"[{whole(a)}, {whole(b)}]" for a, b in zip(table[low], table[high])]


def show_accuracy(rows):
    """Accuracy of the target class without noise for each trainer, and its fall in points.

    In per cent, mean and standard deviation over victims.
    """
    table = fall_of_accuracy(rows)
    shown = pd.DataFrame({"victim": table["trainer"].map(TRAINER_NAME)})
    for side in ("clean", "poisoned"):
        shown[side] = [
            f"{mean:.1f} ± {spread:.1f}"
            for mean, spread in zip(table[side], table[f"{side}_spread"])
        ]
    shown["fall"] = list(map(points, table.to_dict("records")))
    return without_index(shown.assign(seeds=table["seeds"]))


def points(cell, name="fall"):
    """A number of points with its interval, as text."""
    return f"{cell[name]:.1f} [{cell['low']:.1f}, {cell['high']:.1f}]"


def show_beyond(rows):
    """What the ACR hides, clean and poisoned, for each trainer and noise level.

    Certified accuracy at one sigma, share of points at the cap of n, and abstentions; the first two
    with the bootstrap interval of their fall, victim seeds and test points resampled together.
    """
    rows = rows.assign(far=1.0 * (rows["radius"] >= rows["sigma"]), cap=1.0 * point_at_cap(rows))
    lines = [_beyond(*pair) for pair in pairs(rows, ["trainer", "sigma", "attack"])]
    return without_index(pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(lines[0])))


def _beyond(cell, clean, poisoned):
    line = {("victim", ""): TRAINER_NAME[cell["trainer"]], ("σ", ""): f"{cell['sigma']:g}"}
    for name, column in (("radius ≥ σ, %", "far"), ("at the cap, %", "cap")):
        line[name, "clean"] = f"{100 * clean[column].mean():.0f}"
        line[name, "poisoned"] = f"{100 * poisoned[column].mean():.0f}"
        line[name, "fall"] = _fall_of_share(clean, poisoned, column)
    line["abstains, %", "clean"] = _abstains(clean)
    line["abstains, %", "poisoned"] = _abstains(poisoned)
    return line


def _fall_of_share(clean, poisoned, column):
    fall = paired_bootstrap(clean, poisoned, _difference, column, resamples=1000)
    return f"{100 * fall.value:.0f} [{100 * fall.low:.0f}, {100 * fall.high:.0f}]"


def _difference(clean, poisoned):
    return clean.mean() - poisoned.mean()


def _abstains(rows):
    bound = "≥ " if (rows["n"] == 0).any() else ""  # of stopped points it is not known
    return f"{bound}{100 * abstention(rows):.1f}"


# ---- beside published victims ----


def show_published(cells, published):
    """The published ACR of each trainer and noise level, and how far from it clean victims are.

    Parameters
    ----------
    cells : iterable of study.claims.Cell
        As :func:`study.statistics.published` gives them.
    published : dict
        ACRs (pixel units) by "trainer sigma".
    """
    return without_index(pd.DataFrame([_off(cell, published) for cell in cells]))


def _off(cell, published):
    trainer, sigma = cell.cell.split(", ")
    return {
        "victim": TRAINER_NAME[trainer],
        "σ": sigma,
        "published ACR": f"{published[f'{trainer} {sigma}']:.3f}",
        "off by, %": f"{100 * cell.estimate:.1f}",
        "95 %, victims": f"[{100 * cell.low:.1f}, {100 * cell.high:.1f}]",
        "seeds": cell.seeds,
    }


# ---- what the runs cost ----


def costs(profile):
    """Minutes of every experiment's victims from their manifests, and with those still missing.

    A victim or a poison that several experiments share is counted in the first of them.
    """
    plan = grid.load(profile)
    manifests = _manifests(plan)
    seconds = _mean_seconds(plan, manifests)
    counted, lines = set(), []
    for experiment, runs in plan.experiments.items():
        victims = [run for run in runs if run in plan.victims]
        if not victims:  # an analysis, whose page says what it takes
            continue
        new = [run for run in victims if run not in counted]
        counted.update(new)
        made = {run: manifests[run] for run in new if run in manifests}
        poisons = _poison_seconds(plan, made, counted)
        counted.update(poisons)
        missing = sum(seconds[run] for run in new if run not in manifests)
        lines.append(_cost(experiment, new, made.values(), poisons.values(), missing))
    return pd.DataFrame(lines)


def _manifests(plan):
    paths = {run: ROOT / parameters["rows_file"] for run, parameters in plan.victims.items()}
    return {run: manifest_of(path) for run, path in paths.items() if exist(path)}


def _mean_seconds(plan, manifests):
    """For each victim, the mean of the runs of its trainer that are there; NaN without any."""
    trainer = {run: parameters["trainer"] for run, parameters in plan.victims.items()}
    made = pd.Series({run: facts["seconds"] for run, facts in manifests.items()})
    means = made.groupby(trainer).mean()
    return {run: means.get(name, np.nan) for run, name in trainer.items()}


def _poison_seconds(plan, made, counted):
    """Seconds by poison file, of those that were not counted before."""
    files = {plan.victims[run]["poison_file"]: facts for run, facts in made.items()}
    new = {name: facts for name, facts in files.items() if name and name not in counted}
    return {name: facts.get("poison_seconds", 0) for name, facts in new.items()}


def _cost(experiment, new, made, poisons, missing):
    victims = sum(facts["seconds"] for facts in made)
    return {
        "experiment": experiment,
        "runs": len(made),
        "of": len(new),
        "poisons, min": sum(poisons) / 60,
        "victims, min": victims / 60,
        "all victims, min": (victims + missing) / 60,
        "on": ", ".join(sorted({facts["device"] for facts in made})),
    }
