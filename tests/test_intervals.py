"""Numbers from rows against closed forms, and intervals against what they should cover."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest, norm, t, ttest_1samp

from pacd.counts import STOPPED, bound
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


def test_the_acr_in_words():
    """Two victims of 1 and 2: 12.706 standard errors of 1/2 on either side of 1.5."""
    rows = table(np.array([[0.5, 1.5], [2.0, 2.0]]))
    several = "ACR 1.500, 95 % interval over 2 victims -4.853 to 7.853"
    assert intervals.acr_sentence(rows) == several
    assert intervals.acr_sentence(rows[:2]) == "ACR 1.000, one victim: no interval"
    early = rows[:2].assign(looks=4)  # and fewer draws than others
    assert intervals.acr_sentence(early) == "ACR at least 1.000, one victim: no interval"


def test_drop_of_a_small_table():
    clean, poisoned = np.array([[1.0, 2.0], [1.0, 4.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])
    drop = intervals.paired_drop(table(clean), table(poisoned))
    assert drop.drop == pytest.approx(0.5)
    influence = (poisoned - 0.5 * clean) / 2
    assert drop.se_seeds == pytest.approx(influence.mean(1).std(ddof=1) / np.sqrt(2))
    assert drop.se_points == pytest.approx(influence.mean(0).std(ddof=1) / np.sqrt(2))
    assert drop.low <= drop.low_seeds < 0.5 < drop.high_seeds <= drop.high


def spread(size, deviation):
    """``size`` values around 0 whose standard deviation (of a sample) is ``deviation``."""
    values = np.linspace(-1, 1, size)
    return deviation * values / values.std(ddof=1)


def crossed(seeds, points, deviation_seeds, deviation_points):
    """Clean radii of 1, and poisoned ones of 0.6 plus a part of the seed and one of the point."""
    parts = spread(seeds, deviation_seeds)[:, None] + spread(points, deviation_points)
    return table(np.ones((seeds, points))), table(0.6 + parts)


def halves(drop):
    """Half widths over seeds and over both, from intervals that must be symmetric."""
    assert drop.low + drop.high == pytest.approx(2 * drop.drop)
    assert drop.low_seeds + drop.high_seeds == pytest.approx(2 * drop.drop)
    return (drop.high_seeds - drop.low_seeds) / 2, (drop.high - drop.low) / 2


@pytest.mark.parametrize("size", [2, 4, 25])
def test_seeds_and_points_that_vary_alike_double_variance_and_freedom(size):
    """The variance of either mean is v = 0.2^2 / size, with size - 1 degrees of freedom."""
    drop = intervals.paired_drop(*crossed(size, size, 0.2, 0.2))
    over_seeds, over_both = halves(drop)
    error = 0.2 / np.sqrt(size)
    assert drop.drop == pytest.approx(0.4)
    assert over_seeds == pytest.approx(t.ppf(0.975, size - 1) * error)
    wide = t.ppf(0.975, 2 * (size - 1)) * np.sqrt(2) * error
    assert over_both == pytest.approx(max(wide, over_seeds))
    assert (wide > over_seeds) == (size > 2)  # so both sides of the maximum are met


def test_interval_of_unlike_parts():
    """Variances 0.01 of 4 seeds, 0.04 of 9 points: 0.05^2 / (0.01^2 / 3 + 0.04^2 / 8) degrees."""
    drop = intervals.paired_drop(*crossed(4, 9, 0.2, 0.6), level=0.9)
    freedom = 0.0025 / (0.0001 / 3 + 0.0016 / 8)
    expected = t.ppf(0.95, 3) * 0.1, t.ppf(0.95, freedom) * np.sqrt(0.05)
    assert halves(drop) == pytest.approx(expected)


def test_where_only_seeds_vary_both_intervals_are_the_t_interval_of_the_seeds():
    clean, poisoned = crossed(5, 40, 0.1, 0)
    of_seeds = ttest_1samp(1 - (0.6 + spread(5, 0.1)), 0).confidence_interval(0.95)
    drop = intervals.paired_drop(clean, poisoned)
    assert (drop.low_seeds, drop.high_seeds) == pytest.approx((of_seeds.low, of_seeds.high))
    assert (drop.low, drop.high) == pytest.approx((of_seeds.low, of_seeds.high))


def test_where_nothing_varies_there_is_no_width():
    assert intervals.paired_drop(*crossed(3, 4, 0, 0))[:5] == pytest.approx((0.4,) * 5)


def test_interval_at_its_level():
    """99 % needs the wider quantile of the same t."""
    drops = [intervals.paired_drop(*crossed(9, 9, 0.1, 0.1), level=p) for p in (0.95, 0.99)]
    widths = [halves(drop)[1] for drop in drops]
    assert widths[1] / widths[0] == pytest.approx(t.ppf(0.995, 16) / t.ppf(0.975, 16))


def simulate(generator, seeds=20, points=20, of_seeds=0.1, of_points=0.1):
    """Crossed random effects of seeds and of points in each half; the true drop is 0.4."""

    def half(level):
        parts = of_seeds * generator.normal(size=(seeds, 1))
        return level + parts + of_points * generator.normal(size=(1, points))

    return table(half(1.0)), table(half(0.6))


def coverage(interval, runs=250, **sizes):
    generator = np.random.default_rng(0)
    drawn = (interval(*simulate(generator, **sizes)) for _ in range(runs))
    return sum(low <= 0.4 <= high for low, high in drawn)


def outer(clean, poisoned):
    drop = intervals.paired_drop(clean, poisoned)
    return drop.low, drop.high


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"seeds": 4, "points": 60, "of_points": 0.4},
        {"seeds": 25, "points": 12, "of_seeds": 0.15},
        {"seeds": 6, "points": 40, "of_points": 0.0},
    ],
)
def test_interval_covers_the_truth_at_its_level(sizes):
    covered = coverage(outer, **sizes)
    assert binomtest(covered, 250, 0.95).pvalue > 1e-3


@pytest.mark.parametrize("error", ["se_points", "se_seeds"])
def test_an_interval_that_forgets_a_part_is_found_out(error):
    def one_part(clean, poisoned):
        drop = intervals.paired_drop(clean, poisoned)
        half = t.ppf(0.975, 19) * getattr(drop, error)
        return drop.drop - half, drop.drop + half

    assert binomtest(coverage(one_part, 100), 100, 0.95, alternative="less").pvalue < 1e-4


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


@pytest.mark.parametrize(
    "name, here, there",
    [
        ("sigma", 0.25, 0.5),
        ("alpha", 0.001, 0.01),
        ("n", 1000, 2000),
        ("n0", 100, 50),
        ("looks", 1, 4),
        ("train_size", None, 300),
        ("normalisation", "none", "centred"),
        ("epochs", 10, 30),
        ("trainer", "gaussian", "macer"),
        ("noise_seed", 0, 1),
        ("precision", "int8", "float32"),
        ("training_precision", "float32", "bfloat16"),
        ("dataset", "mnist", "cifar10"),
        ("target_class", 8, 3),
        ("n_asked", 1000, 1500),
        ("radii", "0.1", "0.1, 0.5"),
    ],
)
def test_unlike_rows_are_refused(name, here, there):
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    pair = clean.assign(**{name: here}), poisoned.assign(**{name: there})
    bootstrap = partial(
        intervals.paired_bootstrap, statistic=lambda a, b: (a - b).mean(), resamples=9
    )
    for compare in (intervals.paired_drop, bootstrap):
        with pytest.raises(ValueError, match=f"must have the same {name}, not"):
            compare(*pair)
        compare(clean.assign(**{name: here}), poisoned.assign(**{name: here}))


def test_settings_are_compared_seed_by_seed():
    """Two trainings on each side, but another for each seed's two victims."""
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    both = ["adam"] * 3 + ["sgd"] * 3
    with pytest.raises(ValueError, match="must have the same optimizer under each seed"):
        intervals.paired_drop(clean.assign(optimizer=both), poisoned.assign(optimizer=both[::-1]))
    intervals.paired_drop(clean.assign(optimizer=both), poisoned.assign(optimizer=both))


