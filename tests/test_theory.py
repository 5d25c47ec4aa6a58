"""The theory chapter's statements, each against an independent computation.

Every check is a function that can also be handed a wrong formula; the `planted` half of a test does that and expects
the check to fail, so a check too weak to notice would be noticed itself. Random numbers are seeded.
"""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from study import theory as t

BOOK = Path(__file__).resolve().parents[1] / "book"
MEAN, COV = (
    np.array([1.0, -0.4, 0.3]),
    np.array([[0.5, 0.1, 0.0], [0.1, 0.3, -0.1], [0.0, -0.1, 0.4]]),
)
W, B = np.array([0.8, -0.5, 0.4]), -0.3


def in_interval(value, sample):
    """Is ``value`` inside the 99.9 % interval (3.29 standard errors) of the mean of a sample?"""
    return abs(value - sample.mean()) < 3.29 * sample.std() / np.sqrt(len(sample))


def is_gradient(gradient, f, x, step=1e-5):
    """Does ``gradient`` agree with central differences of f at x, to 6 digits of its length?"""
    x = np.asarray(x, float)
    numeric = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[i] = step
        numeric[i] = (f(x + e) - f(x - e)) / (2 * step)
    return np.linalg.norm(gradient - numeric) < 1e-6 * np.linalg.norm(numeric)


def same_boundary(one, other):
    """Are two pairs (w, b) the same half space?"""
    flat = [np.append(*pair) / np.linalg.norm(pair[0]) for pair in (one, other)]
    return np.allclose(*flat, rtol=1e-8, atol=1e-10)


def two_classes(seed=0, target=12, others=20, gap=2.0, k=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(target + others, k)) * np.linspace(0.3, 0.8, k)
    y = np.repeat([1, -1], [target, others])
    x[y == 1] += gap / np.sqrt(k)
    return x, y


def in_ball(rng, count, k, r):
    """Points of the L2 ball, half of them on its surface."""
    v = rng.normal(size=(count, k))
    length = np.where(np.arange(count) % 2, 1, rng.uniform(size=count) ** (1 / k))
    return v / np.linalg.norm(v, axis=1, keepdims=True) * r * length[:, None]


def margin(v, d, c):
    """Signed distance of the target mean for an isotropic covariance, computed from the learner itself."""
    base = np.arange(len(d)) * 0.7
    rule = t.Rule(np.eye(len(d)), c / 2)
    return t.signed_distance(base + d, *t.boundary(d + v, base, rule))


# ---- set-up


def test_noise_leaves_the_boundary():
    rng = np.random.default_rng(1)
    for sigma in (0.25, 1.0):
        for x in rng.normal(size=(4, 3)) * 0.3:
            votes = ((x + sigma * rng.normal(size=(200_000, 3))) @ W + B > 0).astype(float)
            assert in_interval(t.target_probability(x, W, B, sigma), votes)
            assert not in_interval(t.target_probability(x, W, B, 1.1 * sigma), votes)  # planted
            assert (t.target_probability(x, W, B, sigma) > 0.5) == (x @ W + B > 0)
    z = t.signed_distance(MEAN, W, B)
    for factor, side in ((0.999, True), (1.001, False)):  # no larger radius can be certified
        assert (
            t.target_probability(MEAN - factor * z * W / np.linalg.norm(W), W, B, 0.5) > 0.5
        ) == side


def test_gaussian_acr():
    rng = np.random.default_rng(2)
    for scale in (0.3, 1.0, 3.0):
        radius = np.maximum(
            t.signed_distance(rng.multivariate_normal(MEAN, scale * COV, 400_000), W, B), 0
        )
        value = t.acr(W, B, MEAN, scale * COV)
        assert in_interval(value, radius)
        assert not in_interval(1.02 * value, radius)  # planted
    points = rng.normal(size=(50, 3))
    assert np.isclose(
        t.acr_of_points(W, B, points),
        np.mean([max(0, (x @ W + B) / np.linalg.norm(W)) for x in points]),
    )


def test_mean_positive_part():
    mu, s = np.meshgrid(np.linspace(-3, 3, 61), (0.2, 1.0, 2.0))
    H, gap = t.mean_positive_part(mu, s), t.mean_positive_part(mu, s) - np.maximum(mu, 0)
    e = 1e-5
    slope = (t.mean_positive_part(mu + e, s) - t.mean_positive_part(mu - e, s)) / (2 * e)
    wider = (t.mean_positive_part(mu, s + e) - t.mean_positive_part(mu, s - e)) / (2 * e)
    assert not np.allclose(slope, t.ndtr(mu), atol=1e-3)  # planted: the spread forgotten
    assert np.allclose(slope, t.ndtr(mu / s), atol=1e-8) and np.allclose(
        wider, t._density(mu / s), atol=1e-8
    )
    assert (np.diff(H, 2) > -1e-12).all()  # convex in mu
    assert (gap >= -1e-15).all() and np.allclose(gap.max(1), s[:, 0] / np.sqrt(2 * np.pi))
    assert (np.argmax(gap, 1) == 30).all()  # largest where mu = 0


