"""The figure in which a reader certifies again.

Rows become compact data here, `book/recertify.js` computes and `book/recertify_page.js` draws.
"""

import json

import numpy as np
import pandas as pd

from pacd.counts import STOPPED, wins
from study.results import ROOT
from study.style import TRAINER_COLOUR, TRAINER_NAME, attack_name, line_style

KEY = ["trainer", "sigma", "attack"]
DASH = {"-": "none", "--": "7 4", ":": "2 3"}  # SVG's for line styles
SCRIPTS = ("recertify.js", "recertify_page.js")
ONE_LOOK = "{} must be 1 in the rows of {}: the page takes Clopper and Pearson's bound at one look."
ONE_NUMBER = "{} must be one number in the rows of {}, not {}."
MIXED = (
    "rows must hold each test point once a victim seed, but those of {} mix several experiments."
)
UNEVEN = "rows must hold the same test points for every victim seed, but those of {} do not."


def compact(rows):
    """What the page needs of rows: the cells, and how trainers and attacks look (dict).

    A cell is a trainer, sigma and attack. Its ``codes``, (seeds, points), are short where most
    draws are won: n - k for a right guess with k of n draws, -1 - (n - k) for a wrong one, None
    where a wrong guess was stopped.

    Raises
    ------
    ValueError
        If a cell is not one table of seeds and points, or its draws, alpha or noise seed are not
        one number.
    """
    groups = rows.groupby(KEY, sort=False)
    return {
        "cells": [
            dict(zip(KEY, key)) | _cell(table, key, rows["n"].max()) for key, table in groups
        ],
        "trainers": {name: _trainer(name) for name in rows["trainer"].unique()},
        "attacks": {name: _attack(name) for name in rows["attack"].unique()},
    }


def _trainer(name):
    return {"name": TRAINER_NAME[name], "colour": TRAINER_COLOUR[name]}


def _attack(name):
    return {"name": attack_name(name), "dash": DASH[line_style(name)]}


def _cell(table, key, most):
    constants = _constants(table, key, most)
    if table.duplicated(["seed", "index"]).any():
        raise ValueError(MIXED.format(key))
    if len(table) != table["seed"].nunique() * table["index"].nunique():
        raise ValueError(UNEVEN.format(key))
    coded = table.assign(code=_codes(table, constants["n"]))
    codes = coded.pivot(index="seed", columns="index", values="code")
    return {
        **constants,
        "seeds": codes.index.tolist(),
        "index": codes.columns.tolist(),
        "codes": [list(map(_whole_or_none, victim)) for victim in codes.to_numpy()],
    }


def _constants(table, key, most):
    """Draws, alpha and noise seed of a cell."""
    drawn = table["n"][table["prediction"] != STOPPED]
    # Where every guess was wrong and stopped, no draws are there and any n is right.
    values = {"n": drawn if len(drawn) else pd.Series([most])}
    values |= {name: table[name] for name in ("alpha", "noise_seed")}
    for name in ("looks", "u"):
        if name in table and (table[name] != 1).any():
            raise ValueError(ONE_LOOK.format(name, key))
    for name, column in values.items():
        if column.nunique() != 1:
            found = ", ".join(map(str, column.unique()))
            raise ValueError(ONE_NUMBER.format(name, key, found))
    return {name: column.iloc[0].item() for name, column in values.items()}


def _codes(table, n):
    lost = n - wins(table)
    code = np.where(table["guess"] == table["label"], lost, -1 - lost)
    return np.where(table["prediction"] == STOPPED, np.nan, code)


def _whole_or_none(code):
    return None if np.isnan(code) else int(code)


# ---- the page ----


def html(rows):
    """The figure with its data and scripts; it asks for no network and no kernel."""
    scripts = [(ROOT / "book" / name).read_text(encoding="utf-8") for name in SCRIPTS]
    parts = {
        "CHOICES": _choices("a", "A") + _choices("b", COMPARE.format("B")),
        "SLIDERS": "".join(_slider(name, text) for name, text in SLIDERS.items()),
        "DATA": json.dumps(compact(rows), separators=(",", ":")),
        "SCRIPT": "".join(scripts),
    }
    page = FIGURE
    for name, part in parts.items():
        page = page.replace(f"@{name}@", part)
    return page


FIELDS = {"trainer": "Trainer", "sigma": "σ", "attack": "Training data"}
SLIDERS = {
    "alpha": "Failure probability α",
    "n": "Draws a point, n",
    "radius": "Radius (pixel units, L2)",
}
COMPARE = '<label><input type="checkbox" id="recertify-compare" checked> compare with {}</label>'


def _choices(side, legend):
    selects = "".join(_select(f"recertify-{side}-{name}", text) for name, text in FIELDS.items())
    return f'<fieldset id="recertify-{side}"><legend>{legend}</legend>{selects}</fieldset>'


def _select(name, text):
    return f'<label for="{name}">{text} <select id="{name}"></select></label>'


def _slider(name, text):
    name = f"recertify-{name}"
    value = f'<output id="{name}-value" for="{name}"></output>'
    return (
        f'<div><label for="{name}">{text}: {value}</label>'
        f'<input id="{name}" type="range" step="1"></div>'
    )


FIGURE = """<style>
#recertify fieldset {
  border: 1px solid #949494; border-radius: 4px; padding: 0.2em 0.8em 0.6em; margin: 0;
  min-width: 0;
}
#recertify fieldset > label { display: inline-block; margin: 0.2em 1em 0.2em 0; }
#recertify legend {
  float: none; width: auto; font-size: 1em; font-weight: bold; margin: 0; padding: 0 0.3em;
}
#recertify select {
  color: #222; background: #fff; border: 1px solid #767676; border-radius: 3px; padding: 0.2em;
  max-width: 100%;
}
#recertify input[type="range"] { width: 100%; }
#recertify .across {
  display: grid; gap: 0.8em 1.5em; margin: 0.8em 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr));
}
#recertify .sliders {
  align-items: end; grid-template-columns: repeat(auto-fit, minmax(min(100%, 180px), 1fr));
}
#recertify table {
  width: 100%; margin: 0.8em 0; border-collapse: collapse; font-size: 0.93em;
  font-variant-numeric: tabular-nums;
}
#recertify th, #recertify td {
  padding: 0.25em 0.4em; text-align: right; vertical-align: bottom; border-bottom: 1px solid #ccc;
}
#recertify tr > :first-child { text-align: left; }
#recertify th { font-weight: normal; }
#recertify small { white-space: nowrap; }
#recertify svg { display: block; width: 100%; height: auto; background: #fff; }
#recertify svg.swatch { display: inline-block; width: 34px; height: 10px; }
</style>
<div id="recertify" role="group" aria-label="Certify again from the counts">
<div class="across">@CHOICES@</div>
<div class="across sliders">@SLIDERS@</div>
<table><thead><tr><th scope="col">Selection</th>
<th scope="col">ACR</th><th scope="col">ACR in the rows</th>
<th scope="col">certified at <span id="recertify-at"></span></th>
<th scope="col">abstains</th></tr></thead>
<tbody id="recertify-numbers"></tbody></table>
<p id="recertify-drop" role="status"></p>
<div class="across">
<svg id="recertify-curve" role="img"></svg><svg id="recertify-share" role="img"></svg>
</div>
<p id="recertify-about" style="white-space:pre-line"></p>
<noscript>This figure needs JavaScript; the numbers of the rows stand on the other pages.</noscript>
<script type="application/json" id="recertify-data">@DATA@</script>
<script>@SCRIPT@</script>
</div>"""
