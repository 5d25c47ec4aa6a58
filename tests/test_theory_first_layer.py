"""Why the first layer decides: the closed forms against learners that are solved anew."""

import numpy as np
import pandas as pd
import pytest
from test_theory import same_boundary, two_classes

from study import theory as t
from study import theory_claims
from study import theory_first_layer as f


def solved(x, y, shift, sigma, gamma):
    """The learner itself: noisy least squares of x - shift with N gamma b^2, as (w, b) in x."""
    X = np.column_stack([x - shift, np.ones(len(x))])
    penalty = np.diag([sigma**2] * x.shape[1] + [gamma]) * len(x)
    theta = np.linalg.solve(X.T @ X + penalty, X.T @ y)
    return theta[:-1], theta[-1] - np.sum(shift * theta[:-1])


def with_one_more_point(x, y, shift, sigma, gamma):
    """Free intercept, and one more point: at shift, without noise, label 0, weight N gamma."""
    X = np.column_stack([x, np.ones(len(x))])
    extra = np.append(shift + np.zeros(x.shape[1]), 1.0)
    penalty = np.diag([sigma**2] * x.shape[1] + [0.0]) * len(x)
    system = X.T @ X + penalty + len(x) * gamma * np.outer(extra, extra)
    theta = np.linalg.solve(system, X.T @ y)
    return theta[:-1], theta[-1]


@pytest.mark.parametrize("target", [6, 20, 30])
def test_penalty_is_one_more_point(target):
    x, y = two_classes(target=target)
    s = t.summarise(x, y)
    for shift in (0.0, 0.7, np.array([0.5, -1.0, 2.0])):
        for gamma in (0.0, 0.01, 3.0):
            pair = f.penalised_boundary(s, shift, 0.4, gamma)
            direct = solved(x, y, shift, 0.4, gamma)
            assert np.allclose(np.append(*pair), np.append(*direct))  # not up to a factor only
            again = with_one_more_point(x, y, shift, 0.4, gamma)
            assert np.allclose(np.append(*pair), np.append(*again))
    free = f.penalised_boundary(s, 0.7, 0.4, 0.0)
    assert same_boundary(free, t.boundary(s.d, s.base, t.ga_rule(s, 0.4)))


def test_share_that_is_kept():
    x, y = two_classes(target=20)
    s, gamma, rng = t.summarise(x, y), 0.2, np.random.default_rng(22)
    B, a = t.ga_rule(s, 0.4).B, f.overall_mean(s, 0.9)
    kappa = gamma / (1 + gamma)
    tilted = np.linalg.inv(np.linalg.inv(B) + kappa * np.outer(a, a))
    w, _ = f.penalised_boundary(s, 0.9, 0.4, gamma)
    assert np.allclose(w / np.linalg.norm(w), tilted @ s.d / np.linalg.norm(tilted @ s.d))
    for v in rng.normal(size=(20, 3)):
        share = f.kept_share(v, a, B, gamma)
        assert share == pytest.approx(v @ tilted @ v / (v @ B @ v)) and 0 < share <= 1
    g = np.array([0.0, 0.0, 1.0])
    flat = f.kept_share(0.3 * g, 2.0 * g, np.eye(3) / 0.5, gamma)
    assert flat == pytest.approx(f.brightness_share(2.0, 0.5, gamma))


def bright(D, r, M, tau):
    """Equal classes D apart, moved by r across, and the constant t that leaves a = M g."""
    d, g = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    clean = t.Summary(D * d, np.array([0.4, -0.3, 0.2]), tau / 2 * np.eye(3), 0.5)
    after = clean._replace(d=D * d + r * g)
    return clean, after, f.overall_mean(after) - M * g


def test_the_margin_under_a_bright_poison():
    for M in (-4.0, -0.5, 0.0, 1.0, 6.0):
        for D, r, tau, gamma in ((2.0, 1.5, 0.4, 0.05), (1.0, 2.0, 1.0, 1.0), (3.0, 0.3, 0.2, 0.0)):
            clean, after, shift = bright(D, r, M, tau)
            pair = f.penalised_boundary(after, shift, np.sqrt(tau / 2), gamma)
            margin = t.signed_distance(clean.base + clean.d, *pair)
            assert margin == pytest.approx(f.brightness_margin(D, r, M, tau, gamma))
            others = -t.signed_distance(clean.base, *pair)
            s = f.brightness_share(M, tau, gamma)
            assert margin + others == pytest.approx(D**2 / np.hypot(D, s * r))
    chapter = (2.0**2 - 1.5**2) / (2 * np.hypot(2.0, 1.5))  # v = r g of eq-th-isotropic, c = 0
    assert f.brightness_margin(2.0, 1.5, 0.0, 0.4, 0.05) == pytest.approx(chapter)
    assert f.brightness_margin(2.0, 1.5, 1e4, 0.4, 0.05) == pytest.approx(1.0, abs=1e-3)
    assert f.brightness_margin(2.0, 1.5, -1e4, 0.4, 0.05) == pytest.approx(1.0, abs=1e-3)


