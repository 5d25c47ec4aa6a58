"""Figures of the theory chapter that stand still, from closed forms and rows."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study import theory
from study.figures.data import with_data
from study.intervals import mean_interval
from study.results import ROOT, manifest_path
from study.style import BELOW, BLUE, GREEN, GREY, PURPLE, VERMILION

EPS_LABEL = "$\\epsilon$ (L-inf, pixel units)"
MODELS = {
    "mean": ("mean-difference", BLUE, "o"),
    "ga least squares": ("least squares, GA", VERMILION, "s"),
    "ga logistic": ("logistic regression, GA", GREEN, "^"),
    "lenet": ("LeNet, GA", PURPLE, "D"),
}
LEARNERS = {"mean": "mean", "ga": "ga least squares"}  # of the closed form, and who is trained so


def plot_line_optima():
    """ACR against the shift on a line for three sizes of c; global optima are filled."""
    D, r, s = 1.5, 0.9, 0.4
    switch = D**2 - r**2
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for share, color, dash in ((0.4, BLUE, "-"), (1.0, GREEN, "--"), (1.7, VERMILION, "-.")):
        _one_line(axis, D, r, s, share * switch, color, dash, f"$c = {share:.1f}\\,(D^2 - r^2)$")
    axis.set(xlabel="shift $v$ of the target's training mean", ylim=(0, None))
    axis.set(ylabel="ACR of the target class")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def _one_line(axis, D, r, s, c, color, dash, label):
    def value(v):
        return theory.mean_positive_part(D - (D + v + c / (D + v)) / 2, s)

    shifts = np.linspace(-r, r, 301)
    axis.plot(shifts, value(shifts), color=color, ls=dash, label=label)
    optima = theory.local_optima_line(D, r, c)
    best = min(map(value, optima))
    for v in optima:
        fill = color if np.isclose(value(v), best) else "white"
        axis.plot(v, value(v), "o", color=color, mfc=fill, ms=8)


def read(name="linear_vs_lenet"):
    """Rows of trained classifiers, the closed form's prediction, and the run's parameters."""
    path = ROOT / "data" / "results" / "theory" / f"{name}.csv"
    parameters = json.loads(manifest_path(path).read_text())["parameters"]
    return pd.read_csv(path), pd.read_csv(path.with_name(path.stem + "_prediction.csv")), parameters


def acr_table(rows, column):
    """Mean over the test points of ``column``, wrong points 0, for each model, eps and seed."""
    rows = rows.assign(value=rows[column].clip(lower=0)).dropna(subset=[column])
    return rows.groupby(["model", "eps", "seed"])["value"].mean().reset_index()


def lost_and_error(rows, prediction, model, eps):
    """What a model loses at eps, in per cent with its interval over seeds, and the form's error.

    Returns
    -------
    mean, low, high, error : float
        The last is NaN for a model that the closed form says nothing about.
    """
    column = "radius" if model == "lenet" else "distance"
    table = acr_table(rows[rows["model"] == model], column)
    table = table.pivot(index="seed", columns="eps", values="value")
    mean, low, high = mean_interval(100 * (1 - table[eps] / table[0.0]))
    predicted = prediction.set_index(["learner", "eps"])["acr"]
    learner = {"mean": "mean", "lenet": None}.get(model, "ga")
    error = 100 * abs(table[eps].mean() / predicted[learner, eps] - 1) if learner else np.nan
    return mean, low, high, error


def digits_table(eps=0.1):
    """The closed form's error and the lost ACR at eps, for the embedded digits and for MNIST."""
    lines = []
    for title, name in (("embedded digits", "linear_vs_lenet"), ("MNIST", "linear_vs_lenet_mnist")):
        rows, prediction, _ = read(name)
        for model in MODELS:
            lines.append(_digits_line(title, rows, prediction, model, eps))
    return pd.DataFrame(lines).style.hide(axis="index")


def _digits_line(title, rows, prediction, model, eps):
    mean, low, high, error = lost_and_error(rows, prediction, model, eps)
    column = "radius" if model == "lenet" else "distance"
    own = rows[rows["model"] == model].dropna(subset=[column])
    return {
        "data": title,
        "classifier": MODELS[model][0],
        "lost ACR (95 % over seeds)": f"{mean:.0f} % [{low:.0f}, {high:.0f}]",
        "error of the closed form": "" if np.isnan(error) else f"{error:.0f} %",
        "test 8s": own["point"].nunique(),
        "seeds": own["seed"].nunique(),
    }


def plot_digits(rows, prediction):
    """Exact ACR of trained linear classifiers on clean test digits over the closed form's."""
    figure, axis = plt.subplots(figsize=(6, 5))
    for learner, name in LEARNERS.items():
        curve = prediction[prediction["learner"] == learner]
        label, color, _ = MODELS[name]
        axis.plot(curve["eps"], curve["acr"], color=color, label=f"closed form, {label}")
    _points(axis, acr_table(rows, "distance"))
    floor = prediction[prediction["learner"] == "mean"]
    style = {"color": GREY, "ls": ":", "label": "floor of the training mean, mean-difference"}
    axis.plot(floor["eps"], floor["floor"].clip(lower=0), **style)
    axis.set(xlabel=EPS_LABEL, ylabel="ACR of clean test 8s", ylim=(0, None))
    axis.legend(**BELOW)
    figure.tight_layout()
    closed = prediction[prediction["learner"].isin(LEARNERS)][["learner", "eps", "acr"]]
    floors = floor[["learner", "eps"]].assign(floor=floor["floor"].clip(lower=0))
    return with_data(figure, pd.concat([closed, floors, acr_table(rows, "distance")]))


def plot_lenet(rows):
    """Share of the clean ACR that is left, all models under the same sampling certifier."""
    figure, axis = plt.subplots(figsize=(6, 5))
    table = acr_table(rows, "radius")
    clean = table[table["eps"] == 0].groupby("model")["value"].mean()
    table["value"] = table["value"] / table["model"].map(clean)
    for name, group in table.groupby("model"):
        axis.plot(group.groupby("eps")["value"].mean(), color=MODELS[name][1], lw=1)
    _points(axis, table)
    axis.set(xlabel=EPS_LABEL, ylabel="ACR / ACR on clean data", ylim=(0, None))
    axis.legend(**BELOW)
    figure.tight_layout()
    return with_data(figure, table)


def plot_offset_angle(prediction):
    """The two parts of the lost margin of the mean 8 against eps."""
    figure, axes = plt.subplots(1, 2, figsize=(6, 3), sharey=True)
    for axis, (learner, model) in zip(axes, LEARNERS.items()):
        part = prediction[prediction["learner"] == learner]
        axis.plot(part["eps"], part["offset"], color=BLUE, label="offset")
        axis.plot(part["eps"], part["angle"], color=VERMILION, ls="--", label="angle")
        axis.set(title=MODELS[model][0], xlabel=EPS_LABEL)
    axes[0].set(ylabel="change of the margin")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    return with_data(figure, prediction[["learner", "eps", "offset", "angle"]])


def _points(axis, table):
    for name, group in table.groupby("model"):
        label, color, marker = MODELS[name]
        style = {"color": color, "mfc": "none", "ms": 6, "label": f"trained, {label}"}
        axis.plot(group["eps"], group["value"], marker, **style)
