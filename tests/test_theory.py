"""Set-up and gradients of the theory chapter, each statement against an independent computation.

Every check is a function that can also be handed a wrong formula; the `planted` part of a test does
that and expects the check to fail. Random numbers are seeded.
"""

from functools import partial

import numpy as np
import pytest

from study import theory as t

MEAN = np.array([1.0, -0.4, 0.3])
COV = np.array([[0.5, 0.1, 0.0], [0.1, 0.3, -0.1], [0.0, -0.1, 0.4]])
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


def in_ball(rng, amount, k, r):
    """Points of the L2 ball, half of them on its surface."""
    v = rng.normal(size=(amount, k))
    length = np.where(np.arange(amount) % 2, 1, rng.uniform(size=amount) ** (1 / k))
    return v / np.linalg.norm(v, axis=1, keepdims=True) * r * length[:, None]


def margin(v, d, c):
    """Signed distance of the target mean, isotropic covariance, from the learner itself."""
    base = np.arange(len(d)) * 0.7
    rule = t.Rule(np.eye(len(d)), c / 2)
    return t.signed_distance(base + d, *t.boundary(d + v, base, rule))


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
        there = MEAN - factor * z * W / np.linalg.norm(W)
        assert (t.target_probability(there, W, B, 0.5) > 0.5) == side


def test_gaussian_acr():
    rng = np.random.default_rng(2)
    for scale in (0.3, 1.0, 3.0):
        test = rng.multivariate_normal(MEAN, scale * COV, 400_000)
        radius = np.maximum(t.signed_distance(test, W, B), 0)
        value = t.acr(W, B, MEAN, scale * COV)
        assert in_interval(value, radius)
        assert not in_interval(1.02 * value, radius)  # planted
    flat = np.diag([0.5, 0.3, 0.0])  # a pixel that never varies: w'Sw > 0 is enough
    radius = np.maximum(t.signed_distance(rng.multivariate_normal(MEAN, flat, 400_000), W, B), 0)
    assert in_interval(t.acr(W, B, MEAN, flat), radius)
    points = rng.normal(size=(50, 3))
    by_hand = [max(0, (x @ W + B) / np.linalg.norm(W)) for x in points]
    assert np.isclose(t.acr_of_points(W, B, points), np.mean(by_hand))


def test_mean_positive_part():
    mu, s = np.meshgrid(np.linspace(-3, 3, 61), (0.2, 1.0, 2.0))
    H = t.mean_positive_part(mu, s)
    gap, e = H - np.maximum(mu, 0), 1e-5
    slope = (t.mean_positive_part(mu + e, s) - t.mean_positive_part(mu - e, s)) / (2 * e)
    wider = (t.mean_positive_part(mu, s + e) - t.mean_positive_part(mu, s - e)) / (2 * e)
    assert not np.allclose(slope, t.ndtr(mu), atol=1e-3)  # planted: the spread forgotten
    assert np.allclose(slope, t.ndtr(mu / s), atol=1e-8)
    assert np.allclose(wider, t._density(mu / s), atol=1e-8)
    assert (np.diff(H, 2) > -1e-12).all()  # convex in mu
    assert (gap >= -1e-15).all() and np.allclose(gap.max(1), s[:, 0] / np.sqrt(2 * np.pi))
    assert (np.argmax(gap, 1) == 30).all()  # largest where mu = 0


def test_radius_cap():
    assert np.isclose(t.radius_cap(1.0, 100_000, 0.001), 3.81, atol=0.005)
    assert np.isclose(t.radius_cap(0.5, 1_000, 0.001), 0.5 * 2.46, atol=0.005)
    assert [t.radius_cap(1.0, n, 0.001) > 0 for n in (1, 9, 10)] == [False, False, True]
    assert t.radius_cap(1.0, 9, 0.001) == 0  # 0.001 ** (1 / 9) is below a half: nothing, not less
    z = np.random.default_rng(3).normal(0.7, 0.9, 400_000)
    capped = np.clip(z, 0, 1.2)
    assert in_interval(t.capped_mean(0.7, 0.9, 1.2), capped)
    assert not in_interval(t.mean_positive_part(0.7, 0.9), capped)  # planted: no cap


def augmented(x, y, sigma):
    """Least squares on copies x +- sigma sqrt(k) e_j, which have the moments of N(0, sigma^2 I)."""
    k = x.shape[1]
    noise = sigma * np.sqrt(k) * np.vstack([np.eye(k), -np.eye(k)])
    X = (x[:, None] + noise).reshape(-1, k)
    X = np.column_stack([X, np.ones(len(X))])
    theta = np.linalg.lstsq(X, np.repeat(y, 2 * k), rcond=None)[0]
    return theta[:-1], theta[-1]