def test_radius_cap():
    assert np.isclose(t.radius_cap(1.0, 100_000, 0.001), 3.81, atol=0.005)
    assert np.isclose(t.radius_cap(0.5, 1_000, 0.001), 0.5 * 2.46, atol=0.005)
    z = np.random.default_rng(3).normal(0.7, 0.9, 400_000)
    capped = np.clip(z, 0, 1.2)
    assert in_interval(t.capped_mean(0.7, 0.9, 1.2), capped)
    assert not in_interval(t.mean_positive_part(0.7, 0.9), capped)  # planted: no cap


def augmented(x, y, sigma):
    """Least squares on copies x +- sigma sqrt(k) e_j: noise with exactly the two moments of N(0, sigma^2 I)."""
    k = x.shape[1]
    noise = sigma * np.sqrt(k) * np.vstack([np.eye(k), -np.eye(k)])
    X = (x[:, None] + noise).reshape(-1, k)
    theta = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), np.repeat(y, 2 * k), rcond=None)[
        0
    ]
    return theta[:-1], theta[-1]


def test_augmentation_is_ridge():
    x, y = two_classes()

    def agrees(lam):
        return all(np.allclose(a, b) for a, b in zip(t.ridge(x, y, lam), augmented(x, y, 0.6)))

    assert agrees(t.ga_penalty(len(x), 0.6))
    assert not agrees(0.6**2) and not agrees(2 * len(x) * 0.6**2)  # planted
    rng, draws = np.random.default_rng(4), 4000
    X = np.column_stack(
        [
            np.repeat(x, draws, 0) + 0.6 * rng.normal(size=(len(x) * draws, 3)),
            np.ones(len(x) * draws),
        ]
    )
    sampled = np.linalg.lstsq(X, np.repeat(y, draws), rcond=None)[0]
    assert np.allclose(sampled, np.append(*t.ridge(x, y, t.ga_penalty(len(x), 0.6))), atol=0.01)


def test_learners_share_one_form():
    for target in (6, 20, 30):  # minority, balanced, majority
        x, y = two_classes(target=target)
        s = t.summarise(x, y)
        for sigma in (0.1, 1.0):
            direct = t.ridge(x, y, t.ga_penalty(len(x), sigma))
            rule = t.ga_rule(s, sigma)
            assert same_boundary(t.boundary(s.d, s.base, rule), direct)
            wrong = rule._replace(h=2 * rule.h + 0.01)
            assert not same_boundary(t.boundary(s.d, s.base, wrong), direct)  # planted
    x, y = two_classes(target=20)
    s = t.summarise(x, y)
    far, near = t.boundary(s.d, s.base, t.ga_rule(s, 1e5)), t.boundary(s.d, s.base, t.mean_rule(s))
    assert np.allclose(
        *[np.append(*pair) / np.linalg.norm(pair[0]) for pair in (far, near)], atol=1e-6
    )
    with pytest.raises(ValueError, match="both labels"):
        t.summarise(x, np.ones(len(x)))


def test_reach_of_the_mean():
    rng = np.random.default_rng(5)
    for order in (2, np.inf):
        moves = in_ball(rng, 30, 4, 1.0)
        moves *= 0.3 / np.linalg.norm(moves, order, axis=1, keepdims=True)
        mean = moves.sum(0) / 40  # 30 of 40 points move
        assert np.linalg.norm(mean, order) <= 30 / 40 * 0.3 + 1e-12
        common = np.tile(0.3 * mean / np.linalg.norm(mean, order), (30, 1)).sum(0) / 40
        assert np.isclose(np.linalg.norm(common, order), 30 / 40 * 0.3)
        assert not np.isclose(np.linalg.norm(common, order), 0.3)  # planted: the fraction forgotten


def test_summary_after_a_partial_shift():
    x, y = two_classes(target=12)
    x[:6] -= x[:6].mean(0) - x[:12].mean(0)  # the first half now has the mean of the class
    x[6:12] -= x[6:12].mean(0) - x[:6].mean(0)
    v, s = np.array([0.3, -0.2, 0.5]), t.summarise(x, y)
    moved = x.copy()
    moved[:6] += v
    for got, expected in zip(t.shift_fraction(s, v, 0.5), t.summarise(moved, y)):
        assert np.allclose(got, expected)
    assert not np.allclose(s.cov, t.summarise(moved, y).cov)  # planted: the covariance stays


# ---- gradients and decomposition


