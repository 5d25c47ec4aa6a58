"""Optimal poisons, fractions and floors, each against a search or the learner itself."""

from itertools import product

import numpy as np
import pytest
from test_theory import in_ball, margin, two_classes

from study import theory as t


def local_minima(values):
    """Indices of the local minima of a list, ends included."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    return np.flatnonzero((values < padded[:-2]) & (values < padded[2:]))


def is_optimum_on_line(D, r, c, optima):
    """Are these all local minima of ACR over [-r, r], the global one first? By search on a grid."""
    grid = np.linspace(-r, r, 2001)
    left = [margin(np.array([v]), np.array([D]), c) for v in grid]
    values = t.mean_positive_part(np.array(left), 10.0)
    found = grid[local_minima(values)]
    best = grid[np.argmin(values)]
    return sorted(optima) == pytest.approx(sorted(found)) and optima[0] == pytest.approx(best)


def test_optimum_on_a_line():
    D, kinds = 1.5, set()
    for r in (0.2, 0.7, 1.2):
        low, middle, high = (D - r) ** 2, D**2 - r**2, (D + r) ** 2
        for c in (-1.0, 0.0, 0.5 * low, 0.9 * middle, 1.1 * middle, 1.5 * high):
            optima = t.local_optima_line(D, r, c)
            kinds.add(len(optima))
            assert is_optimum_on_line(D, r, c, optima), (r, c)
            v, left = t.best_shift(np.array([D]), r, c)
            assert v[0] == pytest.approx(optima[0])
            assert left == pytest.approx(margin(v, np.array([D]), c))
            assert not is_optimum_on_line(D, r, c, [-optima[0]])  # planted: the other end
    assert kinds == {1, 2}


@pytest.mark.parametrize("r", [0.2, 0.7, 1.2])
def test_where_the_second_optimum_is(r):
    """(D - r)^2 and (D + r)^2 to half a per cent; D^2 - rD and D^2 + rD are far from both."""
    D = 1.5
    low, high = (D - r) ** 2, (D + r) ** 2
    for c, kinds in ((0.995 * low, 1), (1.005 * low, 2), (0.995 * high, 2), (1.005 * high, 1)):
        optima = t.local_optima_line(D, r, c)
        assert len(optima) == kinds and is_optimum_on_line(D, r, c, optima), c


def test_the_switch_on_a_line():
    D = 1.5
    sigma = t.switch_noise(0.2, 0.3, D, 0.7)
    assert np.isclose(t.imbalance(0.2, 0.3, sigma), D**2 - 0.7**2)
    assert np.isnan(t.switch_noise(0.2, 30.0, D, 0.7))  # towards the others even without noise
    for p, r in ((0.8, 0.7), (0.5, 0.7), (0.2, 1.5)):  # never flips, or erases the difference
        with pytest.raises(ValueError, match="p < 1/2"):
            t.switch_noise(p, 0.3, D, r)
    c = D**2 - 0.5 * 0.7**2  # between the switch, D^2 - r^2, and D^2
    optima = t.local_optima_line(D, 0.7, c)
    assert is_optimum_on_line(D, 0.7, c, optima)
    assert not is_optimum_on_line(D, 0.7, c, optima[::-1])  # planted: the order at c < D^2


def test_beyond_the_gap_on_a_line():
    d, s = np.array([1.0]), 0.3
    # Equal classes, r > D: past the other class is better than any shift up, -(D + r) / 2 is left.
    grid = np.linspace(-1.6, 1.6, 3201)
    values = np.array([margin(np.array([v]), d, 0.0) for v in grid if abs(1 + v) > 1e-9])
    assert values.min() == pytest.approx(-(1 + 1.6) / 2)
    assert values.min() != pytest.approx((1 - 1.6) / 2)  # planted: the end +r instead
    # Erasing the difference, v = -D, is better still: nothing is on the target's side of 0 > 0.
    w, b = t.boundary(d - 1.0, np.zeros(1), t.Rule(np.eye(1), 0.0))
    assert w == 0 and b == 0 and t.mean_positive_part(values.min(), s) > 0
    # A smaller class: towards v = -D the threshold runs away and ACR goes to 0.
    assert t.mean_positive_part(margin(np.array([-1 + 1e-4]), d, 0.5), s) < 1e-12


def is_optimal(v, left, candidates, d, c):
    """Does v leave the margin it claims, and no candidate a smaller one?"""
    best = min(margin(w, d, c) for w in candidates)
    return np.isclose(margin(v, d, c), left) and left <= best + 1e-12


def test_optimum_in_a_ball():
    rng = np.random.default_rng(7)
    for k, share in product((2, 5), (0.3, 0.8)):
        d = rng.normal(size=k)
        D = np.linalg.norm(d)
        r = share * D
        ring, switch = in_ball(rng, 1000, k, r), D**2 - r**2
        for c in (0.0, 0.9 * switch, 1.1 * switch, 3 * D**2):
            v, left = t.best_shift(d, r, c)
            assert is_optimal(v, left, ring, d, c)
            assert not is_optimal(-v, margin(-v, d, c), ring, d, c)  # planted: the other way
            assert not is_optimal(v, 1.01 * left + 1e-3, ring, d, c)  # planted: a wrong constant
    with pytest.raises(ValueError, match="r < "):
        t.best_shift(d, D, 0.0)
    for v in in_ball(rng, 1000, k, 2 * D):  # beyond the gap: -(D + r) / 2, equal classes
        assert margin(v, d, 0.0) >= -(D + 2 * D) / 2 - 1e-9
    assert np.isclose(margin(-2 * d, d, 0.0), -(D + 2 * D) / 2)


def is_only(v, left, candidates, d, c, apart):
    """Does every candidate at least ``apart`` from v leave clearly more margin?"""
    far = [w for w in candidates if np.linalg.norm(w - v) >= apart]
    return min(margin(w, d, c) for w in far) > left + 1e-3 * apart**2


def test_optimum_in_a_ball_is_unique():
    rng, d = np.random.default_rng(17), np.array([0.9, -0.5, 0.3])
    D, r = np.linalg.norm(d), 0.5
    ball = np.vstack([in_ball(rng, 4000, 3, r), [-r * d / D, r * d / D]])
    for factor in (-1.0, 0.0, 0.9, 1.1, 3.0):
        c = factor * (D**2 - r**2)
        assert is_only(*t.best_shift(d, r, c), ball, d, c, 0.2), factor
    c = D**2 - r**2  # planted: here the whole sphere is optimal, so the check must fail
    v, left = t.best_shift(d, r, c)
    assert not is_only(v, left, ball, d, c, 0.2)
    assert np.allclose([margin(w, d, c) for w in ball[1:4000:2]], left, atol=1e-12)


def test_traps_in_any_dimension():
    """prop-trap-any: a saddle in the ball, a strict local minimum in the cube."""
    rng, d, r = np.random.default_rng(18), np.array([0.9, -0.5, 0.3]), 0.5
    D = np.linalg.norm(d)
    c = D**2 - 0.5 * r**2
    end = r * d / D
    sphere = in_ball(rng, 2001, 3, r)[1::2]
    assert max(margin(v, d, c) for v in sphere) < margin(end, d, c) < 0  # the worst on the sphere
    assert margin(0.9 * end, d, c) > margin(end, d, c)  # and better than all before it: a saddle
    assert margin(0.01 * end, d, c) < margin(0 * end, d, c)  # from exactly 0 it is the way down
    for k, c in ((2, 1.6), (3, 2.4), (6, 4.7)):
        d = np.ones(k)
        plus, minus = 0.5 * d, -0.5 * d
        around = plus - np.abs(rng.uniform(0, 0.02, (500, k)))
        assert t.is_cube_trap(d, 0.5, c)
        assert min(margin(v, d, c) for v in around) > margin(plus, d, c) > margin(minus, d, c)
        assert margin(0.01 * d, d, c) < margin(0 * d, d, c)  # the sign attack steps there first
    assert np.isclose(margin(np.full(2, 0.5), np.ones(2), 1.6), -0.0236, atol=5e-5)
    assert np.isclose(margin(np.full(2, -0.5), np.ones(2), 1.6), -0.0707, atol=5e-5)


def test_which_corners_are_traps():
    """The condition of prop-trap-any against one-sided slopes at the corner."""
    rng, found = np.random.default_rng(19), []
    for _ in range(400):
        d, r = rng.normal(size=3), rng.uniform(0.05, 0.6)
        c = rng.uniform(0.3, 6.0) * d @ d
        corner = r * np.where(d < 0, -1, 1)
        left = margin(corner, d, c)
        inward = [margin(corner - 1e-6 * e * np.sign(corner), d, c) for e in np.eye(3)]
        found.append(left < 0 and min(inward) > left)
        assert t.is_cube_trap(d, r, c) == found[-1]
    assert 40 < sum(found) < 360  # both occur


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
    # Without the assumption the check fails: between two such ends the margin is far lower.
    away = np.cross(s.d, [0, 0, 1.0]) / np.linalg.norm(s.d)
    ends = [-0.98 * s.d + side * 0.3 * away for side in (1, -1)]
    middle = (ends[0] + ends[1]) / 2
    assert min(map(left, ends)) < 0 and left(middle) < min(map(left, ends))


def test_optimum_in_a_cube():
    rng = np.random.default_rng(9)
    for k in (2, 8):
        d = rng.normal(size=k) + 0.1
        D = np.linalg.norm(d)
        r = 0.5 * min(D / np.sqrt(k), np.abs(d).max())
        corners = r * np.array(list(product((-1, 1), repeat=k)))
        cube = np.vstack([corners, rng.uniform(-r, r, (2000, k))])
        for c in (-0.5, 0.0, 0.5 * (D**2 - k * r**2)):
            v, left = t.best_shift_cube(d, r, c)
            assert is_optimal(v, left, cube, d, c)
            along = r * d / np.abs(d).max()  # planted: along d, the direction of L2
            assert not is_optimal(along, margin(along, d, c), cube, d, c)
            others = [w for w in cube if not np.allclose(w, v)]  # the only one
            assert min(margin(w, d, c) for w in others) > left + 1e-6
    with pytest.raises(ValueError):
        t.best_shift_cube(d, 1.01 * D / np.sqrt(k), 0.0)


def test_pixels_without_difference_move():
    """thm-optimum-cube where d_j = 0: the theorem needs +1 or -1 there, and 0 is no sign."""
    v, left = t.best_shift_cube(np.array([1.0, 0.0]), 0.3, 0.0)
    assert left == pytest.approx(0.3073, abs=5e-5)
    assert np.allclose(v, [0.3, 0.3]) and margin(v, np.array([1.0, 0.0]), 0.0) == pytest.approx(
        left
    )
    rng, d, r = np.random.default_rng(20), np.array([0.9, 0.0, -0.7, 0.0]), 0.3
    corners = [r * np.array(e) for e in product((-1, 1), repeat=4)]
    for c in (0.0, 0.4):
        v, left = t.best_shift_cube(d, r, c)
        assert is_optimal(v, left, corners + list(rng.uniform(-r, r, (2000, 4))), d, c)
        equal = [w for w in corners if np.isclose(margin(w, d, c), left)]
        assert len(equal) == 4  # the free signs of two coordinates, and nothing else
        still = r * np.sign(d)  # planted: what a sign of 0 would do
        assert not is_optimal(still, margin(still, d, c), corners, d, c)


def test_black_background_costs_nothing():
    """cor-black: second order in the coordinate, and the box [0, 1] forbids one of two signs."""
    d, r = np.array([0.9, 0.0, -0.7, 0.0]), 0.3
    black = d == 0
    free, left = t.best_shift_cube(d, r, 0.0)
    grid = np.linspace(-r, r, 7)
    everywhere = np.array(list(product(grid, repeat=4)))
    in_box = everywhere[(everywhere[:, black] >= 0).all(1)]
    assert min(margin(v, d, 0.0) for v in in_box) == pytest.approx(left)
    assert np.all(free[black] > 0)  # the optimum that is returned obeys the box there
    e, v = np.eye(4)[1], np.array([0.2, 0.0, -0.1, 0.1])
    for h in (1e-3, 1e-2):
        assert margin(v + h * e, d, 0.0) == pytest.approx(margin(v - h * e, d, 0.0))
        fall = margin(v, d, 0.0) - margin(v + h * e, d, 0.0)
        size = np.linalg.norm(d + v)
        second = 1 / (2 * size) + margin(v, d, 0.0) / (2 * size**2)
        assert fall == pytest.approx(second * h**2, rel=h)
        along = margin(v, d, 0.0) - margin(v + h * np.eye(4)[0], d, 0.0)
        assert along > 20 * fall  # a coordinate with a difference is of first order


def line_problem(seed, target=7, others=11):
    rng = np.random.default_rng(seed)
    x = np.concatenate([1.6 + 0.5 * rng.normal(size=target), 0.6 * rng.normal(size=others)])
    return x, np.repeat([1, -1], [target, others])


def is_best_poison(shift, x, y, eps, sigma, movable, rng):
    """Does no corner of the box and no random point inside it push ridge's threshold further?"""

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
    left = t.mean_positive_part((D - rho * 0.9 * D) / 2, s)
    assert np.allclose(drops, t.mean_positive_part(D / 2, s) - left)
    assert at_least_its_share(drops)
    assert not at_least_its_share(np.sin(rho * np.pi / 4) ** 2)  # planted: a convex curve
    d = np.array([1.5, 0.1])  # in the cube the share can be smaller: the remark after the theorem
    D, s = np.linalg.norm(d), 0.05
    assert not at_least_its_share(drop(t.best_shift_cube, 0.9))


