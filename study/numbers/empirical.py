"""Attacks on the smoothed classifier beside its certificates."""

import numpy as np

from study.figures.curves import resistance_figure
from study.grid import shown
from study.numbers.shared import load

EXPERIMENTS = ("empirical",)
PROFILE = shown(*EXPERIMENTS)


def numbers(profile=PROFILE):
    """What the page says (dict of text and counts)."""
    rows = load(profile, "empirical")
    certified = rows[rows["radius"] > 0]
    inside = certified["empirical_radius"] < certified["radius"]
    return {
        "inside": int(inside.sum()),
        "certificates": f"{len(certified):,}",
        "alpha": f"{rows['alpha'].iloc[0]:g}",
        **of_side(rows, "none"),
        **of_side(rows, "first_order"),
        **of_grid(rows["empirical_radius"]),
    }


def of_side(rows, attack):
    """At which radius points are moved: in the middle, before any attack, and never."""
    reached = rows.loc[rows["attack"] == attack, "empirical_radius"]
    return {
        f"median_{attack}": f"{np.median(reached):g}",
        f"wrong_{attack}": f"{100 * (reached == 0).mean():.0f}",
        f"never_{attack}": f"{100 * np.isinf(reached).mean():.0f}",
    }


def of_grid(radii):
    """The step of the radii that were tried, and the last of them."""
    tried = np.unique(radii[np.isfinite(radii)])
    return {"grid": f"{np.diff(tried).min():g}", "last": f"{tried.max():g}"}


def curves(profile=PROFILE):
    """Certified and under attack, clean and poisoned."""
    return resistance_figure(load(profile, "empirical"))
