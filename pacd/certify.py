"""The certifier: randomized smoothing of Cohen et al. (arXiv 1902.02918), one row per point."""

from itertools import islice

import pandas as pd
import torch

from pacd.counts import bound
from pacd.train import NOTHING
from pacd.votes import DRAWS


def noise_blocks(shape, sigma, n, stream, device):
    """``n`` draws of N(0, sigma^2 I) in blocks of ``DRAWS``, the last one cut.

    A longer run begins with a shorter one. ``stream`` is a pair (seed, stage): stage 0 is the
    guess, 1 the estimate, so the two never share a draw.
    """
    seed, stage = stream
    generator = torch.Generator(device).manual_seed(2 * seed + stage)
    for start in range(0, n, DRAWS):
        block = torch.empty(DRAWS, *shape, device=device).normal_(0, sigma, generator=generator)
        yield block[: n - start]


def certify(
    votes, y, sigma, *, n0=100, n=1000, alpha=0.001, seed=0, stop_wrong=False, checkpoint=NOTHING
):
    """Certify the smoothed classifier g(x) = argmax_c P(f(x + N(0, sigma^2 I)) = c) at each point.

    Guarantee: over the n draws, with probability at least 1 - alpha for each point, g is constant
    and equal to ``prediction`` within L2 distance ``radius`` of the point, unless the point
    abstains (algorithm CERTIFY).

    All points share the draws: each point's own draws stay independent and Gaussian, which is all
    that its certificate needs, and clean and poisoned models meet the same noise. The same seed
    gives the same draws whatever the batch and the tricks; in float32 rows can then differ only by
    draws that are ties up to rounding.

    Parameters
    ----------
    votes : pacd.votes.Votes
        The network f at the points, x of shape (N, C, H, W).
    y : tensor of shape (N,)
    sigma : float
        Standard deviation of the noise, pixel units.
    n0, n : int
        Independent draws for the guess and for the estimate.
    alpha : float
        Failure probability of one certificate.
    seed : int
        Seed of the noise; the same seed gives every model the same draws.
    stop_wrong : bool
        Make none of the n draws where the guess is not the label: the radius counts 0 whatever they
        say. Such a row has n = 0 and prediction ``STOPPED``. ACR and certified accuracies are the
        same; whether the point would have abstained or been wrong stays unknown.
    checkpoint : object
        Where the counts are kept between blocks of draws, and found again after a kill.

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n, alpha, sigma, noise_seed, precision, count_0 .. (of
        the n draws), p_lower, prediction (``ABSTAIN`` = -1, ``STOPPED`` = -2) and radius (pixel
        units; 0 where the prediction is not the label).
    """
    votes.prepare(n)
    guess = guesses(votes, sigma, n0, seed)
    points = torch.arange(len(y), device=y.device)
    drawn = points[guess == y] if stop_wrong else points
    counts = torch.zeros(len(y), votes.classes, dtype=torch.int64, device=y.device)
    done = checkpoint.resume([counts], 0)
    blocks = noise_blocks(votes.images.shape[1:], sigma, n, (seed, 1), y.device)
    for block in islice(blocks, done, None):  # those counted before a kill are drawn all the same
        counts[drawn] += votes(block, drawn)
        done += 1
        checkpoint.keep([counts], done)
    rows = pd.DataFrame(
        {"label": y.cpu(), "guess": guess.cpu(), "n0": n0, "n": counts.sum(1).cpu()}
    )
    rows = rows.assign(alpha=alpha, sigma=sigma, noise_seed=seed, precision=votes.precision)
    columns = [f"count_{c}" for c in range(votes.classes)]
    return bound(rows.join(pd.DataFrame(counts.cpu(), columns=columns)))


def guesses(votes, sigma, n0, seed):
    """The class that wins most of n0 draws at each point, (N,)."""
    images = votes.images
    blocks = noise_blocks(images.shape[1:], sigma, n0, (seed, 0), images.device)
    return votes.total(blocks).argmax(1)
