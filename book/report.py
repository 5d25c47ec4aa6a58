"""What the book's pages share: rows of an experiment, tables and figures made from them. Nothing here computes a result."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for profiles/

from pacd.metrics import acr, certified_accuracy, mean_interval, paired_drop  # noqa: E402
from pacd.results import read_rows  # noqa: E402
from profiles import grid  # noqa: E402

# Okabe and Ito's palette: told apart by colour-blind readers. One colour for a trainer everywhere.
TRAINER_COLOUR = {"standard": "#000000", "gaussian": "#0072B2", "smoothadv": "#D55E00", "macer": "#009E73"}
# Clean is solid, PACD dashed, a control dotted: told apart without colour too.
ATTACK_STYLE = {"none": "-", "first_order": "--"}
ATTACK_NAME = {"none": "clean", "first_order": "PACD"}
TRAINER_NAME = {"standard": "standard", "gaussian": "GA", "smoothadv": "SmoothAdv", "macer": "MACER"}
CELL = ["dataset", "trainer", "sigma", "target_class"]

plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"})


def load(profile, experiment):
    """Rows of one experiment of a profile (DataFrame); see :func:`pacd.results.read_rows` for its columns."""
    plan = grid.load(profile)
    return read_rows(*(ROOT / plan.victims[run]["rows_file"] for run in plan.experiments[experiment]))


def drop_table(rows, by=CELL, against="none"):
    """ACR of each cell and attack and its paired drop ``against`` clean data or a control, numbers as numbers."""
    lines = []
    for cell, table in rows.groupby(by):
        clean = table[table["attack"] == against]
        for attack, poisoned in table[table["attack"] != against].groupby("attack"):
            drop = paired_drop(clean, poisoned)
            lines.append(
                dict(zip(by, cell))
                | {"attack": attack, "ACR clean": acr(clean), "ACR poisoned": acr(poisoned)}
                | drop._asdict()
                | {"seeds": clean["seed"].nunique(), "points": clean["index"].nunique(), "n": clean["n"].iloc[0]}
            )
    return pd.DataFrame(lines)


def headline(rows, attack="first_order", against="none"):
    """The numbers that prose names, of one cell and one attack, as text."""
    compared = rows[rows["attack"].isin([attack, against])]
    (cell,) = drop_table(compared, against=against).to_dict("records")
    percent = {name: f"{100 * cell[name]:.0f}" for name in ("drop", "low_seeds", "high_seeds", "low", "high")}
    errors = {name: f"{100 * cell[name]:.1f}" for name in ("se_seeds", "se_points")}
    acrs = {"acr_clean": f"{cell['ACR clean']:.2f}", "acr_poisoned": f"{cell['ACR poisoned']:.2f}"}
    plain = {name: str(cell[name]) for name in ("seeds", "points", "target_class")}
    settings = rows[rows["attack"] == attack].iloc[0]
    numbers = {name: f"{settings[name]:g}" for name in ("sigma", "eps_linf", "epochs", "alpha")}
    return percent | errors | acrs | plain | numbers | {"n": f"{cell['n']:,}"}


def show_drops(table):
    """A table for readers: percentages with both 95 % intervals."""

    def interval(low, high):
        return [f"[{100 * a:.0f}, {100 * b:.0f}]" for a, b in zip(table[low], table[high])]

    shown = pd.DataFrame(
        {
            "trainer": table["trainer"].map(TRAINER_NAME),
            "σ": table["sigma"].map("{:g}".format),
            "attack": table["attack"].map(attack_name),
            "clean": table["ACR clean"].map("{:.3f}".format),
            "poisoned": table["ACR poisoned"].map("{:.3f}".format),
            "drop, %": (100 * table["drop"]).map("{:.0f}".format),
            "victims": interval("low_seeds", "high_seeds"),
            "and points": interval("low", "high"),
            "seeds": table["seeds"],
        }
    )
    return shown.style.hide(axis="index")


def attack_name(attack):
    return ATTACK_NAME.get(attack, f"control: {attack.replace('_', ' ')}")


def curves(axis, rows, radii, **line):
    """Mean certified accuracy over victim seeds, with a pointwise 95 % t band over the seeds."""
    values = [certified_accuracy(table, radii) for _, table in rows.groupby("seed")]  # (seeds, radii)
    mean, low, high = mean_interval(values)
    (drawn,) = axis.plot(radii, mean, **line)
    axis.fill_between(radii, low.clip(0), high.clip(max=1), color=drawn.get_color(), alpha=0.2, lw=0)


def curve_figure(rows):
    """Certified accuracy against radius, one panel a sigma, one colour a trainer, one line style an attack."""
    sigmas = sorted(rows["sigma"].unique())
    figure, axes = plt.subplots(1, len(sigmas), figsize=(max(6, 4 * len(sigmas)), 3.6), squeeze=False, sharey=True)
    for axis, sigma in zip(axes[0], sigmas):
        radii = np.linspace(0, 3.0 * sigma, 121)
        for (trainer, attack), table in rows[rows["sigma"] == sigma].groupby(["trainer", "attack"]):
            name = f"{TRAINER_NAME[trainer]}, {attack_name(attack)}"
            curves(axis, table, radii, color=TRAINER_COLOUR[trainer], ls=ATTACK_STYLE.get(attack, ":"), label=name)
        axis.set(xlabel="radius (pixel units, L2)", ylim=(0, 1), xlim=(0, radii[-1]))
        if len(sigmas) > 1:
            axis.set_title(f"σ = {sigma:g}", loc="left")
    axes[0, 0].set_ylabel("certified accuracy\nof the target class")
    axes[0, -1].legend(frameon=False)
    figure.tight_layout()
    return figure