def test_shift_gradient():
    x, y = two_classes()
    s, v = t.summarise(x, y), np.array([0.1, -0.3, 0.2])

    def of_pair(theta):
        return t.acr(theta[:-1], theta[-1], MEAN, COV)

    assert is_gradient(np.append(*t.acr_gradient(W, B, MEAN, COV)), of_pair, np.append(W, B))
    for rule in (t.mean_rule(s), t.ga_rule(s, 0.5)):

        def of_shift(v):
            return t.acr_after_shift(v, s, rule, MEAN, COV)

        gradient = t.acr_shift_gradient(v, s, rule, MEAN, COV)
        assert is_gradient(gradient, of_shift, v)
        assert not is_gradient(gradient * 1.001, of_shift, v)  # planted
        assert not is_gradient(
            rule.B @ t.acr_gradient(*t.boundary(s.d + v, s.base, rule), MEAN, COV)[0], of_shift, v
        )
    # The first-order statement: at v = 0, m_t = m_+ and isotropic test covariance the gradient is -Phi(D / 2s) d / 2D.
    D = np.linalg.norm(s.d)
    flat = t.acr_shift_gradient(np.zeros(3), s, t.mean_rule(s), s.base + s.d, 0.25 * np.eye(3))
    assert np.allclose(flat, -t.ndtr(D / 2 / 0.5) * s.d / (2 * D))
    for dual, optimum in ((2, t.best_shift), (1, t.best_shift_cube)):
        drop = t.mean_positive_part(D / 2, 0.5) - t.mean_positive_part(
            optimum(s.d, 1e-5, 0.0)[1], 0.5
        )
        assert np.isclose(drop, t.small_drop(s.d, 1e-5, 0.5, dual), rtol=1e-4)
        assert not np.isclose(
            drop, t.small_drop(s.d, 1e-5, 0.5, np.inf), rtol=1e-4
        )  # planted: the wrong norm


def test_point_gradient():
    x, y = two_classes(target=5, others=7)
    lam = t.ga_penalty(len(x), 0.4)
    pair = t.ridge(x, y, lam)
    gradient = t.ridge_point_gradient(x, y, lam, *t.acr_gradient(*pair, MEAN, COV))

    def of_points(x):
        return t.acr(*t.ridge(x, y, lam), MEAN, COV)

    assert is_gradient(gradient, of_points, x)
    residual_only = t.ridge_point_gradient(x, y, lam, *t.acr_gradient(*pair, MEAN, COV)) * [
        1,
        1,
        0.99,
    ]
    assert not is_gradient(residual_only, of_points, x)  # planted
    assert np.linalg.matrix_rank(gradient, tol=1e-10) == 2
    s = t.summarise(x, y)  # moving all target points together is the rigid shift
    assert np.allclose(
        gradient[y == 1].sum(0), t.acr_shift_gradient(np.zeros(3), s, t.ga_rule(s, 0.4), MEAN, COV)
    )


def test_offset_and_angle():
    rng = np.random.default_rng(6)
    for _ in range(20):
        clean, poisoned = ((rng.normal(size=4), rng.normal()) for _ in range(2))
        mean = rng.normal(size=4)
        offset, angle = t.offset_and_angle(clean, poisoned, mean)
        change = t.signed_distance(mean, *poisoned) - t.signed_distance(mean, *clean)
        assert np.isclose(offset + angle, change)
        foot = mean - t.signed_distance(mean, *clean) * clean[0] / np.linalg.norm(clean[0])
        assert np.isclose(offset, t.signed_distance(foot, *poisoned))
        assert not np.isclose(
            offset, t.signed_distance(mean, *poisoned)
        )  # planted: the wrong pivot
    s = t.summarise(*two_classes())
    for v in in_ball(rng, 10, 3, 1.0):
        u, rule, D = s.d + v, t.mean_rule(s), np.linalg.norm(s.d)
        pairs = [t.boundary(d, s.base, rule) for d in (s.d, u)]
        offset, angle = t.offset_and_angle(*pairs, s.base + s.d)
        assert np.isclose(offset, -v @ u / np.linalg.norm(u) / 2)
        assert np.isclose(angle, D / 2 * (s.d @ u / D / np.linalg.norm(u) - 1))


# ---- optimal poisons


