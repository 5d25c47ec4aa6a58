"""A *prediction*, without a guarantee, of the ACR that many more draws would give.

Empirical Bayes: the points' t = Phi^-1(p_A) are taken as draws from one smooth density, fitted to
the counts of few draws. Most points of a good network win nearly all of 2,000 draws, and how far
above that their p_A lies, the counts do not say; the smoothness does. So this is for developing.
What is certified, :mod:`pacd.certify` says.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import binom, norm

from pacd.counts import lower_bound, wins

GRID = np.linspace(-4, 7, 221)  # t; at n = 100,000 and alpha = 0.001 no radius is above 3.81 sigma
# Of the log density. In simulations degree 4 cannot follow two humps (bias 1.2 %); 8 can (0.3 %)
# and loses nothing elsewhere.
DEGREE, RIDGE = 8, 1.0


class Prediction(NamedTuple):
    """Predicted ACR (pixel units) with its interval. Not a certificate."""

    predicted_acr: float
    low: float
    high: float


def predict_acr(rows, n=100_000, alpha=0.001, *, level=0.95, resamples=40, seed=0):
    """Predict the ACR that :func:`pacd.certify.certify` would give at the same points with n draws.

    The interval covers what the counts leave open about each point and, by refitting to resampled
    points, about the density. It does not cover a density that no such polynomial describes, nor
    that shared noise makes the counts of points dependent.

    Parameters
    ----------
    rows : DataFrame
        As :func:`pacd.certify.certify` returns. Points whose guess is wrong have radius 0 for sure.
    n, alpha : int, float
        Of the run to predict.
    level : float
        Of the interval.
    resamples, seed : int
        Bootstrap samples of points, and their seed.

    Returns
    -------
    Prediction

    References
    ----------
    The log-polynomial density is Efron's g-modelling (Empirical Bayes deconvolution estimates,
    Biometrika 2016).
    """
    right = rows[(rows["guess"] == rows["label"]) & (rows["n"] > 0)]
    if not len(right):
        return Prediction(0.0, 0.0, 0.0)
    fit_to = likelihood(wins(right)[:, None], right["n"].to_numpy()[:, None])
    sigma = right["sigma"].to_numpy()
    mean, square = (radius_moment(n, alpha, power) for power in (1, 2))

    def predicted(density, values=mean):
        posterior = fit_to * density
        return posterior @ values / posterior.sum(1)

    density = fit_density(fit_to)
    radii = predicted(density)
    acr = (sigma * radii).sum() / len(rows)
    points = (sigma**2 * (predicted(density, square) - radii**2)).sum() / len(rows) ** 2
    generator = np.random.default_rng(seed)
    samples = (generator.integers(len(right), size=len(right)) for _ in range(resamples))
    refits = [
        (sigma * predicted(fit_density(fit_to[sample]))).sum() / len(rows) for sample in samples
    ]
    half = norm.ppf((1 + level) / 2) * np.sqrt(points + np.var(refits, ddof=1))
    return Prediction(acr, acr - half, acr + half)


def likelihood(k, n):
    """Likelihood of each point's k wins at each t of the grid, its maximum scaled to 1; (N, G)."""
    log = k * norm.logcdf(GRID) + (n - k) * norm.logsf(GRID)
    return np.exp(log - log.max(1, keepdims=True))


def fit_density(fit_to):
    """A density on the grid whose logarithm is a polynomial, by penalised likelihood; (G,)."""
    z = np.linspace(-1, 1, len(GRID))
    basis = np.linalg.qr(z[:, None] ** np.arange(DEGREE + 1))[0][:, 1:] * np.sqrt(
        len(GRID)
    )  # without the constant

    def loss(a):
        density = softmax(basis @ a)
        evidence = fit_to @ density
        posterior = (fit_to / evidence[:, None]).sum(0) * density
        return RIDGE * a @ a / 2 - np.log(evidence).sum(), RIDGE * a - basis.T @ (
            posterior - len(fit_to) * density
        )

    return softmax(basis @ minimize(loss, np.zeros(DEGREE), jac=True, method="L-BFGS-B").x)


@cache
def radius_moment(n, alpha, power, slices=100):
    """E[(radius / sigma)^power] over the counts of n draws, at each t of the grid.

    The counts are taken at their quantiles.
    """
    losses = binom.ppf((np.arange(slices) + 0.5) / slices, n, norm.sf(GRID)[:, None])  # (G, slices)
    return (norm.ppf(lower_bound(n - losses, n, alpha)).clip(0) ** power).mean(1)
