"""The certifier against a plain loop over Cohen's algorithm CERTIFY, draw by draw."""

import numpy as np
import pytest
import torch
from certifying import certify
from scipy.stats import binomtest, norm

from pacd.models import make_model


def draws(shape, sigma, n, seed):
    """n draws: blocks of 1,000 in double precision, from one generator, each rounded once."""
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for _ in range(-(-n // 1000)):
        block = torch.empty(1000, *shape, dtype=torch.float64)
        blocks.append(block.normal_(0, sigma, generator=generator))
    return torch.cat(blocks)[:n].float()


@torch.no_grad()
def cohen(model, image, sigma, n0, n, alpha, seed):
    """Counts of the n draws, the class (None to abstain), and the radius."""

    def count(noise):
        counts = [0] * 10
        for draw in noise:
            counts[model((image + draw)[None]).argmax().item()] += 1
        return counts

    first = count(draws(image.shape, sigma, n0, 2 * seed))
    guess = first.index(max(first))
    counts = count(draws(image.shape, sigma, n, 2 * seed + 1))
    test = binomtest(counts[guess], n).proportion_ci(1 - 2 * alpha, "exact")
    if test.low <= 0.5:
        return counts, None, 0.0
    return counts, guess, sigma * norm.ppf(test.low)


@pytest.mark.parametrize("sigma, n, alpha, seed", [(0.25, 1100, 0.001, 0), (0.1, 60, 0.05, 3)])
def test_counts_and_radii_are_those_of_a_plain_loop(digits, sigma, n, alpha, seed):
    """A fresh network likes one class; scaled noise makes it doubt, so that some points abstain."""
    model = make_model("lenet", digits.shape, 10, 3).eval()
    x = digits.x_test[::100]
    y = model(x).argmax(1)
    rows = certify(model, x, y, sigma, n0=50, n=n, alpha=alpha, seed=seed)
    for image, label, row in zip(x, y.tolist(), rows.to_dict("records")):
        counts, prediction, radius = cohen(model, image, sigma, 50, n, alpha, seed)
        counted = np.array([row[f"count_{c}"] for c in range(10)])
        assert np.abs(counted - counts).sum() <= 2  # one tie that rounding decides
        if (counted == counts).all():
            assert row["prediction"] == (-1 if prediction is None else prediction)
            expected = radius if prediction == label else 0.0
            assert row["radius"] == pytest.approx(expected, rel=1e-9)
    assert (rows["radius"] > 0).any() and rows.filter(like="count_").gt(0).sum(1).max() > 1
