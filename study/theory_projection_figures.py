"""Figures of the chapter's page on a projection as the first layer: the embedded digits."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pacd.data import load
from study import theory_digits
from study import theory_projection as projection
from study.figures.data import with_data
from study.style import BELOW, BLACK, BLUE, GREEN, GREY, VERMILION

COUNTS = (0, 1, 3, 6, 10, 15, 21, 28, 36, 45)  # the components of i + j below 0, 1, .. 9
EPS, SHAPE, TARGET, OTHER = 0.1, (1, 28, 28), 8, 3
LENGTHS = {
    "bound": ("longest change: proved bound", BLUE, "-", ""),
    "found": ("longest change: found", BLUE, "--", "o"),
    "bright": ("every pixel brighter", VERMILION, ":", "s"),
    "free": ("pixels without bounds: at least", GREY, "-.", ""),
}
MARGINS = {
    "clean": ("clean", BLACK, "-", ""),
    "bright_margin": ("every pixel brighter", VERMILION, ":", "s"),
    "worst": ("the worst that was found", GREEN, "--", "o"),
    "floor": ("proved floor", GREEN, "-", ""),
}


@cache
def digits():
    """Training 8s, (N, k), and the difference of the training means of 8 and 3, (k,)."""
    splits = load("mnist5k")
    x, y = theory_digits.pick(splits.x_train, splits.y_train, TARGET, [OTHER])
    x, eights = theory_digits.flat(x), np.array(y == 1)
    return x[eights], x[eights].mean(0) - x[~eights].mean(0)


@cache
def table():
    """Lengths and margins of the embedded digits, eps = ``EPS``, for each count in ``COUNTS``.

    Returns
    -------
    DataFrame
        gap: distance of the class means. bound, found, bright: length of a change of the target's
        mean that is behind the projection at most, of one that was found, and of all pixels up by
        eps. free: what an attacker has at least whose pixels have no bounds. clean, floor, worst,
        bright_margin: margin of the target's clean mean.
    """
    x, d = digits()
    low, high = projection.mean_box(x, EPS)
    return pd.DataFrame([_row(count, d, low, high) for count in COUNTS]).set_index("count")


@cache
def longest(count):
    """The longest change of the mean that was found, (k,), where so many components go."""
    low, high = projection.mean_box(digits()[0], EPS)
    return projection.longest_found(low, high, projection.cosines(SHAPE, count))


def _row(count, d, low, high):
    removed = projection.cosines(SHAPE, count)
    bound = projection.longest_bound(low, high, removed)
    shifts = np.array([longest(count), high, projection.worst_found(d, low, high, removed)])
    length, bright, _ = np.linalg.norm(projection.without(shifts, removed), axis=1)
    _, bright_margin, worst = projection.margin(shifts, d, removed)
    gap, free = np.linalg.norm(projection.without(d, removed)), np.full(len(d), EPS)
    return {
        "count": count,
        "gap": gap,
        "bound": bound,
        "found": length,
        "bright": bright,
        "free": projection.corner_mean(-free, free, removed),
        "clean": gap / 2,
        "floor": projection.margin_floor(d, bound, removed),
        "worst": worst,
        "bright_margin": bright_margin,
    }


def plot():
    """Lengths that are left to the attacker, and margins that are left to the target."""
    figure, axes = plt.subplots(2, 1, figsize=(6, 9))
    titles = "change of the mean", "margin of the mean 8"
    for axis, lines, title in zip(axes, (LENGTHS, MARGINS), titles):
        for name, (label, color, dash, marker) in lines.items():
            style = {"color": color, "ls": dash, "marker": marker, "ms": 4, "label": label}
            axis.plot(range(len(COUNTS)), table()[name], **style)
        axis.set_xticks(range(len(COUNTS)), COUNTS)
        axis.set(xlabel="removed components", ylabel=f"{title} (L2)", ylim=(0, None))
        axis.legend(**BELOW)
    figure.tight_layout()
    return with_data(figure, table()[[*LENGTHS, *MARGINS]].reset_index())


def plot_changes(counts=(0, 1, 6, 15)):
    """The longest changes of the mean that were found, as the learner sees them."""
    figure, axes = plt.subplots(1, len(counts), figsize=(6, 1.9))
    for axis, count in zip(axes, counts):
        removed = projection.cosines(SHAPE, count)
        seen = projection.without(longest(count), removed)
        axis.imshow(seen.reshape(SHAPE[1:]), cmap="RdBu", vmin=-EPS, vmax=EPS)
        axis.set_title(f"{count} removed")
        axis.axis("off")
    figure.tight_layout()
    return figure
