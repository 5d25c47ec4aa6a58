"""Betting confidence sequence, and the decisions at radii. Error probabilities are computed exactly, path by path."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest, norm

from pacd import sequential as s
from pacd.certify import STOPPED, count, lower_bound, noise_blocks
from pacd.votes import Votes
from study.intervals import acr

W, SIGMA = torch.tensor([3.0, -4.0]), 0.5


def linear(x):
    """Class 1 where W . x > 0; at distance d from the boundary p = Phi(d / sigma)."""
    score = x.flatten(1) @ W
    return torch.stack([-score, score], 1)


def at_distance(*distances):
    return torch.stack([d * W / 5 for d in distances]).view(-1, 1, 1, 2)


def ever_refuted(p, steps, refutes):
    """Exact probability that the truth p is refuted at some n up to ``steps``, looking after every draw.

    Follows the distribution of the wins over the paths on which ``refutes(k, n, p)`` has never been true.
    """
    alive = np.array([1.0])
    for n in range(1, steps + 1):
        alive = np.append(alive * (1 - p), 0) + np.append(0, alive * p)
        alive[refutes(np.arange(n + 1), n, p)] = 0
    return 1 - alive.sum()


def betting(threshold):
    return lambda k, n, p: s.log_wealth(k, n, p) >= np.log(threshold)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("p", [1e-4, 0.02, 0.5, 0.69, 0.97, 0.9999])
def test_truth_is_refuted_at_most_alpha_of_the_time(p, alpha):
    assert ever_refuted(p, 1500, betting(1 / alpha)) <= alpha


def test_planted_errors_are_seen():
    """A threshold of 1 / (2 alpha), and Clopper and Pearson's bound used with many looks, both break the promise."""
    alpha = 0.05
    assert max(ever_refuted(p, 1500, betting(1 / (2 * alpha))) for p in (0.5, 0.69)) > alpha
    assert ever_refuted(0.69, 300, lambda k, n, p: lower_bound(k, n, alpha) > p) > 2 * alpha


def test_wealth_is_a_martingale():
    """The mean wealth after the next draw is the wealth now, and it starts at 1."""
    p, k, n = 0.3, np.arange(8), 7
    after = p * np.exp(s.log_wealth(k + 1, n + 1, p)) + (1 - p) * np.exp(s.log_wealth(k, n + 1, p))
    assert np.allclose(after, np.exp(s.log_wealth(k, n, p))) and s.log_wealth(
        0, 0, p
    ) == pytest.approx(0)


def test_interval_is_where_the_wealth_is_small():
    k, n = np.array([0, 3, 50, 99, 100, 0]), np.array([100] * 5 + [0])
    low, high = s.confidence_interval(k, n, 0.001)
    assert low[0] == 0 and high[4] == 1 and (low[5], high[5]) == (0, 1)
    assert np.allclose(s.log_wealth(k, n, low)[1:5], np.log(1000)) and np.allclose(
        s.log_wealth(k, n, high)[:4], np.log(1000)
    )
    assert (s.log_wealth(k, n, (low + high) / 2) < np.log(1000)).all()


def test_looks_come_in_growing_pieces_and_lose_no_draw():
    pieces = [len(piece) for piece in s.looks(torch.zeros(size, 1) for size in (1000, 1000, 300))]
    drawn = np.cumsum(pieces)
    assert drawn[-1] == 2300 and all(
        size <= max(s.FIRST_LOOK, before // 8) for size, before in zip(pieces[1:], drawn)
    )


def test_decisions_at_the_true_radius_are_rare():
    """At distance r exactly, p_A = Phi(r / sigma): either decision is false, so at most alpha of the runs may decide."""
    alpha, runs, distance = 0.1, 250, 0.2
    x, y = at_distance(distance), torch.tensor([1])
    rows = pd.concat(
        [
            s.decide(linear, x, y, SIGMA, [distance], n=400, alpha=alpha, seed=seed, classes=2)
            for seed in range(runs)
        ]
    )
    decided = (rows["n"] < 400) & (rows["n"] > 0)
    assert binomtest(int(decided.sum()), runs, alpha, alternative="greater").pvalue > 1e-4
    assert decided.any()


def test_decisions_are_right_and_cheap():
    x, y = at_distance(0.6, 0.3, 0.05, -0.6), torch.tensor([1, 1, 1, 1])
    rows = s.decide(linear, x, y, SIGMA, [0.0, 0.2], n=100_000, classes=2)
    shares = s.decisions(rows, [0.0, 0.2])
    assert (
        shares["certified"].tolist() == [0.75, 0.5]
        and shares["refuted"].tolist() == [0.25, 0.5]
        and not shares["undecided"].any()
    )
    assert rows["n"].tolist()[3] == 0 and rows["prediction"].tolist() == [1, 1, 1, STOPPED]
    assert rows["n"][0] < 100 < rows["n"][1] < 5000
    pd.testing.assert_frame_equal(
        rows, s.decide(linear, x, y, SIGMA, [0.0, 0.2], n=100_000, classes=2, batch=33)
    )


def test_rows_hold_the_draws_they_say_and_no_average_radius():
    x, y = at_distance(0.25), torch.tensor([1])
    rows = s.decide(linear, x, y, SIGMA, [0.24], n=150, classes=2)
    assert rows["n"][0] == 150 and s.decisions(rows, [0.24])["undecided"][0] == 1
    wins = count(
        Votes(linear, x, 2), torch.tensor([0]), noise_blocks((1, 1, 2), SIGMA, 150, (0, 1), "cpu")
    )
    assert (
        rows["wins"][0] == wins[0, 1]
        and rows["p_lower"][0] < norm.cdf(0.25 / SIGMA) < rows["p_upper"][0]
    )
    with pytest.raises(KeyError):
        acr(rows)
