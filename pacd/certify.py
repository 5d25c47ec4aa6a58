"""The certifier: randomized smoothing of Cohen et al. (arXiv 1902.02918, algorithm CERTIFY), one row per point."""

import numpy as np
import pandas as pd
import torch
from scipy.stats import beta, norm

ABSTAIN = -1


def lower_bound(k, n, alpha):
    """Clopper-Pearson: a lower bound on p that fails with probability at most alpha, given k successes of n.

    Beta(alpha; k, n - k + 1) quantile; 0 at k = 0 and alpha^(1 / n) at k = n. Works on arrays.
    """
    return np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)


def noise_blocks(shape, sigma, n, batch, stream, device):
    """``n`` draws of N(0, sigma^2 I) in blocks of at most ``batch``; the last block may be smaller.

    ``stream`` is a pair (seed, stage): stage 0 is the guess, 1 the estimate, so the two never share a draw.
    """
    seed, stage = stream
    generator = torch.Generator(device).manual_seed(2 * seed + stage)
    for start in range(0, n, batch):
        size = min(batch, n - start)
        yield sigma * torch.randn(size, *shape, generator=generator, device=device)


@torch.inference_mode()
def count(model, x, sigma, n, batch, stream, classes):
    """How often each class is predicted under n noise draws; (N, classes), int64, rows summing to n.

    All points share the draws of a block: each point's own draws stay independent and Gaussian, which is all that
    its certificate needs, and clean and poisoned models meet the same noise.
    """
    counts = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
    for noise in noise_blocks(x.shape[1:], sigma, n, batch, stream, x.device):
        for point in range(len(x)):
            counts[point] += model(x[point] + noise).argmax(1).bincount(minlength=classes)
    return counts


def certify(model, x, y, sigma, *, n0=100, n=1000, alpha=0.001, batch=250, seed=0, classes=10):
    """Certify the smoothed classifier g(x) = argmax_c P(f(x + N(0, sigma^2 I)) = c) at each point.

    Guarantee: over the n draws, with probability at least 1 - alpha for each point, g is constant and equal to
    ``prediction`` within L2 distance ``radius`` of the point, unless the point abstains.

    Parameters
    ----------
    model : callable
        (N, C, H, W) in [0, 1] to logits (N, classes); put it in eval mode before.
    x, y : tensors of shape (N, C, H, W) and (N,)
    sigma : float
        Standard deviation of the noise, pixel units.
    n0, n : int
        Independent draws for the guess and for the estimate.
    alpha : float
        Failure probability of one certificate.
    batch : int
        Noise draws in memory at a time; need not divide n.
    seed : int
        Seed of the noise; the same seed gives every model the same draws.
    classes : int

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n, alpha, sigma, noise_seed, count_0 .. (of the n draws), p_lower,
        prediction (``ABSTAIN`` = -1) and radius (pixel units; 0 where it abstains or the prediction is wrong).
    """
    guess = count(model, x, sigma, n0, batch, (seed, 0), classes).argmax(1)
    counts = count(model, x, sigma, n, batch, (seed, 1), classes)
    rows = pd.DataFrame({"label": y.cpu(), "guess": guess.cpu(), "n0": n0, "n": n, "alpha": alpha, "sigma": sigma, "noise_seed": seed})
    rows = rows.join(pd.DataFrame(counts.cpu(), columns=[f"count_{c}" for c in range(classes)]))
    return bound(rows)


def bound(rows, alpha=None):
    """Radius of each row from its counts, at the rows' own alpha or another; adds p_lower, prediction and radius."""
    alpha = rows["alpha"] if alpha is None else alpha
    counts = rows.filter(regex=r"^count_\d+$").to_numpy()
    k = counts[range(len(rows)), rows["guess"]]
    p = lower_bound(k, rows["n"].to_numpy(), alpha)
    prediction = rows["guess"].where(p > 0.5, ABSTAIN)
    radius = (rows["sigma"] * norm.ppf(p)).where(prediction == rows["label"], 0.0)
    return rows.assign(alpha=alpha, p_lower=p, prediction=prediction, radius=radius)
