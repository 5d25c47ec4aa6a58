"""Certified accuracy at given radii, decided with as few draws as it takes.

A betting confidence sequence (Voracek, arXiv 2406.17830). For each rate p, bet against "the class
wins with probability p", mixing over all alternatives. No profile uses it yet.
"""

import numpy as np
import pandas as pd
import torch
from scipy.special import betaln, xlog1py, xlogy
from scipy.stats import norm

from pacd.certify import guesses, noise_blocks
from pacd.counts import ABSTAIN, STOPPED

FIRST_LOOK = 20  # draws before the first look; later looks come after an eighth more draws


def log_wealth(k, n, p):
    """Log wealth of a bet against rate p after k wins in n draws; works on arrays.

    Voracek (arXiv 2406.17830): the bet mixes over all alternatives with Krichevsky and Trofimov's
    prior. Under the true rate the wealth is a martingale that starts at 1, so by Ville's inequality
    it *ever* reaches 1 / alpha with probability at most alpha. Convex in p, least near k / n.
    """
    return betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5) - xlogy(k, p) - xlog1py(n - k, -p)


def confidence_interval(k, n, alpha):
    """The rates that the bet has not refuted, ``(low, high)``: arrays like k.

    With probability at least 1 - alpha the truth is inside at every n of one sequence of draws: one
    may look as often as one likes, stop when pleased, and ask about any number of radii.
    """
    k, n = np.broadcast_arrays(np.asarray(k, float), n)
    ends = []
    for end in (0.0, 1.0):
        inside, outside = k / np.maximum(n, 1), np.full(k.shape, end)
        for _ in range(50):  # bisection; what is returned is never inside the exact interval
            middle = (inside + outside) / 2
            refuted = log_wealth(k, n, middle) >= -np.log(alpha)
            inside = np.where(refuted, inside, middle)
            outside = np.where(refuted, middle, outside)
        ends.append(outside)
    return tuple(ends)


def decide(votes, y, sigma, radii, *, n0=100, n=100_000, alpha=0.001, seed=0):
    """Decide for each point whether g is certified to be right within each of ``radii``.

    Guarantee: with probability at least 1 - alpha for each point, all its decisions are true: p_A
    is above Phi(radius / sigma) where "certified", so the smoothed classifier is right within that
    L2 distance, and below it where "refuted" (:func:`confidence_interval`). A point
    stops drawing once all radii are decided, at n draws at the latest, or after n0 if its guess is
    not the label.

    Parameters
    ----------
    radii : sequence of float
        Pixel units, L2.
    n : int
        Most draws of one point.
    votes, y, sigma, n0, alpha, seed
        As in :func:`pacd.certify.certify`, whose noise this is, too.

    Returns
    -------
    pandas.DataFrame
        One row per point: label, guess, n0, n (draws made), wins (of the guess), alpha, sigma,
        noise_seed, precision, p_lower, p_upper, prediction. There are no counts and no radius on
        purpose: the number of draws depended on them, so Clopper and Pearson's bound would be false
        and an average radius meaningless.
    """
    guess = guesses(votes, sigma, n0, seed)
    wins, drawn = torch.zeros_like(guess), torch.zeros_like(guess)
    active = (guess == y).nonzero().flatten()
    rates = norm.cdf(np.asarray(radii) / sigma)
    for noise in looks(noise_blocks(votes.images.shape[1:], sigma, n, (seed, 1), y.device)):
        if not len(active):
            break
        wins[active] += votes(noise, active).gather(1, guess[active, None])[:, 0]
        drawn[active] += len(noise)
        k, of = (part[active, None].cpu().numpy() for part in (wins, drawn))
        undecided = (log_wealth(k, of, rates) < -np.log(alpha)).any(1)  # of (active, radii)
        active = active[torch.as_tensor(undecided, device=y.device)]
    rows = pd.DataFrame({"label": y.cpu(), "guess": guess.cpu(), "n0": n0, "n": drawn.cpu()})
    rows = rows.assign(wins=wins.cpu(), alpha=alpha, sigma=sigma, noise_seed=seed)
    low, high = confidence_interval(rows["wins"], rows["n"], alpha)
    prediction = rows["guess"].where(low > 0.5, ABSTAIN).where(rows["n"] > 0, STOPPED)
    bounds = {"p_lower": low, "p_upper": high, "prediction": prediction}
    return rows.assign(precision=votes.precision, **bounds)


def looks(blocks):
    """Cut blocks of noise where one looks: never longer than an eighth of what was drawn."""
    drawn = 0
    for block in blocks:
        while len(block):
            size = max(FIRST_LOOK, drawn // 8)
            piece, block = block[:size], block[size:]
            drawn += len(piece)
            yield piece


def decisions(rows, radii):
    """Shares of points at each radius, from rows of :func:`decide`.

    ``certified`` is the certified accuracy, ``refuted`` holds wrong guesses too, and ``undecided``
    is what more draws could still add.
    """
    rates = norm.cdf(np.asarray(radii) / rows[["sigma"]].to_numpy())  # (N, radii)
    right = (rows["guess"] == rows["label"]).to_numpy()[:, None]
    certified = right & (rows[["p_lower"]].to_numpy() >= rates)
    refuted = ~right | (rows[["p_upper"]].to_numpy() <= rates)
    shares = {"radius": radii, "certified": certified.mean(0), "refuted": refuted.mean(0)}
    return pd.DataFrame(shares | {"undecided": (~certified & ~refuted).mean(0)})
