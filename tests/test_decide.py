"""Decisions at radii, with as few draws as they take."""

import numpy as np
import pandas as pd
import pytest
import torch
from certifying import decide
from scipy.stats import binomtest, norm

from pacd.certify import noise_blocks
from pacd.counts import STOPPED
from pacd.votes import Votes
from study import sequential as s
from study.intervals import acr

W, SIGMA = torch.tensor([3.0, -4.0]), 0.5


def linear(x):
    """Class 1 where W . x > 0; at distance d from the boundary p = Phi(d / sigma)."""
    score = x.flatten(1) @ W
    return torch.stack([-score, score], 1)


def at_distance(*distances):
    return torch.stack([d * W / 5 for d in distances]).view(-1, 1, 1, 2)


def decided(x, y, radii, **options):
    return decide(linear, x, y, SIGMA, radii, classes=2, **options)


def test_looks_come_in_growing_pieces_and_lose_no_draw():
    pieces = [len(piece) for piece in s.looks(torch.zeros(size, 1) for size in (1000, 1000, 300))]
    drawn = np.cumsum(pieces)
    assert drawn[-1] == 2300 and all(
        size <= max(s.FIRST_LOOK, before // 8) for size, before in zip(pieces[1:], drawn)
    )


def test_decisions_at_the_true_radius_are_rare():
    """At distance r exactly p_A = Phi(r / sigma), so either decision is false.

    At most alpha of the runs may decide.
    """
    alpha, runs, distance = 0.1, 250, 0.2
    x, y = at_distance(distance), torch.tensor([1])
    rows = pd.concat(
        [decided(x, y, [distance], n=400, alpha=alpha, seed=seed) for seed in range(runs)]
    )
    early = (rows["n"] < 400) & (rows["n"] > 0)
    assert binomtest(int(early.sum()), runs, alpha, alternative="greater").pvalue > 1e-4
    assert early.any()


def test_decisions_are_right_and_cheap():
    x, y = at_distance(0.6, 0.3, 0.05, -0.6), torch.tensor([1, 1, 1, 1])
    rows = decided(x, y, [0.0, 0.2], n=100_000)
    shares = s.decisions(rows, [0.0, 0.2])
    assert (
        shares["certified"].tolist() == [0.75, 0.5]
        and shares["refuted"].tolist() == [0.25, 0.5]
        and not shares["undecided"].any()
    )
    assert rows["n"].tolist()[3] == 0 and rows["prediction"].tolist() == [1, 1, 1, STOPPED]
    assert rows["n"][0] < 100 < rows["n"][1] < 5000
    again = decided(x, y, [0.0, 0.2], n=100_000, batch=33)
    pd.testing.assert_frame_equal(rows, again)


def test_rows_hold_the_draws_they_say_and_no_average_radius():
    x, y = at_distance(0.25), torch.tensor([1])
    rows = decided(x, y, [0.24], n=150)
    assert rows["n"][0] == 150 and s.decisions(rows, [0.24])["undecided"][0] == 1
    wins = Votes(linear, x, 2).total(noise_blocks((1, 1, 2), SIGMA, 150, (0, 1), "cpu"))
    assert (
        rows["wins"][0] == wins[0, 1]
        and rows["p_lower"][0] < norm.cdf(0.25 / SIGMA) < rows["p_upper"][0]
    )
    with pytest.raises(KeyError):
        acr(rows)
