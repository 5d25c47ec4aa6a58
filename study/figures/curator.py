"""What detectors find of a poison, and what mitigations leave of it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.figures.data import labelled, with_data
from study.intervals import by_seed, mean_interval
from study.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, attack_name, spaced

SETTING = ["attack", "fraction"]  # of a poison
DETECTOR_STYLE = {
    "background": (ORANGE, "-"),
    "knn_pixels": (ORANGE, "--"),
    "knn_features": (SKY, "-"),
    "spectral": (SKY, "--"),
    "high_loss": (PURPLE, "-"),
    "low_loss": (PURPLE, "--"),
}
POISON_COLOURS = (VERMILION, BLUE, PURPLE, GREEN, SKY)


def setting_name(attack, fraction):
    """A poison's attack and the share of the class it takes, as readers know them."""
    return f"{attack_name(attack)}, {100 * fraction:g} %"


def roc_figure(scores):
    """Share of the poison found against share of false alarms, a panel for each setting.

    Parameters
    ----------
    scores : DataFrame
        A line for each poison and detector, with columns ``tpr_<false positive rate>``.
    """
    panels = list(scores.groupby(SETTING))
    figure, axes = _panels(len(panels))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    drawn = []
    for axis, (key, table) in zip(axes.flat, panels):
        drawn += [labelled(line, **dict(zip(SETTING, key))) for line in _draw_roc(axis, table)]
        axis.set_title(setting_name(*key), loc="left")
    for axis in axes[:, 0]:
        axis.set_ylabel("true positive rate")
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, frameon=False, ncols=3, loc="lower center")
    figure.tight_layout(rect=(0, 0.16 / len(axes), 1, 1))
    return with_data(figure, pd.concat(drawn))


def _panels(number):
    columns = min(3, number)
    lines = -(-number // columns)
    size = (max(5, 3 * columns), 3.4 * lines)
    return plt.subplots(lines, columns, figsize=size, squeeze=False, sharex=True, sharey=True)


def _draw_roc(axis, table):
    columns = [column for column in table if column.startswith("tpr_")]
    rates = [float(column.removeprefix("tpr_")) for column in columns]
    axis.plot([0, 1], [0, 1], color="0.8", zorder=0)  # guessing
    drawn = []
    for detector, curve in table.groupby("detector", sort=False):
        colour, line = DETECTOR_STYLE[detector]
        found = curve[columns].mean().to_numpy()
        axis.plot(rates, found, color=colour, ls=line, label=spaced(detector))
        rows = pd.DataFrame({"false_positive_rate": rates, "true_positive_rate": found})
        drawn.append(labelled(rows, detector=detector))
    axis.set(xlim=(-0.01, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1), xlabel="false positive rate")
    return drawn


def mitigation_figure(victims):
    """ACR of the poisoned class by mitigation, with 95 % t intervals over victim seeds."""
    kinds = list(dict.fromkeys(victims["curation"]))
    poisons = sorted(victims[victims["attack"] != "none"].groupby(SETTING).groups)
    figure, axis = plt.subplots(figsize=(6, 1.4 + 0.5 * len(kinds)), layout="constrained")
    places = 0.5 * (np.arange(len(poisons) + 1) - len(poisons) / 2) / (len(poisons) + 1)
    clean = victims[victims["attack"] == "none"]
    found = _draw_acrs(axis, clean, kinds, places[0], color=BLACK, label="clean")
    drawn = [labelled(found, attack="none", fraction=0.0)]
    for i, (attack, fraction) in enumerate(poisons):
        chosen = victims[(victims["attack"] == attack) & (victims["fraction"] == fraction)]
        style = {"color": POISON_COLOURS[i % len(POISON_COLOURS)], "mfc": "white"}
        name = setting_name(attack, fraction)
        found = _draw_acrs(axis, chosen, kinds, places[i + 1], label=name, **style)
        drawn.append(labelled(found, attack=attack, fraction=fraction))
    axis.set_yticks(range(len(kinds)), map(spaced, kinds))
    axis.invert_yaxis()
    axis.set(xlim=(0, None), xlabel="ACR of the class (pixel units, L2)")
    figure.legend(frameon=False, ncol=len(poisons) + 1, loc="outside upper center")
    return with_data(figure, pd.concat(drawn))


def _draw_acrs(axis, victims, kinds, shift, **style):
    for_kind = {
        kind: mean_interval(by_seed(part).mean(axis=1))
        for kind, part in victims.groupby("curation")
    }
    at = np.array([kinds.index(kind) for kind in for_kind]) + shift
    mean, low, high = np.array(list(for_kind.values())).T
    bars = [mean - low, high - mean]
    axis.errorbar(mean, at, xerr=bars, fmt="o", ms=5, capsize=3, **style)
    return pd.DataFrame({"curation": list(for_kind), "acr": mean, "low": low, "high": high})