def local_minima(values):
    """Indices of the local minima of a list, ends included."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    return np.flatnonzero((values < padded[:-2]) & (values < padded[2:]))


def is_optimum_on_line(D, r, c, optima):
    """Are these all local minima of ACR over [-r, r], the global one first? By search on a grid."""
    grid = np.linspace(-r, r, 2001)
    values = np.array(
        [t.mean_positive_part(margin(np.array([v]), np.array([D]), c), 10.0) for v in grid]
    )
    found = grid[local_minima(values)]
    return sorted(optima) == pytest.approx(sorted(found)) and optima[0] == pytest.approx(
        grid[np.argmin(values)]
    )


def test_optimum_on_a_line():
    D, counts = 1.5, set()
    for r in (0.2, 0.7, 1.2):
        for c in (
            -1.0,
            0.0,
            0.5 * (D - r) ** 2,
            0.9 * (D**2 - r**2),
            1.1 * (D**2 - r**2),
            1.5 * (D + r) ** 2,
        ):
            optima = t.local_optima_line(D, r, c)
            counts.add(len(optima))
            assert is_optimum_on_line(D, r, c, optima), (r, c)
            v, left = t.best_shift(np.array([D]), r, c)
            assert v[0] == pytest.approx(optima[0]) and left == pytest.approx(
                margin(v, np.array([D]), c)
            )
            assert not is_optimum_on_line(D, r, c, [-optima[0]])  # planted: the other end
    assert counts == {1, 2}
    sigma = t.switch_noise(0.2, 0.3, D, 0.7)
    assert np.isclose(t.imbalance(0.2, 0.3, sigma), D**2 - 0.7**2)
    assert np.isnan(
        t.switch_noise(0.2, 30.0, D, 0.7)
    )  # so much variance that it points towards the others anyway
    c = D**2 - 0.5 * 0.7**2  # between the right switch D^2 - r^2 and the planted one, D^2
    assert is_optimum_on_line(D, 0.7, c, t.local_optima_line(D, 0.7, c))
    assert not is_optimum_on_line(
        D, 0.7, c, t.local_optima_line(D, 0.7, c)[::-1]
    )  # planted: the order at c < D^2


def test_beyond_the_gap_on_a_line():
    d, s = np.array([1.0]), 0.3
    # Equal classes, r > D: shifting past the other class is better than any shift up, and leaves -(D + r) / 2.
    grid = np.linspace(-1.6, 1.6, 3201)
    values = np.array([margin(np.array([v]), d, 0.0) for v in grid if abs(1 + v) > 1e-9])
    assert values.min() == pytest.approx(-(1 + 1.6) / 2)
    assert values.min() != pytest.approx((1 - 1.6) / 2)  # planted: the end +r instead
    # A smaller class: towards v = -D the threshold runs away and ACR goes to 0.
    assert t.mean_positive_part(margin(np.array([-1 + 1e-4]), d, 0.5), s) < 1e-12


def is_optimal(v, left, candidates, d, c):
    """Does v leave the margin it claims, and no candidate a smaller one?"""
    best = min(margin(w, d, c) for w in candidates)
    return np.isclose(margin(v, d, c), left) and left <= best + 1e-12


def test_optimum_in_a_ball():
    rng = np.random.default_rng(7)
    for k in (2, 5):
        d = rng.normal(size=k)
        D = np.linalg.norm(d)
        for r in (0.3 * D, 0.8 * D):
            ring = in_ball(rng, 3000, k, r)
            for c in (0.0, 0.9 * (D**2 - r**2), 1.1 * (D**2 - r**2), 3 * D**2):
                v, left = t.best_shift(d, r, c)
                assert is_optimal(v, left, ring, d, c)
                assert not is_optimal(
                    -v, margin(-v, d, c), ring, d, c
                )  # planted: the other direction
                assert not is_optimal(
                    v, 1.01 * left + 1e-3, ring, d, c
                )  # planted: a wrong constant
    with pytest.raises(ValueError, match="r < "):
        t.best_shift(d, D, 0.0)
    for v in in_ball(rng, 3000, k, 2 * D):  # beyond the gap: -(D + r) / 2, equal classes
        assert margin(v, d, 0.0) >= -(D + 2 * D) / 2 - 1e-9
    assert np.isclose(margin(-2 * d, d, 0.0), -(D + 2 * D) / 2)


def test_optimum_is_an_extreme_point():
    rng = np.random.default_rng(8)
    s = t.summarise(*two_classes(target=8))
    rule = t.ga_rule(s, 0.3)

    def left(v):
        return t.signed_distance(s.base + s.d, *t.boundary(s.d + v, s.base, rule))

    for _ in range(10):
        corners = rng.normal(size=(6, 3)) * 0.1
        inside = rng.dirichlet(np.ones(6), 300) @ corners
        assert min(map(left, corners)) >= 0  # the proposition's assumption
        assert min(map(left, inside)) > min(map(left, corners))
    # Without the assumption the check fails: between two such ends, next to -d, the margin is far lower.
    away = np.cross(s.d, [0, 0, 1.0]) / np.linalg.norm(s.d)
    ends = [-0.98 * s.d + side * 0.3 * away for side in (1, -1)]
    assert min(map(left, ends)) < 0 and left((ends[0] + ends[1]) / 2) < min(map(left, ends))


def test_optimum_in_a_cube():
    rng = np.random.default_rng(9)
    for k in (2, 8):
        d = rng.normal(size=k) + 0.1
        D = np.linalg.norm(d)
        r = 0.5 * min(D / np.sqrt(k), np.abs(d).max())
        cube = [r * np.array(e) for e in product((-1, 1), repeat=k)] + list(
            rng.uniform(-r, r, (2000, k))
        )
        for c in (-0.5, 0.0, 0.5 * (D**2 - k * r**2)):
            v, left = t.best_shift_cube(d, r, c)
            assert is_optimal(v, left, cube, d, c)
            ball = r * d / np.abs(d).max()
            assert not is_optimal(
                ball, margin(ball, d, c), cube, d, c
            )  # planted: along d, the direction of L2
    with pytest.raises(ValueError):
        t.best_shift_cube(d, 1.01 * D / np.sqrt(k), 0.0)


def line_problem(seed, target=7, others=11):
    rng = np.random.default_rng(seed)
    x = np.concatenate([1.6 + 0.5 * rng.normal(size=target), 0.6 * rng.normal(size=others)])
    return x, np.repeat([1, -1], [target, others])


def is_best_poison(shift, x, y, eps, sigma, movable, rng):
    """Does no corner of the box and no random point inside it push ridge's own threshold further?"""

    def threshold(moves):
        moved = x.copy()
        moved[movable] += moves
        w, b = t.ridge(moved[:, None], y, t.ga_penalty(len(x), sigma))
        return -b / w[0]

    m = movable.sum()
    others = list(product((-eps, eps), repeat=m)) + list(rng.uniform(-eps, eps, (200, m)))
    best = max(map(threshold, map(np.array, others)))
    return np.all(shift[~movable] == 0) and threshold(shift[movable]) >= best - 1e-10