@pytest.mark.parametrize("s", [0.2, 0.8, 2.0])
def test_fraction_below_the_tangent(s):
    """The right side of thm-fraction, with its Phi: it holds, and is attained as rho goes to 0."""
    d, eps = np.array([1.2, 0.9]), 1.0
    D = np.linalg.norm(d)
    for rho in (1e-4, 0.1, 0.5, 1.0):
        drop = t.mean_positive_part(D / 2, s) - t.mean_positive_part((D - rho * eps) / 2, s)
        bound = t.small_drop(d, rho * eps, s, 2)
        assert drop <= bound + 1e-15 and bound <= rho * eps / 2
    drop = t.mean_positive_part(D / 2, s) - t.mean_positive_part((D - 1e-4) / 2, s)
    assert drop == pytest.approx(t.small_drop(d, 1e-4, s, 2), rel=1e-3)


def test_floor():
    rng = np.random.default_rng(11)
    s = t.summarise(*two_classes(target=10))
    skewed = s.base + s.d + rng.exponential(0.7, (300, 3)) - 0.7  # not Gaussian
    e = np.linalg.norm(skewed.mean(0) - s.base - s.d)
    for rule, r in product((t.mean_rule(s), t.ga_rule(s, 0.8)), (0.05, 0.2, 0.4)):
        floor = t.margin_floor(s, rule, r) - e
        for v in in_ball(rng, 400, 3, r):
            assert t.acr_of_points(*t.boundary(s.d + v, s.base, rule), skewed) >= max(0, floor)
    D = np.linalg.norm(s.d)
    assert t.margin_floor(s, t.Rule(np.eye(3), -5.0), 1.01 * D) == -np.inf  # w can be 0 there
    assert t.margin_floor_points(s, 1.0, 1.01 * D, 1.0) == -np.inf


