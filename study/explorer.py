"""The page on which a reader compares any two cells of a profile.

Rows become compact data here, `book/explorer.js` computes and `book/explorer_page.js` draws.
"""

import json
import re

import numpy as np
import pandas as pd
from IPython.display import HTML

from pacd.counts import STOPPED, wins
from study import frames
from study.grid import NOTEBOOK_DEFAULTS
from study.intervals import SAME
from study.results import ROOT
from study.style import TRAINER_COLOUR, TRAINER_NAME, attack_name, column_name, data_name, spaced

PROFILES = ("laptop",)  # never two of them in one comparison
SCRIPTS = ("explorer.js", "explorer_page.js")
PIXELS = {"none": "raw pixels", "centred": "centred pixels", "mnist": "pixels scaled for MNIST"}
USUAL = "as usual"
# What is named only where it is not a notebook's default.
OF_VICTIM = ("epochs", "batch", "lr", "schedule", "optimizer", "weight_decay", "augmentation")
OF_VICTIM += ("training_precision", "curation", "eight_bit")
OF_POISON = ("eps_linf", "fraction")
# What the sides of a paired drop must share; draws and alpha are chosen on the page.
ALIKE = [name for name in SAME if name not in ("alpha", "n_asked", "radii")]
UNLIKE = "{} must be the same for every victim of {}."
TWICE = "{} must hold each victim seed once: what else differs belongs in study.explorer.CHOICES."


# ---- what a reader chooses ----


def _dataset(run):
    return f"{data_name(run['dataset'], run['train_size'])}, class {run['target_class']}"


def _settings(run):
    return ", ".join(_unusual(run, OF_VICTIM, NOTEBOOK_DEFAULTS["victim"])) or USUAL


def _attack(run):
    parts = [attack_name(run["attack"])]
    if run["attack"] != "none":
        # The name of the attack on accuracy says against whom it is.
        if run["attack"] != "accuracy" and run["crafting_trainer"] != run["trainer"]:
            parts.append(f"made against {TRAINER_NAME[run['crafting_trainer']]}")
        if run["crafting_architecture"] != run["architecture"]:
            parts.append(f"made on {run['crafting_architecture']}")
        if run["poison_seed"]:
            parts.append(f"seed {run['poison_seed']:g}")
        parts += _unusual(run, OF_POISON, NOTEBOOK_DEFAULTS["poison"])
    return ", ".join(parts)


def _unusual(run, names, defaults):
    """What differs from the defaults; rows from before a parameter have none of it."""
    given = {name: run[name] for name in names if pd.notna(run.get(name))}
    return [f"{column_name(k)} {value}" for k, value in given.items() if value != defaults[k]]


CHOICES = {
    "dataset": ("Data set", _dataset),
    "trainer": ("Trainer", lambda run: TRAINER_NAME[run["trainer"]]),
    "sigma": ("Noise", lambda run: f"σ = {run['sigma']:g}"),
    "network": ("Network", lambda run: f"{run['architecture']}, {PIXELS[run['normalisation']]}"),
    "settings": ("Settings", _settings),
    "attack": ("Attack", _attack),
}
FIELDS = {"experiment": "Experiment", **{name: title for name, (title, _) in CHOICES.items()}}


def choice(run, experiment):
    """How readers know the cell of a run in an experiment: a text for each of ``FIELDS`` (list)."""
    return [spaced(experiment), *(text(run) for _, text in CHOICES.values())]


