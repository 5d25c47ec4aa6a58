import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp

from study import intervals


def table(radius, seed_first=0):
    """Rows from an array (seeds, points) of radii."""
    seeds, points = radius.shape
    return pd.DataFrame(
        {
            "seed": np.repeat(np.arange(seeds) + seed_first, points),
            "index": np.tile(np.arange(points), seeds),
            "radius": radius.ravel(),
            "label": 8,
            "prediction": np.where(radius.ravel() > 0, 8, -1),
        }
    )


def test_numbers_of_a_small_table():
    rows = table(np.array([[0.0, 0.5, 1.0, 1.5]]))
    assert intervals.acr(rows) == 0.75 and intervals.abstention(rows) == 0.25
    assert intervals.certified_accuracy(rows, [0, 0.5, 0.51, 2]).tolist() == [0.75, 0.75, 0.5, 0]


def test_drop_of_a_small_table():
    clean, poisoned = np.array([[1.0, 2.0], [1.0, 4.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])
    drop = intervals.paired_drop(table(clean), table(poisoned))
    assert drop.drop == pytest.approx(0.5)
    influence = (poisoned - 0.5 * clean) / 2
    assert drop.se_seeds == pytest.approx(influence.mean(1).std(ddof=1) / np.sqrt(2))
    assert drop.se_points == pytest.approx(influence.mean(0).std(ddof=1) / np.sqrt(2))
    assert drop.low <= drop.low_seeds < 0.5 < drop.high_seeds <= drop.high


def simulate(generator, seeds=5, points=50):
    """Crossed random effects of seeds and points; the true drop is 0.4."""

    def half(level):
        return (
            level
            + 0.15 * generator.normal(size=(seeds, 1))
            + 0.3 * generator.normal(size=(seeds, points))
        )

    shared = 0.3 * generator.normal(size=(1, points))
    return table(half(1.0) + shared), table(half(0.6) + 0.6 * shared)


def coverage(interval, runs=400):
    generator = np.random.default_rng(0)
    return sum(
        low <= 0.4 <= high for low, high in (interval(*simulate(generator)) for _ in range(runs))
    )


def test_interval_covers_the_truth_at_its_level():
    hits = coverage(lambda c, p: intervals.paired_drop(c, p)[3:5])
    assert binomtest(hits, 400, 0.95, alternative="less").pvalue > 1e-3


def test_an_interval_that_forgets_the_seeds_is_found_out():
    def points_only(clean, poisoned):
        d = intervals.paired_drop(clean, poisoned)
        return d.drop - 1.96 * d.se_points, d.drop + 1.96 * d.se_points

    assert binomtest(coverage(points_only), 400, 0.95, alternative="less").pvalue < 1e-3


def test_interval_over_seeds_covers_the_drop_of_the_points_at_hand():
    """The true drop of fixed points: 60 % of each point's own radius, whatever the points."""
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        point = 1 + 0.5 * generator.normal(size=(1, 50))
        clean, poisoned = (
            level * point
            + 0.1 * generator.normal(size=(4, 1))
            + 0.1 * generator.normal(size=(4, 50))
            for level in (1, 0.6)
        )
        drop = intervals.paired_drop(table(clean), table(poisoned))
        hits += drop.low_seeds <= 0.4 <= drop.high_seeds
    assert binomtest(hits, 400, 0.95).pvalue > 1e-3


def test_unpaired_rows_are_refused():
    clean = table(np.ones((2, 3)))
    for other in (table(np.ones((2, 4))), table(np.ones((2, 3)), seed_first=1)):
        with pytest.raises(ValueError, match="same victim seeds and the same test points"):
            intervals.paired_drop(clean, other)
    with pytest.raises(ValueError, match="at least two victim seeds"):
        intervals.paired_drop(table(np.ones((1, 3))), table(np.ones((1, 3))))


def test_mean_interval_is_the_t_interval_of_each_column():
    values = np.random.default_rng(0).normal(size=(4, 3))
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    mean, low, high = intervals.mean_interval(values)
    np.testing.assert_allclose([mean, low, high], [values.mean(0), expected.low, expected.high])
    assert np.isnan(intervals.mean_interval(values[:1])[1:]).all()


def test_distortion():
    """Flat images have no variance, so the SSIM of a and b is (2ab + C) / (a^2 + b^2 + C) with C = 0.01^2."""
    clean = np.full((2, 1, 9, 9), 0.5)
    poison = clean + np.array([0.1, 0.2]).reshape(2, 1, 1, 1)
    similar = [(0.6 + 1e-4) / (0.61 + 1e-4), (0.7 + 1e-4) / (0.74 + 1e-4)]
    decibel = [20, -20 * np.log10(0.2)]
    assert intervals.distortion(clean, poison) == pytest.approx(
        {
            "linf": 0.2,
            "l2": 1.35,
            "psnr": np.mean(decibel),
            "psnr_worst": decibel[1],
            "ssim": np.mean(similar),
            "ssim_worst": similar[1],
        }
    )
    assert all(type(value) is float for value in intervals.distortion(clean, poison).values())


def test_ssim_of_one_window():
    """7 x 7 pixels hold one window: Wang's formula on the pixels as they are, and their population moments."""
    clean, poison = np.random.default_rng(0).uniform(size=(2, 1, 1, 7, 7))
    (variance, covariance), (_, other) = np.cov(clean.ravel(), poison.ravel(), ddof=0)
    means = clean.mean(), poison.mean()
    light = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    assert intervals.ssim(clean, poison) == pytest.approx(
        light * (2 * covariance + 9e-4) / (variance + other + 9e-4)
    )
    assert intervals.ssim(clean, clean) == pytest.approx(1)
    assert intervals.ssim(np.zeros((1, 3, 2, 4)), np.full((1, 3, 2, 4), 0.1)) == pytest.approx(
        1e-4 / (0.01 + 1e-4)
    )  # smaller than a window
