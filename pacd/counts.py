"""From counts of votes to certificates: bounds and radii; no network and no torch.

Rows are those of :func:`pacd.certify.certify`, and whoever has them can certify again.
"""

import numpy as np
from scipy.stats import beta, binom, norm

ABSTAIN = -1
STOPPED = -2  # the guess was wrong and no further draws were made


def lower_bound(k, n, alpha):
    """Clopper-Pearson: below p but with probability alpha, given k successes of n.

    Beta(alpha; k, n - k + 1) quantile; 0 at k = 0 and alpha^(1 / n) at k = n. Works on arrays.
    """
    return np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)


def counts_of(rows):
    """The counts in rows, (N, classes)."""
    return rows.filter(regex=r"^count_\d+$").to_numpy()


def wins(rows):
    """How many of its n draws the guess of each row won, (N,)."""
    return counts_of(rows)[range(len(rows)), rows["guess"]]


def bound(rows, alpha=None):
    """Radius of each row from its counts, at the rows' own alpha or another.

    Adds p_lower, prediction and radius.
    """
    alpha = rows["alpha"] if alpha is None else alpha
    p = lower_bound(wins(rows), rows["n"].to_numpy(), alpha)
    prediction = rows["guess"].where(p > 0.5, ABSTAIN).where(rows["n"] > 0, STOPPED)
    radius = (rows["sigma"] * norm.ppf(p)).where(prediction == rows["label"], 0.0)
    return rows.assign(alpha=alpha, p_lower=p, prediction=prediction, radius=radius)


def majority(counts, alpha):
    """The class that the smoothed classifier predicts, or ``ABSTAIN``.

    Guarantee: a class that is not the most probable one is returned with probability at most alpha
    (Cohen et al., arXiv 1902.02918, algorithm PREDICT).

    Parameters
    ----------
    counts : array of shape (N, classes)
        Votes under independent draws.
    alpha : float
        Level of the two-sided binomial test of the winner against the runner-up.

    Returns
    -------
    array of shape (N,)
    """
    second, first = np.sort(counts, 1)[:, -2:].T
    p_value = 2 * binom.sf(first - 1, first + second, 0.5)
    return np.where(p_value <= alpha, counts.argmax(1), ABSTAIN)