def test_best_poison_of_each_point_on_a_line():
    rng, kinds = np.random.default_rng(10), set()
    for seed, sigma, eps in product(range(3), (0.1, 1.4, 2.5), (0.2, 0.6)):
        x, y = line_problem(seed)
        movable = (y == 1) & (np.arange(len(y)) != seed)
        shift = t.best_poison_line(x, y, eps, sigma, movable)
        kinds.add(int((shift > 0).sum()))
        assert is_best_poison(shift, x, y, eps, sigma, movable, rng)
        assert not is_best_poison(0.9 * shift, x, y, eps, sigma, movable, rng)  # planted
        w, b = t.ridge((x + shift)[:, None], y, t.ga_penalty(len(x), sigma))
        assert np.isclose(t.threshold_line(x + shift, y, sigma), -b / w[0])
    assert {0, 6} < kinds, "all up, all down and a mixture must all occur"
    with pytest.raises(ValueError, match="smaller class"):
        t.best_poison_line(x, -y, 0.1, 1.0, y == -1)


# ---- fraction and floors


def test_fraction():
    d, s = np.array([1.2, 0.9]), 0.5
    D = np.linalg.norm(d)
    rho = np.linspace(0, 1, 21)

    def drop(optimum, eps):
        left = np.array([optimum(d, share * eps, 0.0)[1] for share in rho])
        return t.mean_positive_part(D / 2, s) - t.mean_positive_part(left, s)

    def at_least_its_share(drops):
        return bool((drops >= rho * drops[-1] - 1e-12).all())

    drops = drop(t.best_shift, 0.9 * D)
    assert np.allclose(
        drops, t.mean_positive_part(D / 2, s) - t.mean_positive_part((D - rho * 0.9 * D) / 2, s)
    )
    assert at_least_its_share(drops)
    assert (drops <= rho * 0.9 * D / 2).all()  # never more than half the shift of the mean
    assert not at_least_its_share(np.sin(rho * np.pi / 4) ** 2)  # planted: a convex curve
    d = np.array([1.5, 0.1])  # in the cube the share can be smaller: the remark after the theorem
    D, s = np.linalg.norm(d), 0.05
    assert not at_least_its_share(drop(t.best_shift_cube, 0.9))


def test_floor():
    rng = np.random.default_rng(11)
    s = t.summarise(*two_classes(target=10))
    skewed = s.base + s.d + rng.exponential(0.7, (300, 3)) - 0.7  # not Gaussian
    target = skewed.mean(0)
    for rule in (t.mean_rule(s), t.ga_rule(s, 0.8)):
        for r in (0.05, 0.2, 0.4):
            floor = t.margin_floor(s, rule, r) - np.linalg.norm(target - s.base - s.d)
            for v in in_ball(rng, 400, 3, r):
                assert t.acr_of_points(*t.boundary(s.d + v, s.base, rule), skewed) >= max(0, floor)
    D, r = np.linalg.norm(s.d), 0.4
    assert np.isclose(t.margin_floor(s, t.mean_rule(s), r), (D - r) / 2)
    v, left = t.best_shift(s.d, r, 0.0)
    assert np.isclose(left, (D - r) / 2)  # attained: the floor is tight
    assert left < (D - r / 2) / 2  # planted: half the slope is no floor
    near = t.boundary(
        s.d + v, s.base, t.mean_rule(s)
    )  # well separated: ACR itself comes down to the floor
    assert np.isclose(t.acr(*near, s.base + s.d, 0.01 * np.eye(3)), (D - r) / 2, rtol=1e-6)


