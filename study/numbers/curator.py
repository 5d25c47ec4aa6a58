"""What a data curator can do: detectors of poison, and mitigations."""

import inspect

import pandas as pd

from pacd import curation
from study import grid, rows
from study.drops import whole
from study.figures.curator import SETTING, mitigation_figure, roc_figure, setting_name
from study.grid import shown
from study.intervals import acr, mean_interval, paired_drop
from study.numbers.shared import load
from study.rows import exist
from study.style import spaced
from study.tables import without_index

EXPERIMENTS = ("curation",)
PROFILE = shown(*EXPERIMENTS)
# What the page says of the strength of detectors and mitigations: a default each.
STRENGTHS = (
    ("neighbours", "k"),
    ("lowpass", "deviation"),
    ("jpeg", "quality"),
    ("black_point", "threshold"),
    ("remove", "share"),
)


def looked_at(profile=PROFILE):
    """The addresses of the detectors' scores, one for each poison."""
    runs = grid.paths(grid.load(profile), *EXPERIMENTS, "curator")
    return [path for path in runs if exist(path)]


def scores(profile=PROFILE):
    """What the detectors say, a line for each poison, detector, data and comparison (DataFrame)."""
    return pd.concat([rows.load(path)[0] for path in looked_at(profile)], ignore_index=True)


def numbers(profile=PROFILE):
    """What the page says (dict of text)."""
    found, victims = scores(profile), load(profile, "curation")
    compared = mitigations(victims)
    return {
        "finders": listed_detectors(found),
        "helped": "; ".join(map(_pair_name, filter(_raises, compared))) or "none",
        "total": str(sum(cell["rise"] is not None for cell in compared)),
        **strengths(),
        "eps": _listed(victims["eps_linf"].dropna(), "{:g}"),
        "classes": _listed(victims["target_class"], "{}"),
        "detectors": str(found["detector"].nunique()),
        "poisons": str(len(looked_at(profile))),
    }


def _listed(values, form):
    return ", ".join(form.format(value) for value in sorted(values.unique()))


def strengths():
    """Defaults of the curator's functions, as text."""
    return {f"{name}_{option}": f"{_default(name, option):g}" for name, option in STRENGTHS}


def _default(name, option):
    return inspect.signature(getattr(curation, name)).parameters[option].default


# ---- detectors ----


def area(scored):
    """AUC with its interval: over images for one poison file, over files where there are more."""
    if len(scored) > 1:
        return mean_interval(scored["auc"])
    return tuple(scored[["auc", "low", "high"]].iloc[0])


def finds(scored):
    """Whether a detector finds a poison.

    Its whole interval lies above 1/2 and above all that it says of the images before poisoning.
    """
    (_, low, _), (_, _, before) = (
        area(scored[scored["data"] == data]) for data in ("poisoned", "clean")
    )
    return low > max(0.5, before)


def listed_detectors(found):
    """Which detectors find a poison, and in how many settings, as text."""
    against_all = found[found["against"] == "all"]
    answers = {}
    for (detector, *_), scored in against_all.groupby(["detector", *SETTING], sort=False):
        answers.setdefault(detector, []).append(finds(scored))
    named = [
        f"{spaced(detector)} (in {sum(found)} of {len(found)} settings)"
        for detector, found in answers.items()
        if any(found)
    ]
    return "; ".join(named) or "none of them"


def roc(profile=PROFILE):
    """ROC curves of the detectors."""
    found = scores(profile)
    return roc_figure(found[(found["data"] == "poisoned") & (found["against"] == "all")])


def detectors_table(profile=PROFILE):
    """AUC of each detector in each setting, and what it finds at few false alarms."""
    groups = scores(profile).groupby([*SETTING, "detector"], sort=False)
    ordered = sorted(groups, key=lambda group: group[0][: len(SETTING)])
    return without_index(pd.DataFrame([_detector(*group) for group in ordered]))


def _detector(key, scored):
    *setting, detector = key
    parts = dict(list(scored.groupby(["data", "against"])))
    found = parts["poisoned", "all"]
    return {
        "poison": setting_name(*setting),
        "detector": spaced(detector),
        "AUC": _area_text(found),
        "before poisoning": _area_text(parts["clean", "all"]),
        "AUC in class": _area_text(parts.get(("poisoned", "class"))),
        "found at 1 %": f"{100 * found['tpr_0.01'].mean():.0f} %",
        "at 5 %": f"{100 * found['tpr_0.05'].mean():.0f} %",
        "seconds": f"{scored['seconds'].mean():.1f}",
    }


def _area_text(scored):
    return "" if scored is None else "{:.2f} [{:.2f}, {:.2f}]".format(*area(scored))


# ---- mitigations ----


def mitigations(victims):
    """What each mitigation does to poisoned victims and to clean ones.

    A list of dicts: the poison's setting, the mitigation, victims of both (DataFrames), and three
    drops (None where they cannot be paired): ``rise`` from no mitigation, ``left`` from clean
    victims without it, ``cost`` of clean victims under it.
    """
    found = []
    poisoned = victims[victims["attack"] != "none"]
    for (attack, fraction, kind), after in poisoned.groupby([*SETTING, "curation"], sort=False):
        cell = _mitigation(victims, attack, fraction, kind, after)
        if cell["left"] is not None and (kind == "none" or cell["rise"] is not None):
            found.append(cell)
    return found


def _mitigation(victims, attack, fraction, kind, after):
    same = (victims["attack"] == attack) & (victims["fraction"] == fraction)
    clean = victims[victims["attack"] == "none"]
    without, clean_without = (
        table[table["curation"] == "none"] for table in (victims[same], clean)
    )
    clean_after = clean[clean["curation"] == kind]
    treated = kind != "none"
    return {
        "setting": setting_name(attack, fraction),
        "mitigation": kind,
        "after": after,
        "clean_after": clean_after,
        "rise": compared(without, after) if treated else None,
        "left": compared(clean_without, after),
        "cost": compared(clean_without, clean_after) if treated else None,
    }


def compared(before, after):
    """:func:`paired_drop` on the seeds that both have; None where they are fewer than two."""
    seeds = set(before["seed"]) & set(after["seed"])
    if len(seeds) < 2:
        return None
    return paired_drop(*(table[table["seed"].isin(seeds)] for table in (before, after)))


def _raises(cell):
    return cell["rise"] is not None and cell["rise"].high < 0


def _pair_name(cell):
    return f"{spaced(cell['mitigation'])} ({cell['setting']} of the class)"


def mitigations_table(profile=PROFILE):
    """ACR of poisoned and clean victims under each mitigation, and the three comparisons."""
    lines = map(_mitigation_line, mitigations(load(profile, "curation")))
    return without_index(pd.DataFrame(lines))


def _mitigation_line(cell):
    clean = cell["clean_after"]
    return {
        "poison": cell["setting"],
        "mitigation": spaced(cell["mitigation"]),
        "ACR, poisoned": f"{acr(cell['after']):.3f}",
        "rise, %": _change_text(cell["rise"], -1),
        "still lost, %": _change_text(cell["left"]),
        "ACR, clean": f"{acr(clean):.3f}" if len(clean) else "not run",
        "cost on clean, %": _change_text(cell["cost"]),
        "seeds": cell["after"]["seed"].nunique(),
    }


def _change_text(drop, sign=1):
    if drop is None:
        return ""
    low, high = sorted((sign * drop.low, sign * drop.high))
    return f"{whole(sign * drop.drop)} [{whole(low)}, {whole(high)}]"


def acrs(profile=PROFILE):
    """ACR of the class by mitigation."""
    return mitigation_figure(load(profile, "curation"))
