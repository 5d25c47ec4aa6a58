"""The certifier: randomized smoothing of Cohen et al. (arXiv 1902.02918), one row per point."""

from itertools import islice

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

from pacd.counts import bound, fewest_draws, looks_at, unsettled
from pacd.train import NOTHING
from pacd.votes import DRAWS


def noise_blocks(shape, sigma, n, stream, device):
    """``n`` draws of N(0, sigma^2 I) in blocks of ``DRAWS``, the last one cut.

    Drawn in double precision and rounded once: single precision would end at 5.8 sigma and leave
    holes around 0. A longer run begins with a shorter one. ``stream`` is a pair (seed, stage):
    stage 0 is the guess, 1 the estimate, so the two never share a draw.
    """
    seed, stage = stream
    generator = torch.Generator(device).manual_seed(2 * seed + stage)
    for start in range(0, n, DRAWS):
        block = torch.empty(DRAWS, *shape, device=device, dtype=torch.float64)
        yield block.normal_(0, sigma, generator=generator)[: n - start].float()


def certify(
    votes,
    y,
    sigma,
    *,
    n0=100,
    n=1000,
    alpha=0.001,
    seed=0,
    stop_wrong=False,
    radii=None,
    randomised=False,
    checkpoint=NOTHING,
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
    radii : sequence of float, optional
        Pixel units. Look after 1,000 draws, 2,000, 4,000 .. and at n, and stop a point once more
        draws are unlikely to change which of these radii it reaches. Each look has an equal share
        of alpha, so the guarantee holds however one stops. None: one look, at n.
    randomised : bool
        Take the randomised bound of :func:`pacd.counts.lower_bound`. Its u is drawn from the seed,
        the same for every model.
    checkpoint : object
        Where the counts are kept between blocks of draws, and found again after a kill.

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n, alpha, looks, u, sigma, noise_seed, precision,
        count_0 .. (of the n draws), p_lower, prediction (``ABSTAIN`` = -1, ``STOPPED`` = -2) and
        radius (pixel units; 0 where the prediction is not the label).

    Raises
    ------
    ValueError
        If an argument is impossible, or n draws could certify nothing.
    """
    check(votes, y, sigma, n0, n, alpha, radii, seed, stop_wrong, randomised)
    votes.prepare(n)
    guess = guesses(votes, sigma, n0, seed)
    alive = guess == y if stop_wrong else torch.ones_like(guess, dtype=torch.bool)
    looks = [n] if radii is None else looks_at(n)
    counts = torch.zeros(len(y), votes.classes, dtype=torch.int64, device=y.device)
    done = checkpoint.resume([counts], 0)
    blocks = noise_blocks(votes.images.shape[1:], sigma, n, (seed, 1), y.device)
    for block in islice(blocks, done, None):  # those counted before a kill are drawn all the same
        drawn = done * DRAWS
        going = (alive & (counts.sum(1) == drawn)).nonzero().flatten()
        if drawn in looks:
            k = counts[going, guess[going]].cpu().numpy()
            rates = norm.cdf(np.sort(radii) / sigma)
            going = going[torch.as_tensor(unsettled(k, drawn, alpha / len(looks), rates))]
        counts[going] += votes(block, going)
        done += 1
        checkpoint.keep([counts], done)
    made = {"label": y.cpu(), "guess": guess.cpu(), "n0": n0, "n": counts.sum(1).cpu()}
    rows = pd.DataFrame(made).assign(alpha=alpha, looks=len(looks))
    rows = rows.assign(u=coins(len(y), seed) if randomised else 1.0)
    rows = rows.assign(sigma=sigma, noise_seed=seed, precision=votes.precision)
    columns = [f"count_{c}" for c in range(votes.classes)]
    return bound(rows.join(pd.DataFrame(counts.cpu(), columns=columns)))


def check(votes, y, sigma, n0, n, alpha, radii, seed=0, *flags):
    """Refuse what no certificate can come of."""
    some = radii is None or (len(radii) and np.isfinite(radii).all() and min(radii) >= 0)
    x, most = votes.images, votes.classes - 1
    pixels = x.is_floating_point() and ((x >= 0) & (x <= 1)).all()
    found = f"{x.dtype} from {x.min().item():g} to {x.max().item():g}"
    fewest = fewest_draws(alpha) if 0 < alpha < 1 else 1
    enough = f"at least {fewest} at alpha = {alpha:g}, or no point can be certified"
    for name, value, fits, allowed in (
        ("sigma", sigma, 0 < sigma < np.inf, "a number above 0, pixel units"),
        ("alpha", alpha, 0 < alpha < 1, "between 0 and 1, both excluded"),
        ("n0", n0, n0 >= 1, "at least 1"),
        ("n", n, n >= fewest, enough),
        ("seed", seed, 0 <= seed < 2**31 and seed == int(seed), "a whole number below 2^31"),
        ("the points", found, pixels, "floats from 0 to 1, the pixel units"),
        ("radii", radii, some, "one or more numbers, 0 or above, pixel units"),
        ("stop_wrong and randomised", flags, set(flags) <= {True, False}, "True or False"),
    ):
        if not fits:
            raise ValueError(f"{name} must be {allowed}, not {value}.")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be of shape {tuple(x.shape[:1])}, a label for each point.")
    if not ((y >= 0) & (y <= most) & (y == y.long())).all():
        raise ValueError(f"y must hold labels from 0 to {most}, not {y.unique().tolist()}.")


def coins(points, seed):
    """One u for each point, at least 0.1.

    That only lowers bounds: at k = n the bound is (alpha / u)^(1 / n), and a very small u would be
    a jackpot.
    """
    return np.random.default_rng([seed, 2]).random(points).clip(0.1)


def guesses(votes, sigma, n0, seed):
    """The class that wins most of n0 draws at each point, (N,)."""
    blocks = noise_blocks(votes.images.shape[1:], sigma, n0, (seed, 0), votes.images.device)
    return votes.total(blocks).argmax(1)