@pytest.mark.parametrize("name", ["data_sha256", "test_sha256", "brought"])
def test_rows_of_other_data_or_code_are_refused(name):
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    one, other = ({name: value} for value in ("one", "other"))
    with pytest.raises(ValueError, match=f"must have the same {name}"):
        intervals.paired_drop(clean.assign(**one), poisoned.assign(**other))
    both = poisoned.assign(**{name: ["one"] * 3 + ["other"] * 3})
    with pytest.raises(ValueError, match=f"must have the same {name}"):
        intervals.paired_drop(clean, both)
    for known in (clean.assign(**one), clean, clean.assign(**{name: None})):  # old rows have none
        intervals.paired_drop(known, poisoned.assign(**one))


def test_a_bound_is_compared_with_its_like():
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    with pytest.raises(ValueError, match="same bound, not exact and randomised"):
        intervals.paired_drop(clean, poisoned.assign(u=[0.5, 0.1, 0.9] * 2))
    intervals.paired_drop(clean, poisoned.assign(u=1.0))
    intervals.paired_drop(clean.assign(looks=np.nan), poisoned.assign(looks=1))  # both: once


def test_victims_of_two_poisons_are_no_cell():
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    two = ["one"] * 3 + ["other"] * 3
    with pytest.raises(ValueError, match="poisoned rows must be of victims of the same training"):
        intervals.paired_drop(clean.assign(train_sha256="clean"), poisoned.assign(train_sha256=two))
    with pytest.raises(ValueError, match="a test point once under each seed"):
        intervals.paired_drop(pd.concat([clean, clean]), poisoned)