def test_augmentation_is_ridge():
    x, y = two_classes()

    def agrees(lam):
        return all(np.allclose(a, b) for a, b in zip(t.ridge(x, y, lam), augmented(x, y, 0.6)))

    assert agrees(t.ga_penalty(len(x), 0.6))
    assert not agrees(0.6**2) and not agrees(2 * len(x) * 0.6**2)  # planted
    rng, draws = np.random.default_rng(4), 4000
    drawn = np.repeat(x, draws, 0) + 0.6 * rng.normal(size=(len(x) * draws, 3))
    X = np.column_stack([drawn, np.ones(len(drawn))])
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
    s = t.summarise(*two_classes(target=20))
    far, near = (t.boundary(s.d, s.base, r) for r in (t.ga_rule(s, 1e5), t.mean_rule(s)))
    flat = [np.append(*pair) / np.linalg.norm(pair[0]) for pair in (far, near)]
    assert np.allclose(*flat, atol=1e-6)
    with pytest.raises(ValueError, match="both labels"):
        t.summarise(x, np.ones(len(x)))


def test_reach_of_the_mean():
    rng, eps, k = np.random.default_rng(5), 0.3, 4
    for order, moved in ((2, 30), (np.inf, 30), (2, 10), (np.inf, 40)):
        far = t.reach(eps, moved / 40, k, order)
        for _ in range(50):
            moves = rng.normal(size=(moved, k))
            moves *= eps / np.linalg.norm(moves, order, axis=1, keepdims=True)
            assert np.linalg.norm(moves.sum(0) / 40) <= far + 1e-12
        common = np.ones(k) * eps / np.linalg.norm(np.ones(k), order)  # the farthest of all
        assert np.isclose(np.linalg.norm(moved * common / 40), far)


def test_summary_after_a_partial_shift():
    v = np.array([0.3, -0.2, 0.5])
    for moved, centred in ((3, True), (6, True), (9, True), (3, False), (8, False)):
        x, y = two_classes(target=12)
        if centred:  # those that move have the mean of their class
            x[:moved] -= x[:moved].mean(0) - x[moved:12].mean(0)
        s, rho = t.summarise(x, y), moved / 12
        apart = x[:moved].mean(0) - x[:12].mean(0)
        x[:moved] += v
        for got, expected in zip(t.shift_fraction(s, v, rho, apart), t.summarise(x, y)):
            assert np.allclose(got, expected)
        assert not np.allclose(s.cov, t.summarise(x, y).cov)  # planted: the covariance stays
        if centred:
            assert np.allclose(t.shift_fraction(s, v, rho).cov, t.summarise(x, y).cov)


def test_shift_gradient():
    s, v = t.summarise(*two_classes()), np.array([0.1, -0.3, 0.2])

    def of_pair(theta):
        return t.acr(theta[:-1], theta[-1], MEAN, COV)

    assert is_gradient(np.append(*t.acr_gradient(W, B, MEAN, COV)), of_pair, np.append(W, B))
    for rule in (t.mean_rule(s), t.ga_rule(s, 0.5)):
        of_shift = partial(t.acr_after_shift, summary=s, rule=rule, mean=MEAN, cov=COV)
        gradient = t.acr_shift_gradient(v, s, rule, MEAN, COV)
        assert is_gradient(gradient, of_shift, v)
        assert not is_gradient(gradient * 1.001, of_shift, v)  # planted
        of_w = t.acr_gradient(*t.boundary(s.d + v, s.base, rule), MEAN, COV)[0]
        assert not is_gradient(rule.B @ of_w, of_shift, v)  # planted: b does not move


def test_small_attackers_and_dual_norm():
    """At v = 0, with m_t = m_+ and an isotropic test covariance, the gradient is known."""
    s = t.summarise(*two_classes())
    D = np.linalg.norm(s.d)
    flat = t.acr_shift_gradient(np.zeros(3), s, t.mean_rule(s), s.base + s.d, 0.25 * np.eye(3))
    assert np.allclose(flat, -t.ndtr(D / 2 / 0.5) * s.d / (2 * D))
    for dual, optimum in ((2, t.best_shift), (1, t.best_shift_cube)):
        left = optimum(s.d, 1e-5, 0.0)[1]
        drop = t.mean_positive_part(D / 2, 0.5) - t.mean_positive_part(left, 0.5)
        assert np.isclose(drop, t.small_drop(s.d, 1e-5, 0.5, dual), rtol=1e-4)
        wrong = t.small_drop(s.d, 1e-5, 0.5, np.inf)  # planted: the wrong norm
        assert not np.isclose(drop, wrong, rtol=1e-4)


