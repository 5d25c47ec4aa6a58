"""Attacks on the smoothed classifier: from above what the certificate bounds from below."""

import numpy as np
import torch

from pacd.counts import ABSTAIN, fewest_draws, majority
from pacd.losses import ascend
from pacd.smoothing import noisy
from pacd.votes import DRAWS

# In units of sigma. Certificates end at 3.81 for n = 100,000 and alpha = 0.001.
RADII = np.arange(17) / 4


def empirical_radius(
    votes, y, sigma, radii=None, *, steps=20, draws=16, n=1000, alpha=0.001, seed=0
):
    """The smallest radius at which an attack moves the smoothed classifier off the label.

    An upper bound on each point's true radius. At each radius, SmoothAdv's L2-PGD
    (:func:`pacd.losses.ascend`) moves the points that are still right, under ``draws`` frozen draws
    for each point. It has succeeded where a majority of n fresh draws at the attacked image is
    significantly another class; an abstention is no success. The tests of one point share alpha, so
    with probability at least 1 - alpha its true radius is at most ``empirical_radius``: attack and
    certificate of a point contradict each other with probability at most the sum of their alphas.
    Points share the draws of the vote, as in :func:`pacd.certify.certify`.

    Parameters
    ----------
    votes : pacd.votes.Votes
        The network at the points (N, C, H, W); its gradients are those of ``votes.model``.
    y : tensor of shape (N,)
    sigma : float
        Pixel units.
    radii : sequence of float, optional
        Radii to try, L2, pixel units; None: 0 to 4 sigma in steps of sigma / 4. Radius 0 finds
        points that are wrong already.
    steps, draws : int
        PGD steps, and noise draws behind each gradient.
    n : int
        Draws of the vote.
    alpha : float
    seed : int
        Of all noise; none of it is the certifier's.

    Returns
    -------
    array of shape (N,), pixel units; inf where no attack succeeded

    Raises
    ------
    ValueError
        If a radius is negative or not finite, or there is none, or n draws could show no success.
    """
    radii = np.sort(sigma * RADII if radii is None else np.asarray(radii, float)).tolist()
    if not radii or not np.isfinite(radii).all() or radii[0] < 0:
        allowed = "one or more numbers, 0 or above, pixel units"
        raise ValueError(f"radii must be {allowed}, not {radii}.")
    fewest = fewest_draws(alpha / len(radii) / 2)  # the test is two-sided
    if n < fewest:
        raise ValueError(f"n must be at least {fewest}, or no attack can succeed, not {n}.")
    x, some = votes.images, max(1, votes.batch // draws)
    # The certifier's streams are 2 * seed and 2 * seed + 1.
    generator = torch.Generator(x.device).manual_seed(2**31 + seed)

    def attacked(points, radius):
        noise = noisy(torch.zeros_like(x[points]), sigma, draws, generator)
        change = ascend(votes.model, x[points], y[points], noise, radius, steps, draws)
        return x[points] + change

    def fresh_noise():
        sizes = (min(DRAWS, n - start) for start in range(0, n, DRAWS))
        return (noisy(torch.zeros_like(x[:1]), sigma, size, generator) for size in sizes)

    found = torch.full((len(x),), torch.inf, dtype=torch.float64)
    left = torch.arange(len(x), device=x.device)
    for radius in radii:
        if len(left):
            images = torch.cat([attacked(points, radius) for points in left.split(some)])
            counts = votes.at(images).total(fresh_noise()).cpu().numpy()
            winner = torch.from_numpy(majority(counts, alpha / len(radii))).to(x.device)
            moved = (winner != ABSTAIN) & (winner != y[left])
            found[left[moved].cpu()] = radius
            left = left[~moved]
    return found.numpy()