def test_floor_of_each_point():
    rng = np.random.default_rng(12)
    x, y = two_classes(target=15, others=15, gap=4.0)
    s, eps, rho = t.summarise(x, y), 0.4, 2 / 3

    def holds(floor, sigma):
        for _ in range(300):
            moved = x.copy()
            moved[:10] += (
                in_ball(rng, 10, 3, eps) if rng.integers(2) else in_ball(rng, 1, 3, eps)[0]
            )
            if t.signed_distance(s.base + s.d, *t.ridge(moved, y, t.ga_penalty(30, sigma))) < floor:
                return False
        return True

    for sigma in (0.5, 1.0, 3.0):
        assert 0 < t.margin_floor_points(s, sigma, eps, rho) and holds(
            t.margin_floor_points(s, sigma, eps, rho), sigma
        )
    assert not holds(
        t.signed_distance(s.base + s.d, *t.ridge(x, y, t.ga_penalty(30, 3.0))), 3.0
    )  # planted: no fall
    D = np.linalg.norm(s.d)
    limit = (D - rho * eps) / 2
    assert np.isclose(t.margin_floor_points(s, 1e4, eps, rho), limit)
    x[:10] += eps * s.d / D  # the poison that attains the limit
    assert np.isclose(
        t.signed_distance(s.base + s.d, *t.ridge(x, y, t.ga_penalty(30, 1e4))), limit, rtol=1e-6
    )
    assert t.margin_floor_points(s, 0.1, 3.0, 1.0) == -np.inf


# ---- the general-purpose attack on the linear problem


def ridge_hypergradient(x, y, sigma, v, mean, cov):
    """The attack's own hypergradient of ACR in the shift v of the target points, at the exact ridge solution."""
    import torch

    from pacd.hypergradient import conjugate_gradient, hypergradient

    points, labels, m, S = (torch.tensor(np.asarray(a, float)) for a in (x, y, mean, cov))
    shift = torch.tensor(np.asarray(v, float), requires_grad=True)
    lam, rows = t.ga_penalty(len(x), sigma), (labels == 1)[:, None]
    moved = x + np.where(y[:, None] == 1, v, 0)
    w, b = (torch.tensor(a, requires_grad=True) for a in t.ridge(moved, y, lam))
    normal = torch.distributions.Normal(0.0, 1.0)

    def outer():
        mu, s = (w @ m + b) / w.norm(), (w @ S @ w).sqrt() / w.norm()
        return mu * normal.cdf(mu / s) + s * normal.log_prob(mu / s).exp()

    def inner():
        shifted = points + rows * (shift if shift.shape == points.shape else shift[None])
        return ((shifted @ w + b - labels) ** 2).sum() + lam * w @ w

    def solve(matvec, rhs):
        return conjugate_gradient(matvec, rhs, iterations=50, tolerance=1e-13)

    return hypergradient(outer, inner, [w, b], shift, solve, damping=0.0).gradient.numpy()


def sign_attack(x, y, sigma, r, mean, cov, steps=40):
    """Projected sign steps along the hypergradient, from the clean data; returns the shift it ends at."""
    v = np.zeros(x.shape[1])
    for step in range(steps):
        length = 2 * r / (step + 2)  # shrinking, and summing to far more than the ball
        v = np.clip(v - length * np.sign(ridge_hypergradient(x, y, sigma, v, mean, cov)), -r, r)
    return v


def white(x, y, variance):
    """The same points moved linearly so that their pooled within-class covariance is exactly variance * I."""
    s = t.summarise(x, y)
    means = np.where(y[:, None] == 1, s.base + s.d, s.base)
    return means + np.sqrt(variance) * np.linalg.solve(np.linalg.cholesky(s.cov), (x - means).T).T


def test_hypergradient_is_the_point_gradient():
    x, y = two_classes(target=5, others=7)
    lam = t.ga_penalty(12, 0.4)
    exact = t.ridge_point_gradient(x, y, lam, *t.acr_gradient(*t.ridge(x, y, lam), MEAN, COV))
    found = ridge_hypergradient(x, y, 0.4, np.zeros_like(x), MEAN, COV)
    assert np.allclose(found[y == 1], exact[y == 1], rtol=1e-6, atol=1e-9)
    assert not np.allclose(found[y == 1], 1.01 * exact[y == 1], rtol=1e-6, atol=1e-9)  # planted


def test_sign_attack_lands_on_the_corner():
    x, y = two_classes(target=8, others=20, k=4)
    x = white(x, y, 0.05)
    s, sigma, r = t.summarise(x, y), 0.3, 0.3
    c = t.imbalance(s.p, 0.05, sigma)
    v, left = t.best_shift_cube(s.d, r, c)
    landed = sign_attack(x, y, sigma, r, s.base + s.d, 0.05 * np.eye(4))
    assert np.allclose(landed, v) and not np.allclose(
        landed, r * s.d / np.abs(s.d).max()
    )  # planted: along d
    moved = x + np.where(y[:, None] == 1, landed, 0)
    assert np.isclose(
        t.signed_distance(s.base + s.d, *t.ridge(moved, y, t.ga_penalty(len(x), sigma))), left
    )