def test_point_gradient():
    x, y = two_classes(target=5, others=7)
    lam = t.ga_penalty(len(x), 0.4)
    outer = t.acr_gradient(*t.ridge(x, y, lam), MEAN, COV)
    gradient = t.ridge_point_gradient(x, y, lam, *outer)

    def of_points(x):
        return t.acr(*t.ridge(x, y, lam), MEAN, COV)

    assert is_gradient(gradient, of_points, x)
    assert not is_gradient(gradient * [1, 1, 0.99], of_points, x)  # planted
    assert np.linalg.matrix_rank(gradient, tol=1e-10) == 2
    s = t.summarise(x, y)  # moving all target points together is the rigid shift
    rigid = t.acr_shift_gradient(np.zeros(3), s, t.ga_rule(s, 0.4), MEAN, COV)
    assert np.allclose(gradient[y == 1].sum(0), rigid)


def test_offset_and_angle():
    rng = np.random.default_rng(6)
    for _ in range(20):
        clean, poisoned = ((rng.normal(size=4), rng.normal()) for _ in range(2))
        mean = rng.normal(size=4)
        offset, angle = t.offset_and_angle(clean, poisoned, mean)
        after = t.signed_distance(mean, *poisoned)
        assert np.isclose(offset + angle, after - t.signed_distance(mean, *clean))
        foot = mean - t.signed_distance(mean, *clean) * clean[0] / np.linalg.norm(clean[0])
        assert np.isclose(offset, t.signed_distance(foot, *poisoned))
        assert not np.isclose(offset, after)  # planted: the wrong pivot
    s = t.summarise(*two_classes())
    for v in in_ball(rng, 10, 3, 1.0):
        u, rule, D = s.d + v, t.mean_rule(s), np.linalg.norm(s.d)
        pairs = [t.boundary(d, s.base, rule) for d in (s.d, u)]
        offset, angle = t.offset_and_angle(*pairs, s.base + s.d)
        assert np.isclose(offset, -v @ u / np.linalg.norm(u) / 2)
        assert np.isclose(angle, D / 2 * (s.d @ u / D / np.linalg.norm(u) - 1))


def test_change_of_the_radius():
    """prop-change: for test points that are not Gaussian, and for boundaries of every kind."""
    rng, largest = np.random.default_rng(15), 0.0
    for _ in range(200):
        x = rng.exponential(1.0, (30, 3)) * rng.choice([-1, 1], 3) + rng.normal(size=3)
        clean = rng.normal(size=3), rng.normal()
        size = rng.choice([0.0, 0.05, 1.0])
        poisoned = clean[0] + size * rng.normal(size=3), clean[1] + rng.normal()
        bound = t.acr_change_bound(clean, poisoned, x.mean(0), x)
        change = t.acr_of_points(*poisoned, x) - t.acr_of_points(*clean, x)
        assert abs(change) <= bound + 1e-12
        largest = max(largest, abs(change) / bound)
    assert largest > 0.999  # a mere offset, with every point right, attains the bound
    turn = (np.array([1.0, 0.0]), 0.0), (np.array([0.0, 1.0]), 0.0)  # a right angle, no offset
    x = np.array([[2.0, -2.0]])  # 2 sin(45 degrees) times the point's length, 2 sqrt(2)
    assert np.isclose(t.acr_change_bound(*turn, np.array([3.0, 0.0]), x), 4)
    away = clean[0], clean[1] + 3.0  # the converse fails: another boundary, and it recedes
    points = np.eye(3)
    assert t.acr_of_points(*away, points) > t.acr_of_points(*clean, points)


def test_offset_transfers_and_angle_destroys():
    rng, s = np.random.default_rng(16), t.summarise(*two_classes())
    D = np.linalg.norm(s.d)
    for _ in range(30):
        w, b = rng.normal(size=3), rng.normal()
        margins = t.signed_distance(s.base + s.d, w, b), -t.signed_distance(s.base, w, b)
        assert np.isclose(sum(margins), t.margin_sum(w, s.d))
        assert t.margin_sum(w, s.d) <= D + 1e-12
    for v in in_ball(rng, 20, 3, 1.0):
        w, _ = t.boundary(s.d + v, s.base, t.mean_rule(s))
        cosine = s.d @ w / D / np.linalg.norm(w)
        assert np.isclose(t.margin_sum(w, s.d), D * cosine)
