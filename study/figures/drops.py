"""Drops of the ACR with their intervals: a line for each cell, or against a swept parameter."""

import matplotlib.pyplot as plt
import numpy as np

from study.figures.data import with_data
from study.style import (
    TRAINER_COLOUR,
    TRAINER_NAME,
    attack_colour,
    attack_name,
    column_name,
    line_style,
    named_values,
)

# Told apart without colour too.
MARK = {"first_order": "o", "uniform": "s", "direct_search": "^"}
WIDE, NARROW = ("low", "high"), ("low_seeds", "high_seeds")
INTERVALS = (
    "drop of the ACR, %\n(95 % intervals: thick over victims,\nthin over victims and test points)"
)


def drop_figure(table, label, colour="trainer", threshold=0.3):
    """The drop of every cell with its wide (thin) and its victims-only (thick) 95 % interval.

    Parameters
    ----------
    table : DataFrame
        As :func:`study.drops.drop_table` returns.
    label : list of str
        The columns that name a line.
    colour : str
        The column of trainers that gives a line its colour.
    threshold : float or None
        Drawn as a dotted line.
    """
    height = 1.4 + 0.34 * len(table)  # inches
    figure, axis = plt.subplots(figsize=(6, height))
    for y, (_, cell) in enumerate(table.iterrows()):
        _draw_cell(axis, y, cell, TRAINER_COLOUR[cell[colour]])
    axis.axvline(0, color="0.8", lw=1, zorder=0)
    if threshold:
        axis.axvline(100 * threshold, color="0.5", lw=1, ls=":", zorder=0)
    axis.set_yticks(range(len(table)), _names(table, label))
    axis.set(xlabel=INTERVALS, ylim=(len(table) - 0.5, -0.5))
    headline = ", ".join(map(column_name, label))  # of the names
    figure.text(0.01, 1 - 0.05 / height, headline, va="top", color="0.4")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.2 / height))
    return with_data(figure, in_percent(table, label, (*WIDE, *NARROW)))


def _draw_cell(axis, y, cell, colour):
    wide, narrow = (100 * cell[list(ends)].astype(float) for ends in (WIDE, NARROW))
    axis.plot(wide, [y, y], lw=1, color=colour)
    axis.plot(narrow, [y, y], lw=4, alpha=0.5, color=colour)
    axis.plot(100 * cell["drop"], y, "o", ms=5, color=colour)


def forest_figure(table, threshold=0.3):
    """The drop in each setting of trainer and noise, an attack a mark, with the wide interval.

    Parameters
    ----------
    table : DataFrame
        As :func:`study.drops.drop_table` returns, with trainer, sigma and attack.
    threshold : float
        Drawn as a dotted line.
    """
    settings = list(dict.fromkeys(zip(table["trainer"], table["sigma"])))
    attacks = [name for name in MARK if name in set(table["attack"])]
    figure, axis = plt.subplots(figsize=(6, 1.4 + 0.5 * len(settings)))
    for place, attack in enumerate(attacks):
        lines = table[table["attack"] == attack]
        y = [settings.index(cell) for cell in zip(lines["trainer"], lines["sigma"])]
        offset = 0.22 * (place - (len(attacks) - 1) / 2)
        bars = {"fmt": MARK[attack], "color": attack_colour(attack), "ms": 5, "lw": 1}
        spots = 100 * lines["drop"], np.add(y, offset)
        axis.errorbar(*spots, xerr=drop_bars(lines), label=attack_name(attack), **bars)
    axis.axvline(0, color="0.8", lw=1, zorder=0)
    axis.axvline(100 * threshold, color="0.5", lw=1, ls=":", zorder=0)
    names = [f"{TRAINER_NAME[trainer]}, σ = {sigma:g}" for trainer, sigma in settings]
    axis.set_yticks(range(len(settings)), names)
    axis.set(xlabel="drop of the ACR, %", ylim=(len(settings) - 0.5, -0.5))
    figure.legend(frameon=False, loc="upper center", ncol=3, handlelength=1, columnspacing=1)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.3 / figure.get_figheight()))
    drawn = table[table["attack"].isin(attacks)]
    return with_data(figure, in_percent(drawn, ["trainer", "sigma", "attack"]))


def _names(table, label):
    parts = [named_values(table[column]) for column in label]
    return [", ".join(name) for name in zip(*parts)]


def sweep_figure(table, x, label):
    """The drop against a swept parameter, a line style an attack, with the wide 95 % intervals."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    bars = {"marker": "o", "ms": 4, "lw": 1.5, "elinewidth": 1, "capsize": 3}
    for attack, line in table.sort_values(x).groupby("attack", sort=False):
        style = {
            "color": TRAINER_COLOUR[line["trainer"].iloc[0]],
            "ls": line_style(attack),
            "label": attack_name(attack),
        }
        axis.errorbar(line[x], 100 * line["drop"], drop_bars(line), **bars, **style)
    axis.axhline(0, color="0.8", lw=1, zorder=0)
    axis.set(xlabel=label, ylabel="drop of the ACR, %\n(95 % over victims and points)")
    axis.legend(frameon=False)
    figure.tight_layout()
    return with_data(figure, in_percent(table, ["attack", x]))


def in_percent(table, names, ends=WIDE):
    """Some columns of a table of drops, and its drops and intervals in per cent (DataFrame)."""
    shares = table[["drop", *ends]].astype(float)
    return table[list(names)].join(100 * shares.add_suffix("_percent"))


def drop_bars(line):
    """Lengths of the bars below and above the drops of a table, in per cent, shape (2, N)."""
    return 100 * np.array([line["drop"] - line["low"], line["high"] - line["drop"]])
