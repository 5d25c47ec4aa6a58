"""Why the first layer decides: linear learners on pixels less a constant t, in closed form.

The learners are Gaussian-augmented least squares on x - t, once with a penalised intercept and once
stopped early. Statements such as ``prop-intercept`` are those of the book's theory chapter.
"""

import numpy as np

from study import theory


def overall_mean(summary, t=0.0):
    """a, (k,): the mean of all training points less t, where t is a number or of shape (k,)."""
    return summary.base + summary.p * summary.d - t


def shrinkage(gamma):
    """kappa = gamma / (1 + gamma), from 0 (free intercept) to 1 (none) (prop-intercept)."""
    return gamma / (1 + gamma)


def penalised_boundary(summary, t, sigma, gamma):
    """What least squares with noise and a penalised intercept learns from x - t (prop-intercept).

    Parameters
    ----------
    summary : theory.Summary
        Of the training points x, before t is subtracted.
    t : float or array of shape (k,)
        Subtracted from every pixel, in pixel units.
    sigma, gamma : float
        Noise of the augmentation, pixel units; penalty of the squared intercept, 0 for none.

    Returns
    -------
    w, b : arrays of shape (k,) and ()
        The boundary w.x + b = 0 in pixels x, t included.
    """
    p, a, kappa = summary.p, overall_mean(summary, t), shrinkage(gamma)
    matrix = _centred_moments(summary, sigma) + kappa * np.outer(a, a)
    moment = 2 * p * (1 - p) * summary.d + kappa * (2 * p - 1) * a
    w = np.linalg.solve(matrix, moment)
    b = (1 - kappa) * (2 * p - 1 - a @ w)
    return w, b - np.sum(t * w)


def _centred_moments(summary, sigma):
    """Covariance of all training points plus noise: C + sigma^2 I + p q dd'."""
    p, d = summary.p, summary.d
    return summary.cov + sigma**2 * np.eye(len(d)) + p * (1 - p) * np.outer(d, d)


def kept_share(v, a, B, gamma):
    """Share of the squared length v'Bv that a penalised intercept leaves of v (prop-share).

    v and a, (k,), are a shift of training points and the mean less t; B is `theory.ga_rule`'s.
    """
    kappa = shrinkage(gamma)
    return 1 - kappa * (a @ B @ v) ** 2 / ((1 + kappa * a @ B @ a) * (v @ B @ v))


def brightness_share(M, tau, gamma):
    """`kept_share` where C + sigma^2 I = tau I and a = M g with g along v (prop-share)."""
    return tau / (tau + shrinkage(gamma) * M**2)


def brightness_margin(D, r, M, tau, gamma):
    """Margin of the clean target mean after a shift of length r across the classes (prop-share).

    Equal classes D apart, C + sigma^2 I = tau I, all training points' mean less t is M g, and the
    target moved by r g, g a unit vector orthogonal to the difference of the classes.
    """
    s = brightness_share(M, tau, gamma)
    numerator = D**2 - s * r**2 + 2 * shrinkage(gamma) * M * s * r
    return numerator / (2 * np.sqrt(D**2 + s**2 * r**2))


def slow_rate(M, tau):
    """Smallest eigenvalue of the block [[tau + M^2, M], [M, 1]] of brightness and intercept.

    Between tau / (1 + tau + M^2) and tau / (1 + M^2) (prop-early).
    """
    trace = 1 + tau + M**2
    return 2 * tau / (trace + np.sqrt(trace**2 - 4 * tau))


def descent(summary, t, sigma, steps, rate=None):
    """Gradient descent on noisy least squares of x - t, a free intercept, from zero (prop-early).

    Parameters
    ----------
    summary, t, sigma
        As in `penalised_boundary`.
    steps : int or array of int
        Numbers of steps.
    rate : float, optional
        theta moves by -rate (H theta - m), half the gradient; None: 1 over H's largest eigenvalue.

    Returns
    -------
    w, b : arrays of shape (..., k) and (...)
        As in `penalised_boundary`, one boundary for each number of steps.
    """
    H, moment = second_moments(summary, t, sigma)
    values, vectors = np.linalg.eigh(H)
    rate = 1 / values[-1] if rate is None else rate
    left = (1 - rate * values) ** np.asarray(steps)[..., None]
    theta = ((1 - left) / values * (moment @ vectors)) @ vectors.T
    w = theta[..., :-1]
    return w, theta[..., -1] - np.sum(t * w, -1)


def second_moments(summary, t, sigma):
    """H, (k + 1, k + 1), and m: the loss is theta.H theta - 2 m.theta + 1 (prop-early)."""
    p, a = summary.p, overall_mean(summary, t)
    last = np.append(a, 1.0)
    H = np.outer(last, last)
    H[:-1, :-1] += _centred_moments(summary, sigma)
    return H, np.append(2 * p * (1 - p) * summary.d + (2 * p - 1) * a, 2 * p - 1)


def early_share(D, r, M, tau, rate, steps):
    """The share of the brightness r g that gradient descent has after ``steps`` >= 1 (prop-early).

    The setting is that of `brightness_margin` with a free intercept; 1 at convergence.
    """
    g, d = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    summary = theory.Summary(D * d + r * g, (-D * d - r * g) / 2, np.zeros((2, 2)), 0.5)
    w, _ = descent(summary, -M * g, np.sqrt(tau), steps, rate)
    return w[..., 1] / w[..., 0] * D / r