def in_address(text):
    """A choice as a link holds it: letters, digits, dots and hyphens."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


# ---- the data ----


def compact(tables):
    """What the page needs of rows: every profile's cells, and how choices read (dict).

    A profile lists its ``victims`` once, with ``codes`` that are short where most draws are won:
    n - k for a right guess with k of n draws, -1 - (n - k) for a wrong one, None where a wrong
    guess was stopped. A cell names its victims. Rows that were looked at several times, or hold
    the randomised bound, are left out: the page takes Clopper and Pearson's at one look.

    Parameters
    ----------
    tables : dict
        Rows as :func:`study.frames.rows` returns them, by profile.

    Raises
    ------
    ValueError
        If victims of one cell differ in their test points or in how they were certified, or one
        victim seed is there twice.
    """
    names = {field: {} for field in FIELDS}
    profiles = {profile: _profile(rows, names) for profile, rows in tables.items()}
    return {"profiles": profiles, "names": names}


def _profile(rows, names):
    rows = rows[rows.filter(["looks", "u"]).fillna(1).eq(1).all(axis=1)]
    points, victims, cells = {}, [], {}
    for number, (_, table) in enumerate(rows.groupby(["run", "seed"], sort=False)):
        run = table.iloc[0]
        place = points.setdefault(tuple(table["index"].tolist()), len(points))
        victims.append({"seed": int(run["seed"]), "points": place, "codes": _codes(table)})
        facts = {name: run[name] for name in ("seed", "noise_seed", "alpha", *ALIKE)}
        facts |= {"victim": number, "test points": place, "n": table["n"].max()}
        for experiment in run["experiments"].split(", "):
            cells.setdefault(_key(choice(run, experiment), names), []).append(facts)
    found = [_cell(key, pd.DataFrame(facts), rows["n"].max()) for key, facts in cells.items()]
    return {"points": list(points), "victims": victims, "cells": found}


def _codes(table):
    lost = table["n"] - wins(table)
    codes = np.where(table["guess"] == table["label"], lost, -1 - lost)
    stopped = table["prediction"] == STOPPED
    return [None if gone else int(code) for gone, code in zip(stopped, codes)]


def _key(texts, names):
    key = tuple(map(in_address, texts))
    for known, part, text in zip(names.values(), key, texts):
        known[part] = text
    return key


def _cell(key, victims, most):
    """A cell of victims (DataFrame), which must differ in their seed alone."""
    if victims["seed"].duplicated().any():
        raise ValueError(TWICE.format(" / ".join(key)))
    drawn = victims["n"][victims["n"] > 0]
    # Where every guess was wrong and stopped, no draws are there and any n is right.
    columns = {"n": drawn if len(drawn) else pd.Series([most])}
    columns |= {name: victims[name] for name in ("test points", "sigma", "alpha", "noise_seed")}
    for name, column in columns.items():
        if column.nunique() != 1:
            raise ValueError(UNLIKE.format(name, " / ".join(key)))
    numbers = {name: column.iloc[0].item() for name, column in columns.items()}
    same = {name: " and ".join(sorted(set(map(str, victims[name])))) for name in ALIKE}
    return {"key": key, "victims": victims["victim"].tolist(), "same": same, **numbers}


# ---- the page ----


def figure():
    """The figure with all rows of the profiles."""
    return HTML(html({profile: frames.rows(profile) for profile in PROFILES}))


def html(tables):
    """The figure of rows by profile; it asks for no network and no kernel."""
    scripts = [(ROOT / "book" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    colours = {in_address(TRAINER_NAME[name]): colour for name, colour in TRAINER_COLOUR.items()}
    profiles = "".join(f"<option>{profile}</option>" for profile in tables)
    parts = {
        "PROFILES": profiles,
        "CHOICES": "".join(map(_choices, "ab")),
        "NUMBERS": "".join(_number(name, text) for name, text in NUMBERS.items()),
        "DATA": json.dumps({**compact(tables), "colours": colours}, separators=(",", ":")),
        "SCRIPT": "".join(scripts),
    }
    page = FIGURE
    for name, part in parts.items():
        page = page.replace(f"@{name}@", part)
    return page


NUMBERS = {
    "alpha": "Failure probability α",
    "n": "Draws a point, n",
    "radius": "Radius (pixel units, L2)",
}


def _choices(side):
    selects = (
        f'<label for="explorer-{side}-{name}">{title}</label>'
        f'<select id="explorer-{side}-{name}"></select>'
        for name, title in FIELDS.items()
    )
    legend = f"<legend>{side.upper()}</legend>"
    return f'<fieldset id="explorer-{side}">{legend}{"".join(selects)}</fieldset>'


def _number(name, text):
    field = f'id="explorer-{name}" inputmode="decimal" size="8" autocomplete="off"'
    slider = f'id="explorer-{name}-slider" type="range" step="1" aria-label="{text}, slider"'
    label = f'<label for="explorer-{name}">{text}</label>'
    return f"<div>{label} <input {field}><input {slider}></div>"


FIGURE = """<style>
#explorer fieldset {
  border: 1px solid #949494; border-radius: 4px; padding: 0.2em 0.8em 0.6em; margin: 0;
  min-width: 0; display: grid; grid-template-columns: max-content minmax(0, 1fr);
  gap: 0.3em 0.8em; align-items: center;
}
#explorer legend {
  float: none; width: auto; font-size: 1em; font-weight: bold; margin: 0; padding: 0 0.3em;
}
#explorer select, #explorer input:not([type="range"]) {
  color: #222; background: #fff; border: 1px solid #767676; border-radius: 3px; padding: 0.2em;
  max-width: 100%;
}
#explorer input[type="range"] { width: 100%; }
#explorer .across {
  display: grid; gap: 0.8em 1.5em; margin: 0.8em 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr));
}
#explorer .numbers {
  align-items: end; grid-template-columns: repeat(auto-fit, minmax(min(100%, 180px), 1fr));
}
#explorer table {
  width: 100%; margin: 0.8em 0; border-collapse: collapse; font-size: 0.93em;
  font-variant-numeric: tabular-nums;
}
#explorer th, #explorer td {
  padding: 0.25em 0.4em; text-align: right; vertical-align: bottom; border-bottom: 1px solid #ccc;
}
#explorer tr > :first-child { text-align: left; }
#explorer th { font-weight: normal; }
#explorer small { white-space: nowrap; }
#explorer svg { display: block; width: 100%; height: auto; background: #fff; }
#explorer svg.swatch { display: inline-block; width: 34px; height: 10px; }
</style>
<div id="explorer" role="group" aria-label="Compare two cells from the counts">
<p><label for="explorer-profile">Profile</label>
<select id="explorer-profile">@PROFILES@</select></p>
<p id="explorer-fault" role="alert"></p>
<div class="across">@CHOICES@</div>
<div class="across numbers">@NUMBERS@</div>
<table><thead><tr><th scope="col">Cell</th>
<th scope="col">ACR</th><th scope="col">ACR in the rows</th>
<th scope="col">certified at <span id="explorer-at"></span></th>
<th scope="col">abstains</th></tr></thead>
<tbody id="explorer-numbers"></tbody></table>
<p id="explorer-drop" role="status"></p>
<div class="across">
<svg id="explorer-curve" role="img"></svg><svg id="explorer-share" role="img"></svg>
</div>
<p id="explorer-about" style="white-space:pre-line"></p>
<noscript>This figure needs JavaScript; the numbers of the rows stand on the other pages.</noscript>
<script type="application/json" id="explorer-data">@DATA@</script>
<script>@SCRIPT@</script>
</div>"""
