"""From counts of votes to certificates: bounds and radii; no network and no torch.

Rows are those of :func:`pacd.certify.certify`, and whoever has them can certify again.
"""

import numpy as np
from scipy.stats import beta, binom, norm

ABSTAIN = -1
STOPPED = -2  # the guess was wrong and no further draws were made


def lower_bound(k, n, alpha, u=1.0):
    """Below p but with probability alpha, given k successes of n; works on arrays.

    The p at which P(K > k) + u P(K = k) = alpha. With u = 1 it is Clopper and Pearson's: the
    Beta(alpha; k, n - k + 1) quantile, 0 at k = 0 and alpha^(1 / n) at k = n. With u uniform on (0,
    1), drawn without looking, it is the randomised bound (Voracek, arXiv 2406.17830): never lower.
    """
    k, n, alpha, u = np.broadcast_arrays(k, n, alpha, u)
    low = np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)
    some = (u < 1) & (n > 0)
    if some.any():
        low[some] = _randomised(k[some], n[some], alpha[some], u[some], low[some])
    return low


def _randomised(k, n, alpha, u, low):
    """Bisection between the bounds of k and of k + 1; what it returns is never above the root."""
    high = np.where(k < n, beta.ppf(alpha, k + 1, np.maximum(n - k, 1)), 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = binom.sf(k, n, middle) + u * binom.pmf(k, n, middle) <= alpha
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def fewest_draws(alpha):
    """With fewer draws nothing can be certified: alpha^(1 / n) is not above 1/2."""
    return int(-np.log2(alpha)) + 1


def looks_at(n, first=1000):
    """After how many draws to look, n being the last: each time twice as many as before."""
    earlier = [first * 2**i for i in range(30)]
    return [look for look in earlier if look < n] + [n]


def unsettled(k, n, alpha, rates, doubt=0.01):
    """Whether more draws could still raise the highest of ``rates`` below the bound; (N,).

    Parameters
    ----------
    k, n : array of shape (N,), int
    alpha : float
        Of the bound at this look.
    rates : array, ascending
    doubt : float
        A rate counts as out of reach if p is below it at this level. Of no account for the
        guarantee: it decides only how long to go on.
    """
    low, high = lower_bound(k, n, alpha), 1 - lower_bound(n - k, n, doubt)
    following = np.searchsorted(rates, low, side="right")
    return high >= np.append(rates, np.inf)[following]


def counts_of(rows):
    """The counts in rows, (N, classes)."""
    classes = rows.filter(regex=r"^count_\d+$").shape[1]
    return rows[[f"count_{c}" for c in range(classes)]].to_numpy()


def wins(rows):
    """How many of its n draws the guess of each row won, (N,)."""
    return counts_of(rows)[range(len(rows)), rows["guess"]]


def bound(rows, alpha=None):
    """Radius of each row from its counts, at the rows' own alpha or another.

    Rows that were looked at several times share alpha among their ``looks``; ``u`` is that of
    :func:`lower_bound`. Rows without them were looked at once, and their bound is exact. Adds
    p_lower, prediction and radius.
    """
    alpha = rows["alpha"] if alpha is None else alpha
    looks = rows["looks"].fillna(1) if "looks" in rows else 1  # rows of old: once
    p = lower_bound(wins(rows), rows["n"].to_numpy(), alpha / looks, rows.get("u", 1.0))
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
