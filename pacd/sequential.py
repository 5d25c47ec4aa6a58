"""Certified accuracy at given radii, decided with as few draws as it takes: a betting confidence sequence.

Voracek (arXiv 2406.17830). For each rate p, bet against "the class wins with probability p", mixing over all
alternatives with Krichevsky and Trofimov's prior. After k wins in n draws the log wealth is

    ln B(k + 1/2, n - k + 1/2) - ln B(1/2, 1/2) - k ln p - (n - k) ln(1 - p).

Under the true rate the wealth is a martingale that starts at 1, so by Ville's inequality it *ever* reaches 1 / alpha with
probability at most alpha. The rates not refuted are an interval that holds the truth at all n at once: one may look as
often as one likes, stop when pleased, and ask about any number of radii.
"""

import numpy as np
import pandas as pd
import torch
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import norm

from pacd.certify import ABSTAIN, STOPPED, count, noise_blocks
from pacd.votes import Votes

FIRST_LOOK = 20  # draws before the first look; later looks come after an eighth more draws


def log_wealth(k, n, p):
    """Log wealth against rate p after k wins in n draws; convex in p and least near k / n. Works on arrays."""
    return betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5) - xlogy(k, p) - xlog1py(n - k, -p)


def confidence_interval(k, n, alpha):
    """The rates not refuted at level alpha, ``(low, high)``: arrays like k, n being a number or an array like it.

    With probability at least 1 - alpha the truth is inside at every n of one sequence of draws.
    """
    k, n = np.broadcast_arrays(np.asarray(k, float), n)
    ends = []
    for end in (0.0, 1.0):
        inside, outside = k / np.maximum(n, 1), np.full(k.shape, end)
        for _ in range(50):  # bisection; what is returned is never inside the exact interval
            middle = (inside + outside) / 2
            refuted = log_wealth(k, n, middle) >= -np.log(alpha)
            inside, outside = np.where(refuted, inside, middle), np.where(refuted, middle, outside)
        ends.append(outside)
    return tuple(ends)


def looks(blocks):
    """Cut blocks of noise into the pieces after which one looks: never longer than an eighth of what was drawn."""
    drawn = 0
    for block in blocks:
        while len(block):
            size = max(FIRST_LOOK, drawn // 8)
            piece, block = block[:size], block[size:]
            drawn += len(piece)
            yield piece


def decide(
    model,
    x,
    y,
    sigma,
    radii,
    *,
    n0=100,
    n=100_000,
    alpha=0.001,
    batch=1000,
    seed=0,
    classes=10,
    precision="float32",
    cached=True,
    channels_last=True,
):
    """Decide for each point whether the smoothed classifier is certified to be right within each of ``radii``.

    Guarantee: with probability at least 1 - alpha for each point, all its decisions are true: p_A is above
    Phi(radius / sigma) where "certified", so the smoothed classifier is right within that L2 distance, and below it
    where "refuted". A point stops drawing once all radii are decided, at n draws at the latest, or after n0 if its
    guess is not the label.

    Parameters
    ----------
    radii : sequence of float
        Pixel units, L2.
    n : int
        Most draws of one point.
    model, x, y, sigma, n0, alpha, batch, seed, classes, precision, cached, channels_last
        As in :func:`pacd.certify.certify`, whose noise this is, too.

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n (draws made), wins (of the guess), alpha, sigma, noise_seed, precision,
        p_lower, p_upper, prediction. There are no counts and no radius on purpose: the number of draws depended on
        them, so Clopper and Pearson's bound would be false and an average radius meaningless.
    """
    votes = Votes(
        model,
        x,
        classes,
        precision=precision,
        batch=batch,
        cached=cached,
        channels_last=channels_last,
    )
    active = torch.arange(len(x), device=x.device)
    guess = count(votes, active, noise_blocks(x.shape[1:], sigma, n0, (seed, 0), x.device)).argmax(
        1
    )
    wins, drawn = torch.zeros_like(guess), torch.zeros_like(guess)
    active = active[guess == y]
    rates = norm.cdf(np.asarray(radii) / sigma)
    for piece in looks(noise_blocks(x.shape[1:], sigma, n, (seed, 1), x.device)):
        if not len(active):
            break
        wins[active] += votes(piece, active).gather(1, guess[active, None])[:, 0]
        drawn[active] += len(piece)
        wealth = log_wealth(
            wins[active, None].cpu().numpy(), drawn[active, None].cpu().numpy(), rates
        )  # (active, radii)
        active = active[torch.as_tensor((wealth < -np.log(alpha)).any(1), device=x.device)]
    rows = pd.DataFrame(
        {
            "label": y.cpu(),
            "guess": guess.cpu(),
            "n0": n0,
            "n": drawn.cpu(),
            "wins": wins.cpu(),
            "alpha": alpha,
        }
    )
    low, high = confidence_interval(rows["wins"], rows["n"], alpha)
    prediction = rows["guess"].where(low > 0.5, ABSTAIN).where(rows["n"] > 0, STOPPED)
    return rows.assign(
        sigma=sigma,
        noise_seed=seed,
        precision=precision,
        p_lower=low,
        p_upper=high,
        prediction=prediction,
    )


def decisions(rows, radii):
    """Shares of points at each radius, one line each: certified (and right), refuted (or wrong guess), undecided.

    Certified accuracy at the radius is ``certified``; ``undecided`` is what more draws could still add to it.
    """
    rates = norm.cdf(np.asarray(radii) / rows[["sigma"]].to_numpy())  # (N, radii)
    right = (rows["guess"] == rows["label"]).to_numpy()[:, None]
    certified = right & (rows[["p_lower"]].to_numpy() >= rates)
    refuted = ~right | (rows[["p_upper"]].to_numpy() <= rates)
    shares = {"radius": radii, "certified": certified.mean(0), "refuted": refuted.mean(0)}
    return pd.DataFrame(shares | {"undecided": (~certified & ~refuted).mean(0)})
