"""Certified accuracy against radius, each victim's ACR, and how sure the votes are."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.figures.data import labelled, with_data
from study.intervals import certified_accuracy, mean_interval
from study.style import BELOW, TRAINER_COLOUR, TRAINER_NAME, attack_colour, attack_name, line_style

SIDES = ("none", "first_order")


def band(axis, x, interval, colour):
    """The area between the ends of an interval of shares, inside [0, 1] (axis in shares)."""
    _, low, high = interval
    axis.fill_between(x, low.clip(0), high.clip(max=1), color=colour, alpha=0.2, lw=0)


def curves(axis, rows, radii, **line):
    """Mean certified accuracy over victim seeds, with a pointwise 95 % t band over the seeds.

    Returns what is drawn (DataFrame).
    """
    values = [certified_accuracy(victim, radii) for _, victim in rows.groupby("seed")]
    interval = mean_interval(values)  # of (seeds, radii)
    (drawn,) = axis.plot(radii, interval[0], **line)
    band(axis, radii, interval, drawn.get_color())
    return banded("radius", radii, "share", interval)


def banded(x, places, y, interval):
    """A line and the ends of its :func:`band` (DataFrame)."""
    mean, low, high = interval
    return pd.DataFrame({x: places, y: mean, "low": low.clip(0), "high": high.clip(max=1)})


def curve_figure(rows):
    """Certified accuracy against radius, a panel a trainer and sigma, a line an attack."""
    there = rows["trainer"].unique()
    trainers = sorted(there, key=list(dict.fromkeys([*TRAINER_COLOUR, *there])).index)
    sigmas = sorted(rows["sigma"].unique())
    size = (6, 1.4 + 1.8 * len(trainers)) if len(sigmas) > 1 else (6, 3.6)
    options = {"figsize": size, "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(len(trainers), len(sigmas), sharey=True, sharex="col", **options)
    drawn = []
    for (trainer, sigma), axis in zip(itertools.product(trainers, sigmas), axes.flat):
        panel = rows[(rows["trainer"] == trainer) & (rows["sigma"] == sigma)]
        lines = _curve_panel(axis, panel, np.linspace(0, 3.0 * sigma, 121))
        drawn += [labelled(line, trainer=trainer, sigma=sigma) for line in lines]
        axis.set_title(f"{TRAINER_NAME[trainer]}\nσ = {sigma:g}", loc="left")
    figure.supylabel("certified accuracy of the class")
    figure.supxlabel("radius (pixel units, L2)")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, frameon=False, ncol=2, loc="outside upper center")
    return with_data(figure, pd.concat(drawn))


def _curve_panel(axis, rows, radii):
    drawn = []
    for attack, table in rows.groupby("attack", sort=False):
        style = {"color": attack_colour(attack), "ls": line_style(attack)}
        line = curves(axis, table, radii, label=attack_name(attack), **style)
        drawn.append(labelled(line, attack=attack))
    axis.set(ylim=(0, 1), xlim=(0, radii[-1]))
    return drawn


def resistance_figure(rows):
    """Share of test points that resist up to a radius: certified, and under attack."""
    figure, axis = plt.subplots(figsize=(6, 4.4))
    radii = np.linspace(0, 4 * rows["sigma"].iloc[0], 161)
    colours = {"certified": TRAINER_COLOUR["gaussian"], "under attack": "0.4"}
    tables, drawn = {"certified": rows, "under attack": under_attack(rows)}, []
    for kind, table in tables.items():
        for attack in SIDES:
            style = {"color": colours[kind], "ls": line_style(attack)}
            name = f"{attack_name(attack)}, {kind}"
            line = curves(axis, table[table["attack"] == attack], radii, label=name, **style)
            drawn.append(labelled(line, kind=kind, attack=attack))
    axis.set(ylabel="share of test points\nthat resist", ylim=(0, 1))
    axis.set(xlabel="radius (pixel units, L2)", xlim=(0, radii[-1]))
    axis.legend(**BELOW)
    figure.tight_layout()
    return with_data(figure, pd.concat(drawn))


def under_attack(rows):
    """Rows whose radius is the largest at which the attack did not succeed.

    Whatever the certifier says of a point, it resists up to where the attack succeeds.
    """
    return rows.assign(radius=rows["empirical_radius"] - 1e-9, prediction=rows["label"])


def victims_figure(rows, attacks=("none", "uniform", "first_order")):
    """ACR of each victim; a line joins the victims with the same initial weights."""
    acrs = rows.groupby(["seed", "attack"])["radius"].mean().unstack()[list(attacks)]
    figure, axis = plt.subplots(figsize=(5, 3.2))
    for _, values in acrs.iterrows():
        axis.plot(range(len(values)), values, "o-", color=TRAINER_COLOUR["gaussian"], lw=1)
    axis.set(xlim=(-0.3, len(attacks) - 0.7), ylim=(0, None))
    axis.set_ylabel("ACR of the class\n(pixel units, L2)")
    axis.set_xticks(range(len(attacks)), map(attack_name, attacks))
    figure.tight_layout()
    return with_data(figure, acrs.reset_index())


def votes_figure(rows):
    """Distribution of the share of draws that predict the true class, clean and poisoned."""
    figure, axis = plt.subplots(figsize=(6, 3.2))
    share = rows[f"count_{rows['label'].iloc[0]}"] / rows["n"].replace(0, np.nan)
    drawn = []
    for attack in SIDES:
        values = np.sort(share[rows["attack"] == attack].dropna())
        heights = np.arange(1, len(values) + 1) / len(values)
        style = {"ls": line_style(attack), "color": TRAINER_COLOUR["gaussian"]}
        axis.step(values, heights, label=attack_name(attack), **style)
        line = pd.DataFrame({"share_of_draws": values, "points_at_or_below": heights})
        drawn.append(labelled(line, attack=attack))
    axis.axvline(0.5, color="0.8", zorder=0)
    axis.set(ylabel="share of points\nat or below", ylim=(0, 1))
    axis.set_xlabel("share of draws that predict the true class")
    axis.legend(frameon=False)
    figure.tight_layout()
    return with_data(figure, pd.concat(drawn))
