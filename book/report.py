"""What the book's pages share: rows of an experiment, tables and figures made from them. Nothing here computes a result."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for profiles/

from pacd.metrics import abstention, acr, certified_accuracy, mean_interval, paired_drop  # noqa: E402
from pacd.results import read_rows  # noqa: E402
from profiles import grid  # noqa: E402

# Okabe and Ito's palette: told apart by colour-blind readers. One colour for a trainer everywhere.
TRAINER_COLOUR = {"standard": "#000000", "gaussian": "#0072B2", "smoothadv": "#D55E00", "macer": "#009E73"}
TRAINER_NAME = {"standard": "standard", "gaussian": "GA", "smoothadv": "SmoothAdv", "macer": "MACER"}
CELL = ["dataset", "trainer", "sigma", "target_class"]

plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"})


def load(profile, experiment):
    """Rows of one experiment of a profile (DataFrame); see :func:`pacd.results.read_rows` for its columns."""
    plan = grid.load(profile)
    return read_rows(*(ROOT / plan.victims[run]["rows_file"] for run in plan.experiments[experiment]))


def drop_table(rows, by=CELL):
    """Clean and poisoned ACR and the paired drop of each cell, numbers as numbers."""
    lines = []
    for cell, table in rows.groupby(by):
        clean = table[table["attack"] == "none"]
        for attack, poisoned in table[table["attack"] != "none"].groupby("attack"):
            drop = paired_drop(clean, poisoned)
            lines.append(
                dict(zip(by, cell))
                | {"attack": attack, "ACR clean": acr(clean), "ACR poisoned": acr(poisoned)}
                | {"drop": drop.drop, "low": drop.low, "high": drop.high, "se_seeds": drop.se_seeds, "se_points": drop.se_points}
                | {"seeds": clean["seed"].nunique(), "points": clean["index"].nunique(), "n": clean["n"].iloc[0]}
            )
    return pd.DataFrame(lines)


def headline(rows):
    """The numbers that prose names, of an experiment with one cell and one attack, as text."""
    (cell,) = drop_table(rows).to_dict("records")
    poisoned = rows[rows["attack"] != "none"].iloc[0]
    percent = {name: f"{100 * cell[name]:.0f}" for name in ("drop", "low", "high")}
    errors = {name: f"{100 * cell[name]:.1f}" for name in ("se_seeds", "se_points")}
    acrs = {"acr_clean": f"{cell['ACR clean']:.2f}", "acr_poisoned": f"{cell['ACR poisoned']:.2f}"}
    plain = {name: str(cell[name]) for name in ("seeds", "points", "target_class")}
    return percent | errors | acrs | plain | {"n": f"{cell['n']:,}", "sigma": f"{cell['sigma']:g}", "eps_linf": f"{poisoned['eps_linf']:g}"}


def show_drops(table):
    """A table for readers: percentages with their 95 % intervals."""
    shown = table.assign(
        trainer=table["trainer"].map(TRAINER_NAME),
        drop=[f"{100 * d:.0f} % [{100 * low:.0f}, {100 * high:.0f}]" for d, low, high in zip(table["drop"], table["low"], table["high"])],
    )
    columns = ["trainer", "sigma", "attack", "ACR clean", "ACR poisoned", "drop", "seeds", "points", "n"]
    return shown[columns].style.format({"ACR clean": "{:.3f}", "ACR poisoned": "{:.3f}", "sigma": "{:g}"}).hide(axis="index")


def curves(axis, rows, radii, **line):
    """Mean certified accuracy over victim seeds, with a pointwise 95 % t band over the seeds."""
    values = np.array([certified_accuracy(table, radii) for _, table in rows.groupby("seed")])  # (seeds, radii)
    mean = values.mean(0)
    (drawn,) = axis.plot(radii, mean, **line)
    if len(values) > 1:
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(0, ddof=1) / np.sqrt(len(values))
        axis.fill_between(radii, (mean - half).clip(0), (mean + half).clip(max=1), color=drawn.get_color(), alpha=0.2, lw=0)


def curve_figure(rows):
    """Certified accuracy against radius, clean (solid) and poisoned (dashed), one panel a sigma, one colour a trainer."""
    sigmas = sorted(rows["sigma"].unique())
    figure, axes = plt.subplots(1, len(sigmas), figsize=(max(6, 4 * len(sigmas)), 3.6), squeeze=False, sharey=True)
    for axis, sigma in zip(axes[0], sigmas):
        radii = np.linspace(0, 3.0 * sigma, 121)
        for (trainer, attack), table in rows[rows["sigma"] == sigma].groupby(["trainer", "attack"]):
            clean = attack == "none"
            name = f"{TRAINER_NAME[trainer]}, {'clean' if clean else 'poisoned'}"
            curves(axis, table, radii, color=TRAINER_COLOUR[trainer], ls="-" if clean else "--", label=name)
        axis.set(xlabel="radius (pixel units, L2)", ylim=(0, 1), xlim=(0, radii[-1]))
        if len(sigmas) > 1:
            axis.set_title(f"σ = {sigma:g}", loc="left")
    axes[0, 0].set_ylabel("certified accuracy\nof the target class")
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    return figure


def summary(rows):
    """ACR with its t interval over seeds, and abstention, for each cell and attack."""
    lines = []
    for cell, table in rows.groupby([*CELL, "attack"]):
        mean, low, high = mean_interval([acr(t) for _, t in table.groupby("seed")])
        lines.append(dict(zip([*CELL, "attack"], cell)) | {"ACR": mean, "low": low, "high": high, "abstention": abstention(table)})
    return pd.DataFrame(lines)
