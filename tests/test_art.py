"""The certifier against ART's ``RandomizedSmoothing``, whose noise is its own: in distribution.

The Adversarial Robustness Toolbox is no dependency: ``pip install adversarial-robustness-toolbox``.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from certifying import certify
from scipy.stats import fisher_exact
from torch import nn

from pacd.counts import bound

N, SIGMA, ALPHA, LEVEL = 5000, 0.9, 0.001, 1e-6


class Nearest(nn.Module):
    """The class whose mean digit is nearest; keeps its answers."""

    def __init__(self, x, y):
        super().__init__()
        self.means = torch.stack([x[y == c].mean(0).flatten() for c in range(10)])
        self.answers = torch.empty(0, dtype=torch.int64)

    def forward(self, x):
        scores = x.flatten(1) @ self.means.T - self.means.square().sum(1) / 2
        self.answers = torch.cat([self.answers, scores.argmax(1)])
        return scores


def of_art(model, points, sigma):
    """ART's rows: the counts that the model saw of each point's last N draws; its own answers."""
    module = pytest.importorskip(
        "art.estimators.certification.randomized_smoothing", reason="ART is not installed"
    )
    smoothed = module.PyTorchRandomizedSmoothing(
        model, nn.CrossEntropyLoss(), (1, 28, 28), 10, sample_size=100, scale=sigma, alpha=ALPHA
    )
    np.random.seed(1)
    rows = []
    for point in points:
        model.answers = model.answers[:0]
        (prediction,), (radius,) = smoothed.certify(point[None].numpy(), N, batch_size=N)
        first, last = model.answers.split([100, N])
        counts = dict(enumerate(last.bincount(minlength=10).tolist()))
        guess = first.bincount().argmax().item()
        rows.append({"guess": guess, "answer": prediction, "radius": radius, **counts})
    return pd.DataFrame(rows)


def smallest_p(ours, theirs):
    """Of Fisher's exact tests whether a class has one share in both, over points and classes."""
    ours, theirs = (table.to_numpy() for table in (ours, theirs))
    pairs = np.stack([ours, N - ours, theirs, N - theirs], -1).reshape(-1, 2, 2)
    return min(fisher_exact(pair).pvalue for pair in pairs)


def test_counts_are_distributed_as_arts_and_radii_are_equal(digits):
    model = Nearest(digits.x_train, digits.y_train).eval()
    points = digits.x_test[5::50]
    theirs = of_art(model, points, SIGMA)
    label = torch.tensor(theirs["guess"])
    ours = certify(model, points, label, SIGMA, n=N, alpha=ALPHA).filter(like="count_")
    classes = theirs[list(range(10))]
    assert smallest_p(ours, classes) > LEVEL
    assert smallest_p(ours, of_art(model, points, 1.1 * SIGMA)[list(range(10))]) < LEVEL
    facts = pd.DataFrame({"label": label, "guess": theirs["guess"], "n": N, "sigma": SIGMA})
    again = bound(facts.assign(alpha=ALPHA).join(classes.add_prefix("count_")))
    np.testing.assert_allclose(again["radius"], theirs["radius"], rtol=1e-6)
    assert (again["prediction"] == theirs["answer"]).all() and set(again["prediction"]) > {-1}
