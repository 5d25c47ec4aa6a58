"""Numbers beside the ACR: p_A on the probit scale, points at the cap, the paired bootstrap."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm

from pacd.certify import STOPPED, bound
from study import intervals


def test_probit_p_and_cap():
    rows = pd.DataFrame(
        {
            "label": 0,
            "guess": [0, 0, 1, 0],
            "n": [99, 99, 99, 0],
            "alpha": 0.001,
            "sigma": 1.0,
            "count_0": [99, 0, 0, 0],
            "count_1": [0, 99, 99, 0],
        }
    )
    rows = bound(rows)
    t = intervals.probit_p(rows)
    assert t[:3] == pytest.approx([norm.ppf(0.995), norm.ppf(0.005), norm.ppf(0.995)]) and np.isnan(
        t[3]
    )
    assert intervals.point_at_cap(rows).tolist() == [True, False, False, False] and rows[
        "prediction"
    ].tolist() == [0, -1, 1, STOPPED]  # a wrong point is not at the cap


def table(values):
    seeds, points = values.shape
    return pd.DataFrame(
        {
            "seed": np.repeat(range(seeds), points),
            "index": np.tile(range(points), seeds),
            "radius": values.ravel(),
        }
    )


def drop(clean, poisoned):
    return 1 - poisoned.mean() / clean.mean()


def simulate(generator, seeds, points, spread_seeds, spread_points):
    base = 1 + spread_points * generator.normal(size=points)
    return [
        table(level * base + spread_seeds * generator.normal(size=(seeds, 1)))
        for level in (1.0, 0.6)
    ]


def test_bootstrap_tells_seeds_from_points():
    generator = np.random.default_rng(0)
    seeds_vary = intervals.paired_bootstrap(
        *simulate(generator, 12, 30, 0.1, 1e-9), drop, resamples=300
    )
    alike = [
        table(np.repeat(generator.uniform(*limits, (1, 30)), 12, 0))
        for limits in ((0.5, 1.5), (0.0, 1.0))
    ]
    points_vary = intervals.paired_bootstrap(*alike, drop, resamples=300)
    assert seeds_vary.se_points < 1e-6 < 0.01 < seeds_vary.se_seeds
    assert points_vary.se_seeds < 1e-12 < 0.01 < points_vary.se_points
    clean, poisoned = simulate(generator, 12, 30, 0.05, 0.2)
    linear, resampled = (
        intervals.paired_drop(clean, poisoned),
        intervals.paired_bootstrap(clean, poisoned, drop),
    )
    assert resampled.value == pytest.approx(linear.drop)
    assert resampled.se_seeds == pytest.approx(linear.se_seeds, rel=0.15)
    assert resampled.low < resampled.value < resampled.high


def test_bootstrap_covers():
    generator, inside, runs = np.random.default_rng(1), 0, 60
    for _ in range(runs):
        result = intervals.paired_bootstrap(
            *simulate(generator, 15, 20, 0.1, 0.2), drop, resamples=120
        )
        inside += result.low < 0.4 < result.high
    assert (
        binom.cdf(inside, runs, 0.9) > 1e-3
    )  # percentile intervals from 15 seeds are a little short of 95 %


def test_bootstrap_wants_pairs():
    clean, poisoned = simulate(np.random.default_rng(0), 3, 4, 0.1, 0.1)
    with pytest.raises(ValueError, match="same victim seeds"):
        intervals.paired_bootstrap(clean, poisoned[poisoned["seed"] > 0], drop)
    with pytest.raises(ValueError, match="at least two"):
        intervals.paired_bootstrap(clean[clean["seed"] == 0], poisoned[poisoned["seed"] == 0], drop)
