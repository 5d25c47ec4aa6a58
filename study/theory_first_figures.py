"""Figures of the chapter's page on the first layer: steps of training, and what came out."""

import json
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pacd.data import load
from study import theory, theory_digits
from study import theory_first_layer as first_layer
from study.figures.data import labelled, with_data
from study.intervals import paired_drop
from study.results import ROOT
from study.sliders import controls, mimebundle
from study.style import BELOW, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION

SUBTRACT = np.array([0.0, 0.1307, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0])
STEPS = np.array([10**e * m for e in range(1, 7) for m in (1, 3)][:-1])
SIGMA, EPS, SIDE = 0.5, 0.1, 14  # noise, brightness of the poison, pixels of the drawn weights
RUNS = {
    "lenet": ("LeNet, ten epochs", PURPLE, "D", "-"),
    "lenet_long": ("LeNet, thirty epochs", ORANGE, "v", "--"),
    "linear": ("linear softmax, thirty epochs", GREEN, "^", "-"),
    "converged": ("linear softmax, a thousand epochs", VERMILION, "s", "--"),
    "converged_fast": ("the same, thirty times the step size", BLUE, "o", ":"),
    "linear_half": ("thirty epochs, divided by 0.5", GREY, "x", "none"),
}


@cache
def digits():
    """Embedded 8s and 3s: (clean summary, poisoned summary, clean test 8s)."""
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, 8, [3])
    signs = np.where(y == 1, 1, -1)
    bright = theory_digits.brighten(x, y == 1, EPS)
    test = theory_digits.flat(splits.x_test[splits.y_test == 8])
    summaries = (theory.summarise(theory_digits.flat(images), signs) for images in (x, bright))
    return *summaries, test


@cache
def table():
    """What gradient descent has learned at every position of the sliders.

    Returns
    -------
    lost : array of shape (subtract, steps)
        Per cent of the ACR of clean test 8s that the poison has taken.
    weights : array of shape (subtract, steps, SIDE, SIDE)
        The poisoned learner's unit normal, 2 x 2 pixels averaged.
    """
    clean, poisoned, test = digits()
    lost, weights = [], []
    for t in SUBTRACT:
        before = acr_of_each(*first_layer.descent(clean, t, SIGMA, STEPS), test)
        w, b = first_layer.descent(poisoned, t, SIGMA, STEPS)
        lost.append(100 * (1 - acr_of_each(w, b, test) / before))
        normal = w / np.linalg.norm(w, axis=1, keepdims=True)
        weights.append(normal.reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4)))
    return np.array(lost), np.array(weights)


def acr_of_each(w, b, test):
    """ACR on test points, (m, k), of several boundaries, (n, k) and (n,)."""
    return np.array([theory.acr_of_points(*pair, test) for pair in zip(w, b)])


