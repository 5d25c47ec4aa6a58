"""Statistics of the ledger's claims on what the first layer subtracts."""

import numpy as np
import pandas as pd

from study.intervals import by_seed, paired_drop
from study.statistics import Cell


def drop_at(rows, t):
    """The drop where t is subtracted, and what each victim and test point adds to it, (S, P)."""
    rows = rows[np.isclose(rows["subtract"], t)]
    clean, poisoned = (by_seed(rows[rows["attack"] == name]) for name in ("none", "uniform"))
    if not (clean.index.equals(poisoned.index) and clean.columns.equals(poisoned.columns)):
        raise ValueError("clean and poisoned rows must have the same seeds and test points.")
    clean, poisoned = clean.to_numpy(), poisoned.to_numpy()
    ratio = poisoned.mean() / clean.mean()
    return 1 - ratio, (ratio * clean - poisoned) / clean.mean()


def interval(value, influence):
    """`paired_drop`'s interval of a function of drops, from what each victim and point adds."""
    seeds, points = np.indices(influence.shape)
    rows = pd.DataFrame({"seed": seeds.ravel(), "index": points.ravel()})
    found = paired_drop(rows.assign(radius=1.0), rows.assign(radius=1 - value - influence.ravel()))
    return found.drop, found.low, found.high


def difference(one, other):
    """One drop minus another, with its interval; each as `drop_at` returns it."""
    return interval(one[0] - other[0], one[1] - other[1])


def quotient(one, other):
    """One drop over another, with its interval."""
    ratio = one[0] / other[0]
    return interval(ratio, (one[1] - ratio * other[1]) / other[0])


def _estimate(cell, found, rows, *paths):
    return Cell(cell, *found, rows["seed"].nunique(), [path.stem for path in paths])


def less_lost(rows, by, path):
    """For each pair of constants, the drop at the first less that at the second."""
    for first, second in by:
        found = difference(drop_at(rows, first), drop_at(rows, second))
        yield _estimate(f"{first:g} less {second:g}", found, rows, path)


def longer(rows, by, path):
    """The drop after longer training less that after shorter, for each subtracted constant."""
    long = path.with_name(f"{path.stem}_long.csv")
    if not long.exists():
        return
    table = pd.read_csv(long)
    rows = rows[rows["seed"].isin(table["seed"])]
    for t in by:
        found = difference(drop_at(table, t), drop_at(rows, t))
        yield _estimate(f"{t:g}", found, table, path, long)


def still_lost(rows, by, path):
    """The drop where a constant is subtracted over that where none is."""
    for t in by:
        found = quotient(drop_at(rows, t), drop_at(rows, 0.0))
        yield _estimate(f"{t:g}", found, rows, path)


def kept(rows, by, path):
    """`still_lost` less the share that prop-share predicts for a penalty of 0.01."""
    prediction = path.with_name("first_layer_linear_prediction.csv")
    table = pd.read_csv(prediction)
    table = table[np.isclose(table["gamma"], 0.01) & (table["attack"] == "uniform")]
    shares = table.set_index("subtract")["share"]
    for cell in still_lost(rows, by, path):
        share = shares[float(cell.cell)]
        ends = {name: getattr(cell, name) - share for name in ("estimate", "low", "high")}
        yield cell._replace(**ends, runs=[path.stem, prediction.stem])


STATISTICS = {
    "less_lost": less_lost,
    "longer": longer,
    "still_lost": still_lost,
    "kept_share": kept,
}
