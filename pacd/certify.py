"""The certifier: randomized smoothing of Cohen et al. (arXiv 1902.02918, algorithm CERTIFY), one row per point."""

from itertools import islice

import numpy as np
import pandas as pd
import torch
from scipy.stats import beta, norm

from pacd.votes import DRAWS, Votes
from study.checkpoint import NOTHING

ABSTAIN = -1
STOPPED = -2  # the guess was wrong and no further draws were made
# Compiling takes half a minute on a CPU and saves some 20 microseconds a draw, so it pays from about this many draws.
COMPILE_FROM = 2_000_000


def lower_bound(k, n, alpha):
    """Clopper-Pearson: a lower bound on p that fails with probability at most alpha, given k successes of n.

    Beta(alpha; k, n - k + 1) quantile; 0 at k = 0 and alpha^(1 / n) at k = n. Works on arrays.
    """
    return np.where(k > 0, beta.ppf(alpha, np.maximum(k, 1), n - k + 1), 0.0)


def noise_blocks(shape, sigma, n, stream, device):
    """``n`` draws of N(0, sigma^2 I) in blocks of ``DRAWS`` (the last one cut), so a longer run begins with a shorter one.

    ``stream`` is a pair (seed, stage): stage 0 is the guess, 1 the estimate, so the two never share a draw.
    """
    seed, stage = stream
    generator = torch.Generator(device).manual_seed(2 * seed + stage)
    for start in range(0, n, DRAWS):
        yield torch.empty(DRAWS, *shape, device=device).normal_(0, sigma, generator=generator)[
            : n - start
        ]


def count(votes, points, noise):
    """How often each class is predicted at each of ``points``, over all blocks of noise; (P, classes), int64."""
    return sum(votes(block, points) for block in noise)


def certify(
    model,
    x,
    y,
    sigma,
    *,
    n0=100,
    n=1000,
    alpha=0.001,
    batch=250,
    seed=0,
    classes=10,
    precision="float32",
    stop_wrong=False,
    compiled=None,
    cached=True,
    channels_last=True,
    checkpoint=NOTHING,
):
    """Certify the smoothed classifier g(x) = argmax_c P(f(x + N(0, sigma^2 I)) = c) at each point.

    Guarantee: over the n draws, with probability at least 1 - alpha for each point, g is constant and equal to
    ``prediction`` within L2 distance ``radius`` of the point, unless the point abstains.

    All points share the draws: each point's own draws stay independent and Gaussian, which is all that its
    certificate needs, and clean and poisoned models meet the same noise. The same seed gives the same draws whatever
    the batch and the tricks; in float32 rows can then differ only by draws that are ties up to rounding.

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
        Images in one forward pass; memory does not grow with n.
    seed : int
        Seed of the noise; the same seed gives every model the same draws.
    classes : int
    precision : {"float32", "bfloat16", "int8"}
        The certified f. In bfloat16 it is the network whose layers after the affine first ones run in bfloat16, in int8 the
        integer network from :func:`pacd.int8.quantised`: certificates hold for it, and not for its float32 original.
    stop_wrong : bool
        Make none of the n draws where the guess is not the label: the radius counts 0 whatever they say. Such a row
        has n = 0 and prediction ``STOPPED``. ACR and certified accuracies are the same; whether the point would
        have abstained or been wrong stays unknown.
    compiled : bool, optional
        Run f through torch.compile; None: from ``COMPILE_FROM`` draws on, where it pays.
    cached, channels_last : bool
        Further tricks, for comparisons; see ``pacd.votes.Votes``.
    checkpoint : Checkpoint
        Where the counts of this very model are kept between blocks of draws, and found again after a kill.

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n, alpha, sigma, noise_seed, precision, count_0 .. (of the n draws),
        p_lower, prediction (``ABSTAIN`` = -1, ``STOPPED`` = -2) and radius (pixel units; 0 where the prediction is
        not the label).

    Raises
    ------
    ValueError
        If the precision is unknown or not the model's, or an output of the model is not finite.
    """
    compiled = len(x) * n >= COMPILE_FROM if compiled is None else compiled
    votes = Votes(
        model,
        x,
        classes,
        precision=precision,
        batch=batch,
        cached=cached,
        channels_last=channels_last,
        compiled=compiled,
    )
    points = torch.arange(len(x), device=x.device)
    guess = count(votes, points, noise_blocks(x.shape[1:], sigma, n0, (seed, 0), x.device)).argmax(
        1
    )
    drawn = points[guess == y] if stop_wrong else points
    counts = torch.zeros(len(x), classes, dtype=torch.int64, device=x.device)
    done = checkpoint.resume([counts], 0)
    for block in islice(
        noise_blocks(x.shape[1:], sigma, n, (seed, 1), x.device), done, None
    ):  # blocks counted before a kill are drawn and passed over
        counts[drawn] += votes(block, drawn)
        done += 1
        checkpoint.keep([counts], done)
    rows = pd.DataFrame(
        {
            "label": y.cpu(),
            "guess": guess.cpu(),
            "n0": n0,
            "n": counts.sum(1).cpu(),
            "alpha": alpha,
            "sigma": sigma,
        }
    )
    rows = rows.assign(noise_seed=seed, precision=precision)
    return bound(
        rows.join(pd.DataFrame(counts.cpu(), columns=[f"count_{c}" for c in range(classes)]))
    )


def counts_of(rows):
    """The counts in rows, (N, classes)."""
    return rows.filter(regex=r"^count_\d+$").to_numpy()


def bound(rows, alpha=None):
    """Radius of each row from its counts, at the rows' own alpha or another; adds p_lower, prediction and radius."""
    alpha = rows["alpha"] if alpha is None else alpha
    k = counts_of(rows)[range(len(rows)), rows["guess"]]
    p = lower_bound(k, rows["n"].to_numpy(), alpha)
    prediction = rows["guess"].where(p > 0.5, ABSTAIN).where(rows["n"] > 0, STOPPED)
    radius = (rows["sigma"] * norm.ppf(p)).where(prediction == rows["label"], 0.0)
    return rows.assign(alpha=alpha, p_lower=p, prediction=prediction, radius=radius)


def recertify(rows, *, alpha=None, n=None, seed=0):
    """Certify again from rows alone, at another alpha, from fewer draws, or both.

    Fewer draws are a random subset of those counted (multivariate hypergeometric). Its counts are distributed exactly as
    those of a run of n draws, so the certificates keep their guarantee, but they are not the counts that a run of n draws with this noise
    seed would have: the order of the draws is not in the rows, and which ones are kept is drawn for each row apart.
    Alpha has to be chosen without looking at the radii.

    Parameters
    ----------
    rows : DataFrame
        As :func:`certify` returns; stopped rows stay stopped.
    alpha : float, optional
    n : int, optional
        At most the draws of every row that was not stopped.
    seed : int
        Of the subset.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ValueError
        If a row holds fewer than n draws.
    """
    if n is not None:
        drawn = (rows["n"] > 0).to_numpy()
        if (rows["n"][drawn] < n).any():
            raise ValueError(
                f"n must be at most {rows['n'][drawn].min()}, the draws in the rows, not {n}."
            )
        counts = counts_of(rows).copy()
        generator = np.random.default_rng(seed)
        counts[drawn] = [generator.multivariate_hypergeometric(row, n) for row in counts[drawn]]
        rows = rows.assign(
            n=counts.sum(1), **{f"count_{c}": column for c, column in enumerate(counts.T)}
        )
    return bound(rows, alpha)