def test_free_intercept_sees_no_shift():
    x, y = two_classes(target=8)
    s = t.summarise(x, y)
    pairs = [f.penalised_boundary(s, shift, 0.5, 0.0) for shift in (0.0, 0.5, 7.0)]
    assert all(same_boundary(pairs[0], pair) for pair in pairs)
    penalised = f.penalised_boundary(s, 7.0, 0.5, 0.01)
    assert not same_boundary(pairs[0], penalised)  # planted: a penalty does


def test_the_slow_rate():
    for M in (0.0, 0.3, 2.0, -5.0, 30.0):
        for tau in (0.05, 0.7, 3.0):
            block = np.array([[tau + M**2, M], [M, 1.0]])
            slow = f.slow_rate(M, tau)
            assert slow == pytest.approx(np.linalg.eigvalsh(block)[0])
            assert tau / (1 + tau + M**2) <= slow + 1e-15
            assert slow <= tau / (1 + M**2) + 1e-15
            vector = np.linalg.eigh(block)[1][:, 0]
            assert vector[0] ** 2 <= 1 / (1 + M**2) + 1e-12
            D, r = 2.0, 1.3
            H = moments(D, r, M, tau)[0]
            smallest = np.linalg.eigvalsh(H)[0]
            assert slow - 1e-12 <= smallest
            assert smallest <= tau * (1 + r**2 / D**2) / (1 + M**2) + 1e-12


def moments(D, r, M, tau):
    """H and m of prop-early in the coordinates (shape, brightness, intercept), written out."""
    u = np.array([D, r, 0.0])
    last = np.array([0.0, M, 1.0])
    H = np.diag([tau, tau, 0.0]) + np.outer(last, last) + np.outer(u, u) / 4
    return H, u / 2


def test_descent_is_gradient_descent():
    x, y = two_classes(target=8)
    s, shift, sigma, rate = t.summarise(x, y), 0.6, 0.5, 0.05
    X = np.column_stack([x - shift, np.ones(len(x))])
    noise = np.diag([sigma**2] * 3 + [0.0])
    theta, kept = np.zeros(4), {}
    for step in range(1, 201):
        slope = X.T @ (X @ theta - y) / len(x) + noise @ theta
        theta = theta - rate * slope
        kept[step] = np.append(theta[:-1], theta[-1] - shift * theta[:-1].sum())
    w, b = f.descent(s, shift, sigma, [1, 7, 200], rate)
    for found, step in zip(np.column_stack([w, b]), (1, 7, 200)):
        assert np.allclose(found, kept[step])
    end = f.descent(s, shift, sigma, 10**7)
    assert same_boundary(end, t.boundary(s.d, s.base, t.ga_rule(s, sigma)))


def test_share_of_early_stopping():
    """(2) of prop-early: the sum over steps, from the residuals of a run of gradient descent."""
    D, r, M, tau = 2.0, 1.3, -6.0, 0.5
    H, m = moments(D, r, M, tau)
    rate = 0.9 / np.linalg.eigvalsh(H)[-1]
    u, theta, residuals = np.array([D, r, 0.0]), np.zeros(3), []
    values, vectors = np.linalg.eigh([[tau + M**2, M], [M, 1.0]])
    steps = 400
    for _ in range(steps):
        residuals.append(2 - u @ theta)
        theta = theta - rate * (H @ theta - m)
    j = np.arange(steps)
    fading = ((1 - rate * values) ** j[:, None]) @ vectors[0] ** 2
    backwards = np.array(residuals)[::-1]
    share = backwards @ fading / (backwards @ (1 - rate * tau) ** j)
    assert min(residuals) > 0
    assert f.early_share(D, r, M, tau, rate, steps) == pytest.approx(share)
    assert theta[1] / theta[0] == pytest.approx(share * r / D)
    assert f.early_share(D, r, M, tau, rate, 1) == pytest.approx(1)
    assert f.early_share(D, r, M, tau, rate, 10**6) == pytest.approx(1)
    assert share < 0.5  # in between it has less


