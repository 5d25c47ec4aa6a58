"""What fewer draws would have given, from rows of many: at one look, with a coin, or stopped early.

The order of a row's draws is not in it, and any order is as likely as another. So a run of fewer
draws is a draw without replacement from its counts, and a run that looks several times is a chain
of such draws.
"""

import numpy as np
import pandas as pd

from pacd.certify import coins
from pacd.counts import bound, looks_at, unsettled, wins
from study.intervals import recertify


def with_coin(rows, seed=0):
    """The same rows under the randomised bound."""
    return bound(rows.assign(u=coins(len(rows), seed)))


def stopped_early(rows, rates, n, seed=0):
    """Rows as :func:`pacd.certify.certify` makes them that looks after 1,000 draws, 2,000 ...

    Parameters
    ----------
    rows : DataFrame
        Of at least n draws; stopped rows stay stopped.
    rates : array
        Phi(radius / sigma) of the radii that one asks about, ascending.
    n : int
        Most draws of a point.
    seed : int

    Returns
    -------
    DataFrame
        Its counts are those of the guess and of the rest.
    """
    generator, looks = np.random.default_rng(seed), looks_at(n)
    pool = np.stack([wins(rows), rows["n"] - wins(rows)], 1)  # (N, 2): won and lost, not yet seen
    taken = np.zeros_like(pool)
    going = np.flatnonzero(rows["n"] > 0)
    for before, look in zip([0, *looks], looks):
        for row in going:
            part = generator.multivariate_hypergeometric(pool[row], look - before)
            pool[row] -= part
            taken[row] += part
        level = rows["alpha"].iloc[0] / len(looks)
        going = going[unsettled(taken[going, 0], look, level, rates)]
    return bound(_two_classes(rows, taken).assign(looks=len(looks)))


def _two_classes(rows, counts):
    """Rows whose classes are the guess, 0, and all others, 1."""
    wrong = (rows["guess"] != rows["label"]).astype(int)
    kept = rows[["alpha", "sigma"]].reset_index(drop=True)
    told = {"label": wrong.to_numpy(), "guess": 0, "n": counts.sum(1)}
    return kept.assign(**told, count_0=counts[:, 0], count_1=counts[:, 1])


def ladder(rows, draws, rates, seed=0):
    """ACR by the number of draws and the way of drawing.

    Returns
    -------
    DataFrame
        Columns way (``one look``, ``with a coin``, ``stopped early``), n, draws (mean of a point,
        guess's not counted) and acr (in units of sigma).
    """
    found = []
    for n in draws:
        fixed = recertify(rows, n=n, seed=seed)
        early = stopped_early(rows, rates, n, seed)
        ways = {"one look": fixed, "with a coin": with_coin(fixed, seed), "stopped early": early}
        for way, table in ways.items():
            acr = (table["radius"] / table["sigma"]).mean()
            found.append({"way": way, "n": n, "draws": table["n"].mean(), "acr": acr})
    return pd.DataFrame(found)
