"""Attacks on the smoothed classifier: from above what the certificate bounds from below, each point's true radius."""

import numpy as np
import torch
from scipy.stats import binom

from pacd.certify import ABSTAIN, count
from pacd.losses import ascend
from pacd.smoothing import noisy
from pacd.votes import DRAWS, Votes

# In units of sigma. Certificates end at 3.81 for n = 100,000 and alpha = 0.001.
RADII = np.arange(17) / 4


def majority(counts, alpha):
    """The class that the smoothed classifier predicts, or ``ABSTAIN`` (Cohen et al., arXiv 1902.02918, algorithm PREDICT).

    Guarantee: a class that is not the most probable one is returned with probability at most alpha.

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
    return np.where(
        2 * binom.sf(first - 1, first + second, 0.5) <= alpha, counts.argmax(1), ABSTAIN
    )


def empirical_radius(
    model,
    x,
    y,
    sigma,
    radii=None,
    *,
    steps=20,
    draws=16,
    n=1000,
    alpha=0.001,
    batch=250,
    seed=0,
    classes=10,
    precision="float32",
):
    """The smallest radius at which an attack moves the smoothed classifier off the label; an upper bound on the true radius.

    At each radius, SmoothAdv's L2-PGD (:func:`pacd.losses.ascend`) moves the points that are still right, under ``draws`` frozen
    draws for each point. It has succeeded where a majority of n fresh draws at the attacked image is significantly
    another class; an abstention is no success. The tests of one point share alpha, so with probability at least 1 - alpha
    its true radius is at most ``empirical_radius``: attack and certificate of a point contradict each other with
    probability at most the sum of their alphas. Points share the draws of the vote, as in :func:`pacd.certify.certify`.

    Parameters
    ----------
    model : callable
        (N, C, H, W) in [0, 1] to logits (N, classes); put it in eval mode before.
    x, y : tensors of shape (N, C, H, W) and (N,)
    sigma : float
        Pixel units.
    radii : sequence of float, optional
        Radii to try, L2, pixel units; None: 0 to 4 sigma in steps of sigma / 4. Radius 0 finds points that are wrong already.
    steps, draws : int
        PGD steps, and noise draws behind each gradient.
    n : int
        Draws of the vote.
    alpha : float
    batch : int
        Noisy images in one pass.
    seed : int
        Of all noise; none of it is the certifier's.
    classes : int
    precision : {"float32", "bfloat16"}
        Of the voting network, as in :func:`pacd.certify.certify`; gradients are float32.

    Returns
    -------
    array of shape (N,), pixel units; inf where no attack succeeded

    Raises
    ------
    ValueError
        If a radius is negative or not finite, or there is none.
    """
    radii = np.sort(sigma * RADII if radii is None else np.asarray(radii, float)).tolist()
    if not radii or not np.isfinite(radii).all() or radii[0] < 0:
        raise ValueError(
            f"radii must be one or more numbers, 0 or above, pixel units, not {radii}."
        )
    generator = torch.Generator(x.device).manual_seed(
        2**31 + seed
    )  # certify's streams are 2 * seed and 2 * seed + 1

    def attacked(points, radius):
        images = x[points]
        noise = noisy(torch.zeros_like(images), sigma, draws, generator)
        return images + ascend(model, images, y[points], noise, radius, steps, draws)

    def predicted(images):
        votes = Votes(model, images, classes, precision=precision, batch=batch)
        blocks = (
            noisy(torch.zeros_like(x[:1]), sigma, min(DRAWS, n - start), generator)
            for start in range(0, n, DRAWS)
        )
        counts = count(votes, torch.arange(len(images), device=x.device), blocks)
        return torch.from_numpy(majority(counts.cpu().numpy(), alpha / len(radii))).to(x.device)

    found = torch.full((len(x),), torch.inf, dtype=torch.float64)
    left = torch.arange(len(x), device=x.device)
    for radius in radii:
        if len(left):
            winner = predicted(
                torch.cat([attacked(part, radius) for part in left.split(max(1, batch // draws))])
            )
            moved = (winner != ABSTAIN) & (winner != y[left])
            found[left[moved].cpu()] = radius
            left = left[~moved]
    return found.numpy()