def test_sign_attack_can_be_trapped_on_a_line():
    x, y = two_classes(target=8, others=20, k=1)
    s, r, landed = t.summarise(x, y), 1.0, []
    D, variance = s.d[0], s.cov[0, 0]
    # c below D^2 - r^2 (right), between it and D^2 (trapped) and above D^2 (right, downwards).
    for c in (0.5 * (D**2 - r**2), D**2 - 0.5 * r**2, 1.5 * D**2):
        sigma = np.sqrt(c * s.p * (1 - s.p) / (1 - 2 * s.p) - variance)
        v = sign_attack(x, y, sigma, r, s.base + s.d, np.array([[0.2]]))[0]
        optima = t.local_optima_line(D, r, c)
        assert any(np.isclose(v, end) for end in optima)
        landed.append(bool(np.isclose(v, optima[0])))
    assert landed == [True, False, True]


def linear_loss(model, x, y, *, sigma, generator=None, epoch=0):
    """Gaussian-augmented least squares, the expectation over the noise taken exactly (thm-ga-ridge)."""
    w, b = model[1].weight[0], model[1].bias[0]
    return ((x.flatten(1) @ w + b - 2.0 * y + 1) ** 2).mean() + sigma**2 * w @ w


def test_general_attack_lands_on_the_corner():
    """`pacd.attack.poison`, with nothing told about the problem but the loss, finds the optimum of thm-optimum-cube."""
    import torch
    from torch import nn

    from pacd.attack import Method, poison
    from pacd.data import Splits

    class Scores(nn.Module):
        def forward(self, f):
            return torch.cat([-f, f], 1)

    def make_model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3, 1), Scores())

    rng = np.random.default_rng(13)
    y = np.repeat([1, -1], [60, 60])
    x = 0.5 + 0.04 * rng.normal(size=(120, 3)) + 0.5 * np.outer(y, [0.2, -0.15, 0.1])
    x = white(x, y, 0.04**2)
    images = torch.tensor(x, dtype=torch.float32).view(-1, 1, 1, 3)
    labels = torch.tensor((y + 1) // 2)
    splits = Splits(images, labels, images[:40], labels[:40], images[:0], labels[:0])
    method = Method(
        solver="cg",
        class_wise=True,
        step=0.005,
        inner_steps=5,
        restart=1000,
        warmup=300,
        inner_lr=0.02,
        clean_batch=120,
        poison_batch=120,
        hyper_batch=120,
        solve_batch=120,
        temperature=4.0,
        damping=0.0,
    )
    loss = lambda model, x, y, **kw: linear_loss(model, x, y, sigma=0.1, **kw)  # noqa: E731
    state = torch.random.get_rng_state()
    setting = {"target_class": 1, "eps_linf": 0.03, "sigma": 0.1, "steps": 30}
    index, poisoned, _ = poison(splits, make_model, loss, method=method, **setting)
    torch.random.set_rng_state(state)
    v, left = t.best_shift_cube(t.summarise(x, y).d, 0.03, 0.0)
    shifts = (poisoned - splits.x_train[index]).flatten(1).numpy()
    assert np.allclose(shifts, v, atol=1e-6)
    moved = x.copy()
    moved[index.numpy()] += shifts
    assert np.isclose(
        t.signed_distance(x[y == 1].mean(0), *t.ridge(moved, y, t.ga_penalty(120, 0.1))),
        left,
        atol=1e-6,
    )


# ---- the chapter: its statements, its figure, its rows


def statements():
    """(label, text up to the next statement) of every lemma, proposition and theorem of the chapter."""
    for page in ("setup", "results", "floors"):
        text = (BOOK / "theory" / f"{page}.md").read_text()
        for block in re.split(r"(?=```\{prf:(?:definition|lemma|proposition|theorem)\})", text):
            found = re.match(r"```\{prf:(?:lemma|proposition|theorem)\}.*\n:label: (\S+)", block)
            if found:
                yield found[1], block


def test_every_statement_is_proved_and_names_its_test():
    labels = [label for label, _ in statements()]
    assert len(labels) == len(set(labels)) > 15
    for label, block in statements():
        assert "```{prf:proof}" in block, f"{label} has no proof"
        named = re.findall(r"`(test_\w+)`", block)
        assert named and all(name in globals() for name in named), (
            f"{label} names {named or 'no test'}"
        )
        assert f"`{label}`" in (BOOK / "theory" / "index.md").read_text(), (
            f"{label} is not in the chapter's table"
        )


def test_functions_name_their_statement():
    labels = {label for label, _ in statements()} | {"def-acr", "def-learners"}
    for name, function in vars(t).items():
        if getattr(function, "__module__", "") == t.__name__ and not name.startswith("_"):
            named = set(re.findall(r"\b(?:lem|thm|def|prop)-[\w-]+", function.__doc__))
            assert named <= labels and (named or name in ("Summary", "summarise")), name


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK))
    return pytest.importorskip("theory_figures")


