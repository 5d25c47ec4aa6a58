"""Certified accuracy against radius, and the distribution of p_A that it is made of."""

import matplotlib.pyplot as plt
import numpy as np

from study.intervals import certified_accuracy, mean_interval, probit_p
from study.style import ATTACK_STYLE, TRAINER_COLOUR, TRAINER_NAME, attack_name, line_style


def band(axis, x, interval, colour):
    """The area between the ends of an interval of shares, inside [0, 1] (axis in shares)."""
    _, low, high = interval
    axis.fill_between(x, low.clip(0), high.clip(max=1), color=colour, alpha=0.2, lw=0)


def curves(axis, rows, radii, **line):
    """Mean certified accuracy over victim seeds, with a pointwise 95 % t band over the seeds."""
    values = [certified_accuracy(victim, radii) for _, victim in rows.groupby("seed")]
    interval = mean_interval(values)  # of (seeds, radii)
    (drawn,) = axis.plot(radii, interval[0], **line)
    band(axis, radii, interval, drawn.get_color())


def curve_figure(rows):
    """Certified accuracy against radius, a panel a sigma, a colour a trainer, a style an attack."""
    sigmas = sorted(rows["sigma"].unique())
    size = (max(6, 4 * len(sigmas)), 3.6)
    figure, axes = plt.subplots(1, len(sigmas), figsize=size, squeeze=False, sharey=True)
    for axis, sigma in zip(axes[0], sigmas):
        _curve_panel(axis, rows[rows["sigma"] == sigma], np.linspace(0, 3.0 * sigma, 121))
        if len(sigmas) > 1:
            axis.set_title(f"σ = {sigma:g}", loc="left")
    axes[0, 0].set_ylabel("certified accuracy\nof the target class")
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    return figure


def _curve_panel(axis, rows, radii):
    for (trainer, attack), table in rows.groupby(["trainer", "attack"]):
        style = {"color": TRAINER_COLOUR[trainer], "ls": line_style(attack)}
        name = f"{TRAINER_NAME[trainer]}, {attack_name(attack)}"
        curves(axis, table, radii, label=name, **style)
    axis.set(xlabel="radius (pixel units, L2)", ylim=(0, 1), xlim=(0, radii[-1]))


def probit_figure(rows):
    """Distribution of p_A on the probit scale, one panel a trainer.

    The radius is sigma times this number where the guess is right.
    """
    trainers = [name for name in TRAINER_COLOUR if name in set(rows["trainer"])]
    size = (6, 1.9 * len(trainers) + 0.5)
    figure, axes = plt.subplots(len(trainers), 1, figsize=size, squeeze=False, sharex=True)
    for axis, trainer in zip(axes[:, 0], trainers):
        _probit_panel(axis, rows[rows["trainer"] == trainer], trainer)
    axes[-1, 0].set_xlabel("estimated $p_A$, probit scale (standard deviations)")
    figure.tight_layout()
    return figure


def _probit_panel(axis, rows, trainer):
    from seaborn import ecdfplot  # here, as only one page waits for its import

    right = rows["guess"] == rows["label"]
    left_of_axis = -0.1  # where points with a wrong guess are counted
    rows = rows.assign(z=np.where(right, probit_p(rows), left_of_axis))
    for attack, side in rows.groupby("attack", sort=False):
        name = f"{TRAINER_NAME[trainer]}, {attack_name(attack)}"
        style = {"color": TRAINER_COLOUR[trainer], "ls": line_style(attack), "label": name}
        ecdfplot(side["z"], ax=axis, **style)
    axis.set(ylabel="share of points\nat or below", ylim=(0, 1), xlim=(0, None))
    axis.legend(frameon=False, fontsize=9)


def resistance_figure(rows):
    """Share of test points that resist up to a radius: certified, and under attack."""
    figure, axis = plt.subplots(figsize=(6, 3.6))
    radii = np.linspace(0, 4 * rows["sigma"].iloc[0], 161)
    colours = {"certified": TRAINER_COLOUR["gaussian"], "under attack": "0.4"}
    tables = {"certified": rows, "under attack": under_attack(rows)}
    for kind, table in tables.items():
        for attack in ATTACK_STYLE:
            style = {"color": colours[kind], "ls": line_style(attack)}
            name = f"{attack_name(attack)}, {kind}"
            curves(axis, table[table["attack"] == attack], radii, label=name, **style)
    axis.set(ylabel="share of test points\nthat resist", ylim=(0, 1))
    axis.set(xlabel="radius (pixel units, L2)", xlim=(0, radii[-1]))
    axis.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return figure


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
    return figure


def votes_figure(rows):
    """Distribution of the share of draws that predict the true class, clean and poisoned."""
    figure, axis = plt.subplots(figsize=(6, 3.2))
    share = rows[f"count_{rows['label'].iloc[0]}"] / rows["n"].replace(0, np.nan)
    for attack in ATTACK_STYLE:
        values = np.sort(share[rows["attack"] == attack].dropna())
        heights = np.arange(1, len(values) + 1) / len(values)
        style = {"ls": line_style(attack), "color": TRAINER_COLOUR["gaussian"]}
        axis.step(values, heights, label=attack_name(attack), **style)
    axis.axvline(0.5, color="0.8", zorder=0)
    axis.set(ylabel="share of points\nat or below", ylim=(0, 1))
    axis.set_xlabel("share of draws that predict the true class")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure
