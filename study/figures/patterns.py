"""What a poison looks like, and what victims make of the pattern that its images share."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from study.figures.curves import band, banded
from study.figures.data import labelled, with_data
from study.intervals import mean_interval
from study.style import BELOW, BLACK, BLUE, GREY, ORANGE, TRAINER_COLOUR

PART_NAME = {"shift": "one brightness", "pattern": "one pattern", "own": "the image's own"}
PART_COLOUR = {"shift": ORANGE, "pattern": BLUE, "own": GREY}
GREY_LEVELS = {"cmap": "gray", "vmin": 0, "vmax": 1}


def threat_figure(images, before, after):
    """Images before and after a poison, and the mean certified balls before and after.

    Parameters
    ----------
    images : dict of arrays of shape (H, W) or (H, W, 3)
        By their titles, pixel units.
    before, after : float
        ACR of clean and of poisoned victims, pixel units; the balls are drawn to one scale.
    """
    figure, axes = plt.subplots(1, len(images) + 1, figsize=(6, 1.8), layout="constrained")
    for axis, (title, image) in zip(axes, images.items()):
        axis.imshow(image, **GREY_LEVELS)
        axis.set_title(title)
    for radius, colour in ((before, BLACK), (after, BLUE)):
        axes[-1].add_patch(plt.Circle((0, 0), radius, fill=False, color=colour, lw=2))
    axes[-1].set_title(f"radius {before:.2f}", color=BLACK)
    axes[-1].text(0, -1.1 * before, f"poisoned {after:.2f}", ha="center", va="top", color=BLUE)
    edge = 1.05 * before
    axes[-1].set(xlim=(-edge, edge), ylim=(-1.5 * before, edge), aspect="equal")
    for axis in axes:
        axis.set_axis_off()
    return figure


def pattern_figure(patterns, eps):
    """Mean changes of poisons side by side.

    Parameters
    ----------
    patterns : dict
        Arrays of shape (H, W), pixel units, by their names.
    eps : float
        End of the scale, pixel units.
    """
    columns = min(2, len(patterns))
    lines = -(-len(patterns) // columns)
    options = {"figsize": (6, 2.7 * lines), "layout": "constrained", "squeeze": False}
    figure, axes = plt.subplots(lines, columns, **options)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, pattern) in zip(axes.flat, patterns.items()):
        image = axis.imshow(pattern, cmap="PuOr", vmin=-eps, vmax=eps)
        axis.set_title(name)
    figure.colorbar(image, ax=axes, label="mean change (pixel units)", shrink=0.8)
    return figure


def parts_figure(shares):
    """What each poison's squared change is made of, a bar each.

    Parameters
    ----------
    shares : DataFrame
        Shares (columns ``shift``, ``pattern``, ``own``) by the poison's name.
    """
    figure, axis = plt.subplots(figsize=(6, 1.3 + 0.45 * len(shares)), layout="constrained")
    left = np.zeros(len(shares))
    for name, colour in PART_COLOUR.items():
        axis.barh(shares.index, 100 * shares[name], left=left, color=colour, label=PART_NAME[name])
        left += 100 * shares[name]
    axis.invert_yaxis()
    axis.set(xlabel="share of the squared change, %", xlim=(0, 100))
    figure.legend(frameon=False, ncol=3, loc="outside upper center", handlelength=1)
    drawn = 100 * shares[list(PART_COLOUR)].add_suffix("_percent")
    return with_data(figure, drawn.rename_axis("attack").reset_index())


def shortcut_figure(rows, trainer="gaussian"):
    """Share of noisy votes for the target class against the pattern's strength.

    A line for each kind of images and of victims, with 95 % bands over victims.
    """
    figure, axis = plt.subplots(figsize=(6, 3.8))
    drawn = []
    for (victim, images), line in rows.groupby(["victim", "images"]):
        table = line.pivot(index="seed", columns="strength", values="share")
        name = f"images of the {'class' if images == 'target' else 'others'}, {victim} victims"
        found = _draw_votes(axis, table, victim, images, TRAINER_COLOUR[trainer], name)
        drawn.append(labelled(found, victim=victim, images=images))
    axis.set(xlabel="strength of the pattern (1: as in the poison)", ylim=(0, 1.02))
    axis.set(ylabel="noisy votes\nfor the target class, %")
    axis.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f}")
    axis.legend(**BELOW)
    figure.tight_layout()
    return with_data(figure, pd.concat(drawn))


def _draw_votes(axis, table, victim, images, colour, name):
    interval = mean_interval(table)  # of (seeds, strengths)
    style = {
        "ls": "-" if victim == "clean" else "--",
        "marker": "o" if images == "target" else "s",
        "color": colour,
    }
    axis.plot(table.columns, interval[0], ms=4, label=name, **style)
    band(axis, table.columns, interval, colour)
    return banded("strength", table.columns, "share", interval)


def examples_figure(images, similarity, eps):
    """The images with the highest, the median and the lowest SSIM, and what the poison changes.

    Parameters
    ----------
    images : sequence of three arrays of shape (m, 1, H, W)
        Originals and poison (pixel units), and the change (levels of 255).
    similarity : array of shape (m,)
        SSIM of each pair.
    eps : float
        Largest change of a pixel, pixel units.
    """
    ranked = np.argsort(similarity)
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    scale = {"cmap": "gray", "vmin": -255 * eps, "vmax": 255 * eps}
    figure, axes = plt.subplots(3, 3, figsize=(4.2, 4.6), layout="constrained")
    for line, (name, i) in zip(axes, chosen.items()):
        for axis, pictures, style in zip(line, images, (GREY_LEVELS, GREY_LEVELS, scale)):
            shown = axis.imshow(pictures[i, 0], **style)
        line[0].set_ylabel(f"{name}\nSSIM {similarity[i]:.2f}")
    for axis, title in zip(axes[0], ("original", "poison", "difference")):
        axis.set_title(title)
    _framed(axes)
    _scale_below(figure, shown, axes, "difference, levels of 255")
    return figure


def mean_figure(original, change, eps):
    """The mean original of a class and the mean change (levels of 255) of its images."""
    scale = {"cmap": "gray", "vmin": -255 * eps, "vmax": 255 * eps}
    figure, axes = plt.subplots(1, 2, figsize=(4.2, 2.6), layout="constrained")
    axes[0].imshow(original.mean(0)[0], **GREY_LEVELS)
    shown = axes[1].imshow(change.mean(0)[0], **scale)
    for axis, title in zip(axes, ("mean original", "mean change")):
        axis.set_title(title)
    _framed(axes)
    _scale_below(figure, shown, axes, "mean change, levels of 255")
    return figure


def _framed(axes):
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)  # a white difference needs a border


def _scale_below(figure, shown, axes, label):
    figure.colorbar(shown, ax=axes, orientation="horizontal", aspect=30, label=label)


def misled_figure(images, before, after):
    """Six test images, each under its mean radius before and after poisoning.

    ``images`` maps a test point to an array (H, W); ``before`` and ``after`` map it to radii.
    """
    figure, axes = plt.subplots(2, 3, figsize=(4.2, 3.4), layout="constrained")
    for axis, (point, image) in zip(axes.flat, images.items()):
        axis.imshow(image, **GREY_LEVELS)
        radii = f"{before[point].mean():.2f} → {after[point].mean():.2f}"
        axis.set_title(radii)
        axis.set_axis_off()
    return figure