def test_figure_table_is_the_theory(figures):
    rng, table = np.random.default_rng(14), figures.table()
    mean = figures.CLEAN.base + figures.CLEAN.d
    for i, j, k in rng.integers(0, table.shape[:3], (20, 3)):
        w, b, v, acr = table[i, j, k, :2], table[i, j, k, 2], table[i, j, k, 3:5], table[i, j, k, 5]
        after = t.shift_fraction(figures.CLEAN, v, figures.RHO[j])
        pair = t.boundary(after.d, after.base, t.ga_rule(after, figures.SIGMA[i]))
        assert same_boundary((w, b), pair)
        assert np.isclose(acr, t.acr(*pair, mean, figures.CLEAN.cov))
        assert np.linalg.norm(v) <= figures.EPS[k] + 1e-9
    v = table[
        :, 4, 8, 3
    ]  # the page says: at small sigma away from the others, at the largest towards them
    assert v[0] > 0 > v[-1]
    assert (
        len(figures.PoisonFigure().to_html()) < 300_000
    )  # bytes in the page beside the shared library


def test_figure_sliders_in_a_browser(figures, tmp_path):
    browser = pytest.importorskip("browser")
    if browser.missing():
        pytest.skip(browser.missing())
    import plotly

    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    (tmp_path / "plotly.min.js").symlink_to(library)
    head = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="plotly.min.js"></script>'
    (tmp_path / "index.html").write_text(head + figures.PoisonFigure().to_html())
    change = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'));"
    with browser.served(tmp_path) as base, browser.chromium() as driver:
        for width in (1200, 390):
            browser.visit(driver, base + "index.html", width)
            for i, j, k in ((0, 0, 0), (6, 4, 12), (3, 2, 7)):
                for name, value in (("sigma", i), ("rho", j), ("eps", k)):
                    driver.execute_script(change, f"poison-{name}", int(value))
                readout = driver.execute_script(
                    "return document.getElementById('poison-readout').textContent"
                )
                clean, poisoned = figures.table()[i, j, [0, k], 5]
                assert f"{clean:.2f} on clean data, {poisoned:.2f} on poisoned data" in readout
                # what is drawn: the boundary, and as many wrong test points as the theory finds
                data = driver.execute_script(
                    "return document.getElementById('poison-plot').data.map(d => [Array.from(d.x), Array.from(d.y)])"
                )
                w, b = figures.table()[i, j, k, :2], figures.table()[i, j, k, 2]
                z = t.signed_distance(figures.example_points()[2], w, b)
                assert len(data[4][0]) == (z <= 0).sum() and len(data[3][0]) == (z > 0).sum()
                assert np.allclose(t.signed_distance(np.array(data[6]).T, w, b), 0, atol=0.02)
            labels = driver.execute_script(
                "return [...document.querySelectorAll('input')].map(e => e.labels.length)"
            )
            assert labels == [1, 1, 1]
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        assert not browser.complaints(driver, base)


def test_prediction_rows_are_the_closed_form(figures):
    from pacd.data import load

    rows, prediction, parameters = figures.read()
    splits = load("mnist5k")
    keep = (splits.y_train == 8) | (splits.y_train == 3)
    x, y = (
        splits.x_train[keep].flatten(1).double().numpy(),
        np.where(splits.y_train[keep] == 8, 1, -1),
    )
    clean = t.summarise(x, y)
    x8 = x[y == 1]
    moved = x.copy()
    moved[y == 1] = np.clip(x8 + 0.1 * np.sign(clean.d), 0, 1)
    after = t.summarise(moved, y)
    for learner, rule in (
        ("mean", t.mean_rule(after)),
        ("ga", t.ga_rule(after, parameters["sigma"])),
    ):
        row = prediction[
            (prediction["learner"] == learner) & np.isclose(prediction["eps"], 0.1)
        ].iloc[0]
        pair = t.boundary(after.d, after.base, rule)
        assert np.isclose(row["acr"], t.acr(*pair, x8.mean(0), np.cov(x8.T, bias=True)), atol=1e-4)
    exact = figures.acr_table(rows, "distance").groupby(["model", "eps"])["value"].mean()
    for model, learner in (
        ("mean", "mean"),
        ("ga least squares", "ga"),
    ):  # the claim of the page, with room
        for eps in (0.0, 0.05, 0.1):
            row = prediction[
                (prediction["learner"] == learner) & np.isclose(prediction["eps"], eps)
            ].iloc[0]
            assert abs(exact[model, eps] / row["acr"] - 1) < 0.1
