"""The figure in which a reader certifies again: rows become compact data, `recertify.js` computes, `recertify_page.js` draws."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from pacd.counts import STOPPED, wins
from study import report

KEY = ["trainer", "sigma", "attack"]
DASH = {"-": "none", "--": "7 4", ":": "2 3"}  # SVG's for report.ATTACK_STYLE


def compact(rows):
    """What the page needs of rows: the cells, each with one code a point, and how trainers and attacks look.

    A cell is a trainer, sigma and attack. Its ``codes``, (seeds, points), are short where most draws are won: n - k for a
    right guess with k of n draws, -1 - (n - k) for a wrong one, None where a wrong guess was stopped.

    Raises
    ------
    ValueError
        If a cell is not one table of seeds and points, or its draws, alpha or noise seed are not one number.
    """
    cells = [
        {**dict(zip(KEY, key)), **_cell(table, key, rows["n"].max())}
        for key, table in rows.groupby(KEY, sort=False)
    ]
    trainers = {
        t: {"name": report.TRAINER_NAME[t], "colour": report.TRAINER_COLOUR[t]}
        for t in rows["trainer"].unique()
    }
    attacks = {
        a: {"name": report.attack_name(a), "dash": DASH[report.ATTACK_STYLE.get(a, ":")]}
        for a in rows["attack"].unique()
    }
    return {"cells": cells, "trainers": trainers, "attacks": attacks}


def _cell(table, key, most):
    drawn = table["n"][table["prediction"] != STOPPED]
    constant = {}
    # Where every guess was wrong and stopped, no draws are there and any n is right.
    for name, values in (
        ("n", drawn if len(drawn) else pd.Series([most])),
        ("alpha", table["alpha"]),
        ("noise_seed", table["noise_seed"]),
    ):
        if values.nunique() != 1:
            raise ValueError(
                f"{name} must be one number in the rows of {key}, not {', '.join(map(str, values.unique()))}."
            )
        constant[name] = values.iloc[0].item()
    if table.duplicated(["seed", "index"]).any():
        raise ValueError(
            f"rows must hold each test point once a victim seed, but those of {key} mix several experiments."
        )
    k = wins(table)
    lost = constant["n"] - k
    code = np.where(table["guess"] == table["label"], lost, -1 - lost)
    if len(table) != table["seed"].nunique() * table["index"].nunique():
        raise ValueError(
            f"rows must hold the same test points for every victim seed, but those of {key} do not."
        )
    code = np.where(table["prediction"] == STOPPED, np.nan, code)
    codes = table.assign(code=code).pivot(index="seed", columns="index", values="code")
    listed = [[None if np.isnan(c) else int(c) for c in row] for row in codes.to_numpy()]
    return constant | {
        "seeds": codes.index.tolist(),
        "index": codes.columns.tolist(),
        "codes": listed,
    }


def html(rows):
    """The figure with its data and scripts; it asks for no network and no kernel."""
    here = Path(__file__).parent
    parts = {
        "CHOICES": _choices("a", "A") + _choices("b", "B"),
        "SLIDERS": _slider("alpha", "Failure probability α")
        + _slider("n", "Draws a point, n")
        + _slider("radius", "Radius (pixel units, L2)"),
        "DATA": json.dumps(compact(rows), separators=(",", ":")),
        "SCRIPT": "".join(
            (here / name).read_text(encoding="utf-8")
            for name in ("recertify.js", "recertify_page.js")
        ),
    }
    page = FIGURE
    for name, part in parts.items():
        page = page.replace(f"@{name}@", part)
    return page


def _choices(side, name):
    selects = "".join(
        f'<label for="recertify-{side}-{field}">{text} <select id="recertify-{side}-{field}"></select></label>'
        for field, text in (("trainer", "Trainer"), ("sigma", "σ"), ("attack", "Training data"))
    )
    legend = (
        name
        if side == "a"
        else f'<label><input type="checkbox" id="recertify-compare" checked> compare with {name}</label>'
    )
    return f'<fieldset id="recertify-{side}"><legend>{legend}</legend>{selects}</fieldset>'


def _slider(name, text):
    return (
        f'<div><label for="recertify-{name}">{text}: <output id="recertify-{name}-value" for="recertify-{name}"></output></label>'
        f'<input id="recertify-{name}" type="range" step="1"></div>'
    )


FIGURE = """<style>
#recertify fieldset { border: 1px solid #949494; border-radius: 4px; padding: 0.2em 0.8em 0.6em; margin: 0; min-width: 0; }
#recertify fieldset > label { display: inline-block; margin: 0.2em 1em 0.2em 0; }
#recertify legend { float: none; width: auto; font-size: 1em; font-weight: bold; margin: 0; padding: 0 0.3em; }
#recertify select { color: #222; background: #fff; border: 1px solid #767676; border-radius: 3px; padding: 0.2em; max-width: 100%; }
#recertify input[type="range"] { width: 100%; }
#recertify .across { display: grid; gap: 0.8em 1.5em; grid-template-columns: repeat(auto-fit, minmax(min(100%, 270px), 1fr)); margin: 0.8em 0; }
#recertify .sliders { align-items: end; grid-template-columns: repeat(auto-fit, minmax(min(100%, 180px), 1fr)); }
#recertify table { width: 100%; margin: 0.8em 0; border-collapse: collapse; font-size: 0.93em; font-variant-numeric: tabular-nums; }
#recertify th, #recertify td { padding: 0.25em 0.4em; text-align: right; vertical-align: bottom; border-bottom: 1px solid #ccc; }
#recertify tr > :first-child { text-align: left; }
#recertify th { font-weight: normal; }
#recertify small { white-space: nowrap; }
#recertify svg { display: block; width: 100%; height: auto; background: #fff; }
#recertify svg.swatch { display: inline-block; width: 34px; height: 10px; }
</style>
<div id="recertify" role="group" aria-label="Certify again from the counts">
<div class="across">@CHOICES@</div>
<div class="across sliders">@SLIDERS@</div>
<table><thead><tr><th scope="col">Selection</th><th scope="col">ACR</th><th scope="col">ACR in the rows</th>
<th scope="col">certified at <span id="recertify-at"></span></th><th scope="col">abstains</th></tr></thead>
<tbody id="recertify-numbers"></tbody></table>
<p id="recertify-drop" role="status"></p>
<div class="across"><svg id="recertify-curve" role="img"></svg><svg id="recertify-share" role="img"></svg></div>
<p id="recertify-about" style="white-space:pre-line"></p>
<noscript>This figure needs JavaScript; the numbers of the rows stand on the other pages.</noscript>
<script type="application/json" id="recertify-data">@DATA@</script>
<script>@SCRIPT@</script>
</div>"""