class StepsFigure:
    """Gradient descent on 8 against 3 with a brighter class, after t is subtracted from the pixels.

    In JupyterLab a plotly figure at the given setting; in the book the same with two sliders,
    which look the answers up in a table.

    Parameters
    ----------
    subtract, steps : int
        Positions in ``SUBTRACT`` and ``STEPS``.
    """

    def __init__(self, subtract=0, steps=4):
        self.position = {"subtract": subtract, "steps": steps}

    def figure(self):
        """The plotly figure at this setting; the script below redraws its traces."""
        fig = make_subplots(1, 2, column_widths=[0.4, 0.6], horizontal_spacing=0.14)
        fig.add_trace(self._weights(), row=1, col=1)
        fig.add_traces(self._curves(), rows=1, cols=2)
        margin = {"l": 10, "r": 10, "t": 10, "b": 45}
        fig.update_layout(template="plotly_white", height=400, margin=margin, dragmode=False)
        fig.update_layout(legend={"orientation": "h", "y": -0.2})
        hidden = {"visible": False, "constrain": "domain"}
        fig.update_xaxes(**hidden, row=1, col=1)
        fig.update_yaxes(**hidden, autorange="reversed", scaleanchor="x", row=1, col=1)
        fig.update_xaxes(title="steps", type="log", fixedrange=True, row=1, col=2)
        title = "lost ACR (%)"
        fig.update_yaxes(title=title, range=[-3, 103], fixedrange=True, row=1, col=2)
        return fig

    def _weights(self):
        i, j = self.position["subtract"], self.position["steps"]
        scale = {"colorscale": "RdBu", "zmin": -0.1, "zmax": 0.1, "showscale": False}
        return go.Heatmap(z=table()[1][i, j], name="weights", hoverinfo="z", **scale)

    def _curves(self):
        i, j = self.position["subtract"], self.position["steps"]
        lost, marker = table()[0], {"size": 12, "color": VERMILION}
        dotted = {"color": GREY, "dash": "dot"}
        raw = go.Scatter(x=STEPS, y=lost[0], name="t = 0", mode="lines", line=dotted)
        curve = go.Scatter(x=STEPS, y=lost[i], name="t as set", line={"color": BLUE, "width": 3})
        now = go.Scatter(x=STEPS[[j]], y=lost[i, [j]], name="now", mode="markers", marker=marker)
        return [raw, curve, now]

    def to_html(self):
        """Sliders, plot and the script that joins them; plotly.min.js comes from the page."""
        lost, weights = table()
        data = {
            "lost": lost.round(1).tolist(),
            "weights": weights.round(3).tolist(),
            "subtract": [f"{t:g}" for t in SUBTRACT],
            "steps": STEPS.tolist(),
        }
        script = SCRIPT.replace("DATA", json.dumps(data, separators=(",", ":")))
        plot = self.figure().to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id="steps-plot",
            post_script=script,
            config={"displayModeBar": False, "scrollZoom": False},
        )
        style = "overflow:hidden;padding:0 8px"
        return f'<div class="steps-figure" style="{style}">{self._controls()}{plot}</div>'

    def _controls(self):
        at, steps = self.position, [f"{n:,}" for n in STEPS]
        sliders = [
            ("subtract", "Subtracted t", [f"{t:g}" for t in SUBTRACT], at["subtract"]),
            ("steps", "Steps", steps, at["steps"]),
        ]
        return controls("steps", sliders)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return mimebundle(self)


# Redraws what depends on the sliders, and stacks the two panels on a narrow page; no arithmetic.
SCRIPT = """
(function () {
  const d = DATA, gd = document.getElementById("{plot_id}");
  const get = (name) => document.getElementById("steps-" + name);
  function draw() {
    const i = Number(get("subtract").value), j = Number(get("steps").value);
    const texts = { subtract: d.subtract[i], steps: d.steps[j].toLocaleString("en-US") };
    for (const [name, text] of Object.entries(texts)) {
      get(name + "-value").textContent = text;
      get(name).setAttribute("aria-valuetext", text);
    }
    Plotly.restyle(gd, {z: [d.weights[i][j]]}, [0]);
    Plotly.restyle(gd, {x: [d.steps, [d.steps[j]]], y: [d.lost[i], [d.lost[i][j]]]}, [2, 3]);
    get("readout").textContent =
      `After ${texts.steps} steps with ${texts.subtract} subtracted the brighter class has taken ` +
      `${d.lost[i][j].toFixed(0)} % of the ACR.`;
  }
  function arrange() {
    const width = gd.parentElement.clientWidth, narrow = width < 600;
    const height = narrow ? 640 : 400;
    gd.parentElement.style.height = height + "px";
    const [x, y, x2, y2] = narrow
      ? [[0, 1], [0.52, 1], [0.12, 1], [0, 0.42]]
      : [[0, 0.38], [0, 1], [0.5, 1], [0, 1]];
    Plotly.relayout(gd, {
      width, height, "legend.y": narrow ? -0.12 : -0.2,
      "xaxis.domain": x, "yaxis.domain": y, "xaxis2.domain": x2, "yaxis2.domain": y2,
    });
  }
  for (const name of ["subtract", "steps"]) get(name).addEventListener("input", draw);
  let width = 0;
  new ResizeObserver(() => {
    if (gd.parentElement.clientWidth === width) return;
    width = gd.parentElement.clientWidth;
    arrange();
  }).observe(gd.parentElement.parentElement);
  draw();
})();
"""