def test_whole_training_sets_are_a_cell_too():
    clean = table(np.ones((2, 3))).assign(attack="none", train_size=None, sigma=0.5)
    rows = pd.concat([clean, clean.assign(attack="uniform"), clean.assign(train_size=300)])
    ((cell, before, after),) = intervals.pairs(rows, ["train_size", "sigma", "attack"])
    assert pd.isna(cell["train_size"]) and cell["sigma"] == 0.5
    assert len(before) == len(after) == 6 and before["train_size"].isna().all()


def test_points_that_changed_their_label_are_refused():
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    with pytest.raises(ValueError, match="same labels"):
        intervals.paired_drop(clean.assign(label=1), poisoned.assign(label=[1, 1, 2] * 2))


def test_stopped_rows_have_no_draws_to_compare():
    clean, poisoned = table(np.ones((2, 3))), table(np.ones((2, 3)) / 2)
    intervals.paired_drop(clean.assign(n=1000), poisoned.assign(n=[0, 1000, 0] * 2))
    intervals.paired_drop(clean.assign(n=1000), poisoned.assign(n=0))


def test_a_single_point_has_no_interval():
    with pytest.raises(ValueError, match="at least two points"):
        intervals.paired_drop(table(np.ones((3, 1))), table(np.ones((3, 1)) / 2))


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


def run_of(attack, trainer, seeds, **more):
    """One row for each seed."""
    columns = {"attack": attack, "trainer": trainer, "seed": seeds, "index": 0, **more}
    return pd.DataFrame(columns)


def test_pairs_are_of_one_trainer_and_of_the_seeds_that_both_sides_have():
    rows = pd.concat(
        [
            run_of("none", "gaussian", [0, 1, 2], eps_linf=np.nan),
            run_of("cg", "gaussian", [1, 2, 3], eps_linf=0.1),
            run_of("cg", "gaussian", [2, 3], eps_linf=0.2),  # one common seed is no pair
            run_of("none", "macer", [0, 1], eps_linf=np.nan),
            run_of("uniform", "macer", [0, 1], eps_linf=0.1),
            run_of("cg", "macer", [1, 0], eps_linf=0.1),
        ]
    )

    def found(**options):
        return [
            (cell["trainer"], cell["attack"], cell["eps_linf"])
            + tuple((set(side["attack"]), sorted(side["seed"])) for side in sides)
            for cell, *sides in intervals.pairs(rows, ["trainer", "attack", "eps_linf"], **options)
        ]

    assert found() == [
        ("gaussian", "cg", 0.1, ({"none"}, [1, 2]), ({"cg"}, [1, 2])),
        ("macer", "uniform", 0.1, ({"none"}, [0, 1]), ({"uniform"}, [0, 1])),
        ("macer", "cg", 0.1, ({"none"}, [0, 1]), ({"cg"}, [0, 1])),
    ]
    assert found(against="uniform") == [
        ("macer", "cg", 0.1, ({"uniform"}, [0, 1]), ({"cg"}, [0, 1]))
    ]


