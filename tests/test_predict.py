"""The predicted ACR against the certified one, on points whose p_A are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm

from pacd.counts import bound, lower_bound
from study import predict as e
from study.intervals import acr

POPULATIONS = {
    "one hump": lambda g, size: g.normal(4, 1.2, size),
    "nearly all at the cap": lambda g, size: g.normal(5, 1, size),
    "two humps, as after poisoning": lambda g, size: np.where(
        g.random(size) < 0.3, g.normal(0.3, 1, size), g.normal(4, 0.8, size)
    ),
}


def rows(t, n, generator, sigma=0.5):
    lost = generator.binomial(n, norm.sf(t))
    return bound(
        pd.DataFrame(
            {
                "label": 0,
                "guess": 0,
                "n": n,
                "alpha": 0.001,
                "sigma": sigma,
                "count_0": n - lost,
                "count_1": lost,
            }
        )
    )


@pytest.mark.parametrize("name", POPULATIONS)
def test_prediction_is_close_and_its_interval_honest(name):
    generator, errors, inside = np.random.default_rng(0), [], 0
    for _ in range(8):
        t = POPULATIONS[name](generator, 200)
        prediction, truth = (
            e.predict_acr(rows(t, 1900, generator), resamples=15),
            acr(rows(t, 100_000, generator)),
        )
        errors.append(prediction.predicted_acr / truth - 1)
        inside += prediction.low < truth < prediction.high
    assert abs(np.mean(errors)) < 0.01  # the claim of the module, 1 %
    assert binom.cdf(inside, 8, 0.95) > 1e-3


def test_expected_radius_matches_the_sum_over_all_counts():
    k = np.arange(501)
    radius = norm.ppf(lower_bound(k, 500, 0.01)).clip(0)
    exact = np.array([binom.pmf(k, 500, p) @ radius for p in norm.cdf(e.GRID)])
    assert np.abs(e.radius_moment(500, 0.01, 1, slices=2000) - exact).max() < 2e-3


def test_wrong_guesses_count_zero():
    generator = np.random.default_rng(0)
    table = rows(generator.normal(3, 1, 100), 500, generator)
    half = table.assign(guess=np.where(np.arange(100) % 2, 0, 1))
    right = e.predict_acr(table[1::2].reset_index(drop=True), resamples=2)
    assert e.predict_acr(half, resamples=2).predicted_acr == pytest.approx(right.predicted_acr / 2)
    assert e.predict_acr(table.assign(guess=1)) == (0, 0, 0)