def test_the_floor_is_attained():
    """thm-floor: d along the largest eigenvalue of B, h of either sign and B far from I."""
    d, base = np.array([0.0, 2.0]), np.array([0.3, -0.2])
    for h, r in product((-0.5, 0.0, 0.5), (0.1, 0.9)):
        rule = t.Rule(np.diag([0.4, 2.5]), h)
        floor = t.margin_floor(t.Summary(d, base, np.eye(2), 0.5), rule, r)
        pair = t.boundary(d + r * d / 2, base, rule)
        assert t.signed_distance(base + d, *pair) == pytest.approx(floor)
        far = t.acr(*pair, base + d, 1e-4 * np.eye(2))  # well separated: ACR comes down to it
        assert far == pytest.approx(floor, rel=1e-6)
    summary = t.Summary(d, base, np.eye(2), 0.5)
    assert t.margin_floor(summary, t.mean_rule(summary), 0.4) == pytest.approx((2 - 0.4) / 2)


def test_floor_in_the_cube():
    """cor-floor-cube: below it no poison of single points comes, and it is above the ball's."""
    rng = np.random.default_rng(21)
    x, y = two_classes(target=10, others=10, gap=2.0, k=4)
    x[y == 1, 0] += 2
    s, eps, rho = t.summarise(x, y), 0.6, 0.7
    e = np.linalg.norm(x[:10].mean(0) + 0.1 - s.base - s.d)
    floor = t.margin_floor_cube(s.d, rho * eps)
    for kind in range(300):
        moved = x.copy()
        corner = eps * np.sign(rng.normal(size=(7, 4)))
        moved[:7] += corner if kind % 2 else eps * np.sign(s.d + rng.normal(size=4))
        after = t.summarise(moved, y)
        pair = t.boundary(after.d, after.base, t.mean_rule(after))
        assert t.signed_distance(s.base + s.d, *pair) >= floor - 1e-12
        assert t.acr_of_points(*pair, x[:10] + 0.1) >= max(0, floor - e) - 1e-12
    ball = t.margin_floor(s, t.mean_rule(s), t.reach(eps, rho, 4, np.inf))
    assert floor > ball + 0.01
    moved = x.copy()
    moved[:7] += eps * np.sign(s.d)  # attained
    pair = t.boundary(t.summarise(moved, y).d, s.base, t.mean_rule(s))
    assert t.signed_distance(s.base + s.d, *pair) == pytest.approx(floor)
    assert t.margin_floor_cube(s.d, 5.0) == -np.inf