def test_probit_p_and_cap():
    """Won all, lost all, won all of a wrong guess (which is not at the cap), and never drawn."""
    columns = {
        "label": 0,
        "guess": [0, 0, 1, 0],
        "n": [99, 99, 99, 0],
        "alpha": 0.001,
        "sigma": 1.0,
        "count_0": [99, 0, 0, 0],
        "count_1": [0, 99, 99, 0],
    }
    rows = bound(pd.DataFrame(columns))
    assert rows["prediction"].tolist() == [0, -1, 1, STOPPED]
    expected = [norm.ppf(0.995), norm.ppf(0.005), norm.ppf(0.995), np.nan]
    np.testing.assert_allclose(intervals.probit_p(rows), expected, rtol=1e-12)
    assert intervals.point_at_cap(rows).tolist() == [True, False, False, False]


def ratio_drop(clean, poisoned):
    return 1 - poisoned.mean() / clean.mean()


def bootstrap(pair, **options):
    return intervals.paired_bootstrap(*pair, ratio_drop, **options)


def scaled(generator, seeds, points, of_seeds, of_points):
    """Poison takes 40 % of each point's radius, whatever the points; seeds differ."""
    base = 1 + of_points * generator.normal(size=points)
    return [
        table(level * base + of_seeds * generator.normal(size=(seeds, 1))) for level in (1.0, 0.6)
    ]


def test_bootstrap_tells_seeds_from_points():
    generator = np.random.default_rng(0)
    seeds_vary = bootstrap(scaled(generator, 12, 30, 0.1, 1e-9), resamples=300)
    alike = [
        table(np.repeat(generator.uniform(*limits, (1, 30)), 12, 0))
        for limits in ((0.5, 1.5), (0.0, 1.0))
    ]
    points_vary = bootstrap(alike, resamples=300)
    assert seeds_vary.se_points < 1e-6 < 0.01 < seeds_vary.se_seeds
    assert points_vary.se_seeds < 1e-12 < 0.01 < points_vary.se_points


def test_bootstrap_agrees_with_the_linear_errors():
    """Of 20 of either; a bootstrap's own are short by the square root of 19 / 20."""
    pair = simulate(np.random.default_rng(0))
    linear, resampled = intervals.paired_drop(*pair), bootstrap(pair, resamples=1000)
    assert resampled.value == pytest.approx(linear.drop)
    assert resampled.se_seeds == pytest.approx(linear.se_seeds * 0.95**0.5, rel=0.1)
    assert resampled.se_points == pytest.approx(linear.se_points * 0.95**0.5, rel=0.1)
    both = np.hypot(resampled.se_seeds, resampled.se_points)
    assert resampled.high - resampled.low == pytest.approx(2 * 1.96 * both, rel=0.1)
    assert resampled.low < resampled.value < resampled.high
    assert resampled == bootstrap(pair, resamples=1000) != bootstrap(pair, resamples=1000, seed=1)


def test_bootstrap_draws_the_same_seeds_and_points_on_both_sides():
    """Poison takes 40 % of every radius, so a paired comparison has nothing to vary."""
    radii = np.random.default_rng(0).uniform(0.5, 1.5, (5, 7))
    result = bootstrap((table(radii), table(0.6 * radii)), resamples=50)
    assert result == pytest.approx((0.4, 0.4, 0.4, 0, 0))


def test_bootstrap_covers():
    """Percentile intervals from 15 seeds are a little short of 95 %."""
    generator, inside, runs = np.random.default_rng(1), 0, 60
    for _ in range(runs):
        result = bootstrap(scaled(generator, 15, 20, 0.1, 0.2), resamples=120)
        inside += result.low < 0.4 < result.high
    assert binom.cdf(inside, runs, 0.9) > 1e-3


def test_bootstrap_wants_pairs():
    clean, poisoned = scaled(np.random.default_rng(0), 3, 4, 0.1, 0.1)
    with pytest.raises(ValueError, match="same victim seeds"):
        bootstrap((clean, poisoned[poisoned["seed"] > 0]))
    with pytest.raises(ValueError, match="at least two"):
        bootstrap([rows[rows["seed"] == 0] for rows in (clean, poisoned)])