def read(run):
    """Rows of one run of `first_layer_theory.ipynb`; None where there is none."""
    path = ROOT / "data" / "results" / "theory" / f"first_layer_{run}.csv"
    return pd.read_csv(path) if path.exists() else None


def prediction():
    """The closed form's rows for the same images (`study.theory_digits.closed_form`)."""
    return read("linear_prediction")


def drops(rows):
    """The drop of the ACR with its intervals, a `study.intervals.Drop` for each constant."""
    found = {}
    for t, part in rows.groupby("subtract"):
        clean, poisoned = (part[part["attack"] == name] for name in ("none", "uniform"))
        found[t] = paired_drop(clean, poisoned)
    return found


def shares(gamma=0.01):
    """The share of the poison that the closed form keeps, by the subtracted constant."""
    rows = prediction()
    chosen = np.isclose(rows["gamma"], gamma) & (rows["attack"] == "uniform")
    return rows[chosen].set_index("subtract")["share"]


def plot_drops():
    """The lost ACR against what is subtracted, for each run, and the prediction."""
    figure, axis = plt.subplots(figsize=(6, 5))
    lines = []
    for run, (label, color, marker, dash) in RUNS.items():
        rows = read(run)
        if rows is None:
            continue
        found = drops(rows)
        y = 100 * np.array([[d.drop, d.drop - d.low, d.high - d.drop] for d in found.values()])
        style = {"color": color, "marker": marker, "ls": dash, "capsize": 3, "label": label}
        axis.errorbar(list(found), y[:, 0], yerr=y[:, 1:].T, **style)
        ends = 100 * pd.DataFrame(found.values(), index=found)[["drop", "low", "high"]]
        lines.append(labelled(ends.rename_axis("subtract").reset_index(), run=run))
    share = 100 * shares()
    axis.plot(share.index, share, color=GREY, ls=":", label="kept share of the closed form")
    axis.set(xlabel="subtracted from every pixel", ylabel="lost ACR (%)", ylim=(-5, 105))
    axis.legend(**BELOW)
    figure.tight_layout()
    closed = pd.DataFrame({"run": "kept share", "subtract": share.index, "drop": share.to_numpy()})
    return with_data(figure, pd.concat([*lines, closed]))


def drops_table():
    """The lost ACR of each run where each constant is subtracted, per cent with 95 % intervals."""
    lines = []
    for run, (label, *_) in RUNS.items():
        rows = read(run)
        if rows is not None:
            cells = {f"{t:g}": _interval(drop) for t, drop in drops(rows).items()}
            lines.append({"classifier": label, **cells, "seeds": str(rows["seed"].nunique())})
    kept = {f"{t:g}": f"{share:.2f}" for t, share in shares().items()}
    lines.append({"classifier": "kept share, closed form", **kept})
    order = ["classifier", *kept, "seeds"]
    return pd.DataFrame(lines)[order].fillna("").style.hide(axis="index")


def verdicts():
    """What the ledger says of the rules on the first layer: rule, estimates and verdict."""
    lines = json.loads((ROOT / "data" / "claims.json").read_text())
    table = []
    for line in lines:
        if line["id"].startswith("first-layer"):
            found = [_cell(cell) for cell in line["cells"]]
            row = {"rule": line["rule"], "found (95 %)": "; ".join(found)}
            table.append({**row, "verdict": line["verdict"]})
    return pd.DataFrame(table).style.hide(axis="index")


def _cell(cell):
    return f"{cell['cell']}: {cell['estimate']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def _interval(drop):
    return f"{100 * drop.drop:.0f} [{100 * drop.low:.0f}, {100 * drop.high:.0f}]"