def ga_margin(x, y, sigma, clean):
    """Margin that ridge regression, solved anew, leaves of the clean target mean."""
    pair = t.ridge(x, y, t.ga_penalty(len(x), sigma))
    return t.signed_distance(clean.base + clean.d, *pair)


def test_floor_of_each_point():
    rng = np.random.default_rng(12)
    x, y = two_classes(target=15, others=15, gap=4.0)
    s, eps, rho = t.summarise(x, y), 0.4, 2 / 3

    def holds(floor, sigma):
        for kind in range(300):
            moved = x.copy()
            moved[:10] += in_ball(rng, 10 if kind % 2 else 1, 3, eps)
            if ga_margin(moved, y, sigma, s) < floor:
                return False
        return True

    for sigma in (0.5, 1.0, 3.0):
        floor = t.margin_floor_points(s, sigma, eps, rho)
        assert 0 < floor and holds(floor, sigma)
    assert not holds(ga_margin(x, y, 3.0, s), 3.0)  # planted: no fall
    D = np.linalg.norm(s.d)
    limit = (D - rho * eps) / 2
    assert np.isclose(t.margin_floor_points(s, 1e4, eps, rho), limit)
    x[:10] += eps * s.d / D  # the poison that attains the limit
    assert np.isclose(ga_margin(x, y, 1e4, s), limit, rtol=1e-6)
    assert t.margin_floor_points(s, 0.1, 3.0, 1.0) == -np.inf