def test_delay_by_subtraction():
    """(3) of prop-early: about 1 + M^2 times as many steps, at one step size."""
    D, r, tau, rate = 2.0, 1.3, 0.5, 1e-3
    steps = np.unique(np.geomspace(20, 3e7, 4000).astype(int))

    def until(M, level=0.7):
        share = f.early_share(D, r, M, tau, rate, steps)
        low = share.argmin()
        return steps[low:][share[low:] >= level][0]

    for M in (8.0, 16.0, 30.0):
        ratio = until(M) / until(4.0)
        assert ratio == pytest.approx((1 + M**2) / (1 + 4.0**2), rel=0.25)
    assert np.allclose(f.early_share(D, r, 0.0, tau, rate, steps), 1)  # planted: no delay at M = 0


def victims(drops, noise=0.02):
    """Rows of victims whose drop is known for each subtracted constant."""
    rng, tables = np.random.default_rng(23), []
    points = 1 + 0.2 * rng.normal(size=60)
    for shift, drop in drops.items():
        for attack, left in (("none", 1.0), ("uniform", 1 - drop)):
            for seed in (0, 1, 2):
                radius = points * (left + noise * rng.normal()) + noise * rng.normal(size=60)
                table = pd.DataFrame({"index": range(60), "radius": radius})
                tables.append(table.assign(seed=seed, attack=attack, subtract=shift))
    return pd.concat(tables, ignore_index=True)


def test_differences_and_quotients_of_drops(tmp_path):
    path = tmp_path / "first_layer_lenet.csv"
    rows = victims({0.0: 0.8, 0.5: 0.4, 1.0: 0.1})
    first, second = theory_claims.less_lost(rows, [[0.0, 0.5], [0.5, 1.0]], path)
    assert first.estimate == pytest.approx(0.4, abs=0.03) and first.low < 0.4 < first.high
    assert second.estimate == pytest.approx(0.3, abs=0.03) and second.seeds == 3
    (half,) = theory_claims.still_lost(rows, [0.5], path)
    assert half.estimate == pytest.approx(0.5, abs=0.04) and half.low < 0.5 < half.high
    assert list(theory_claims.longer(rows, [0.5], path)) == []
    victims({0.0: 0.8, 0.5: 0.6}).to_csv(tmp_path / "first_layer_lenet_long.csv", index=False)
    (more,) = theory_claims.longer(rows, [0.5], path)
    assert more.estimate == pytest.approx(0.2, abs=0.03) and more.cell == "0.5"
    share = {"gamma": 0.01, "attack": "uniform", "subtract": [0.5, 1.0], "share": [0.45, 0.2]}
    prediction = tmp_path / "first_layer_linear_prediction.csv"
    pd.DataFrame(share).to_csv(prediction, index=False)
    kept = list(theory_claims.kept(rows, [0.5, 1.0], path))
    assert [cell.estimate for cell in kept] == pytest.approx([0.05, -0.075], abs=0.04)
    assert kept[0].runs == ["first_layer_lenet", "first_layer_linear_prediction"]


def test_the_interval_of_a_difference_covers():
    """As often as it says, with few victims: both parts of the variance are in it."""
    rng, covered = np.random.default_rng(24), []
    for _ in range(60):
        tables = []
        truth = {0.0: 0.8, 0.5: 0.4}
        for shift, drop in truth.items():
            own = rng.normal(size=40)  # how much a test point is hurt
            for seed in (0, 1, 2):
                victim = 0.05 * rng.normal()
                for attack in ("none", "uniform"):
                    left = 1 - drop + victim + 0.1 * own if attack == "uniform" else 1.0
                    table = pd.DataFrame({"index": range(40), "radius": left})
                    tables.append(table.assign(seed=seed, attack=attack, subtract=shift))
        rows = pd.concat(tables)
        low, high = theory_claims.difference(
            theory_claims.drop_at(rows, 0.0), theory_claims.drop_at(rows, 0.5)
        )[1:]
        covered.append(low < 0.4 < high)
    assert 0.9 < np.mean(covered)
