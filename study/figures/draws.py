"""What more noise draws buy."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm

from pacd.counts import lower_bound
from study.figures.data import labelled, with_data
from study.style import BLACK, BLUE, GREY, VERMILION

WAY_STYLE = {
    "one look": {"color": BLACK, "marker": "o", "label": "all draws, one look"},
    "with a coin": {"color": BLUE, "marker": "x", "ls": ":", "label": "the same, randomised bound"},
    "stopped early": {"color": VERMILION, "marker": "s", "ls": "--", "label": "stopped early"},
}


def draws_figure(ladders, alpha=0.001):
    """ACR against the mean number of draws, a panel for each model.

    Parameters
    ----------
    ladders : dict of DataFrame
        As :func:`study.looks.ladder` returns, by title.
    alpha : float
        Of the cap, the radius of a point that wins every draw.
    """
    figure, axes = plt.subplots(len(ladders), 1, figsize=(5, 5.6), sharex=True, sharey=True)
    drawn = []
    for axis, (title, table) in zip(axes, ladders.items()):
        for way, line in table.groupby("way", sort=False):
            axis.plot(line["draws"], line["acr"], ms=5, lw=1.2, **WAY_STYLE[way])
        n = np.geomspace(table["draws"].min(), table["n"].max(), 50)
        most = norm.ppf(lower_bound(n, n, alpha))
        axis.plot(n, most, color=GREY, lw=1, label="most possible")
        cap = pd.DataFrame({"way": "most possible", "draws": n, "acr": most})
        lines = pd.concat([table[["way", "draws", "acr"]], cap])
        drawn.append(labelled(lines, model=title))
        axis.set(xscale="log", ylabel="ACR, units of σ", ylim=(0, 4))
        axis.set_title(title, loc="left")
    axes[-1].set_xlabel("draws of a point, mean")
    axes[-1].legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.18))
    figure.tight_layout()
    return with_data(figure, pd.concat(drawn))