@pytest.mark.parametrize("others", [8, 16])
def test_floor_of_points_without_poison(others):
    """An isotropic covariance that is not 1 and classes of other sizes pin every constant."""
    x = np.vstack([np.eye(2), -np.eye(2)] * ((8 + others) // 4)) * 0.9
    y = np.repeat([1, -1], [8, others])
    x[y == 1] += [3.0, 4.0]
    s = t.summarise(x, y)
    assert np.allclose(s.cov, s.cov[0, 0] * np.eye(2))
    for sigma in (0.3, 1.0):
        floor = t.margin_floor_points(s, sigma, 0.0, 1.0)
        assert floor == pytest.approx(ga_margin(x, y, sigma, s))
    by_hand = t.Summary(np.array([3.0, 4.0]), np.zeros(2), np.diag([1.0, 4.0]), 0.5)
    assert t.margin_floor_points(by_hand, 1.0, 1.0, 1.0) == pytest.approx(0.188273, abs=5e-7)


def test_spread_by_single_points():
    """omega of thm-floor-points: pairs moved apart attain the upper bound, together the lower."""
    x = np.zeros((20, 2))
    y = np.repeat([1, -1], [8, 12])
    x[:4] = [[1.0, 0], [-1.0, 0], [1.0, 0], [-1.0, 0]]
    x[y == 1] += [6.0, 0]
    s, sigma, eps, rho = t.summarise(x, y), 0.7, 0.3, 4 / 8
    for way, end in ((1, 1), (-1, 0)):
        moved = x.copy()
        moved[:4] += way * eps * np.array([[1.0, 0], [-1.0, 0], [1.0, 0], [-1.0, 0]])
        spread = np.linalg.eigvalsh(t.summarise(moved, y).cov)[-1] + sigma**2
        only_line = s._replace(d=s.d[:1], base=s.base[:1], cov=s.cov[:1, :1])
        assert t.noisy_spread(only_line, sigma, eps, rho)[end] == pytest.approx(spread)
    low, high = t.noisy_spread(s, sigma, eps, rho)
    assert low == pytest.approx(sigma**2) and high > s.cov[0, 0] + sigma**2


def test_floor_rises_with_noise():
    s = t.summarise(*two_classes(target=15, others=15, gap=4.0))
    floors = [t.margin_floor_points(s, sigma, 0.3, 0.5) for sigma in np.linspace(0.3, 4, 20)]
    assert min(floors) > 0 and (np.diff(floors) > 0).all()
    s = t.summarise(*two_classes(target=12, others=15, gap=4.0))  # not where the target is smaller
    assert t.margin_floor_points(s, 1.0, 0.3, 0.5) > t.margin_floor_points(s, 6.0, 0.3, 0.5)
