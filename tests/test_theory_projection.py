"""What a projection leaves attacker and learner: the formulas against what they are about."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from test_theory import same_boundary, two_classes

from extras import highpass
from pacd.data import load
from study import theory as t
from study import theory_projection as f
from study import theory_projection_figures as figures
from study.numbers import theory as numbers

NONE = np.zeros((0, 9))


def some_box(seed=0, k=9):
    """A box that is one-sided in a third of its coordinates, and lopsided in the others."""
    rng = np.random.default_rng(seed)
    low, high = -rng.uniform(0, 1, k), rng.uniform(0, 1, k)
    low[: k // 3] = 0
    return low, high


def some_removed(count, k=9, seed=1):
    """Orthonormal rows, the constant among them."""
    draws = np.random.default_rng(seed).normal(size=(k, count))
    draws[:, :1] = 1
    return np.linalg.qr(draws)[0].T


def all_corners(low, high):
    return np.array([np.where(s, high, low) for s in product((0, 1), repeat=len(low))])


def lengths(v, removed):
    """By least squares: the distance of v, (n, k), from the removed space."""
    coefficients = np.linalg.lstsq(removed.T, v.T, rcond=None)[0]
    return np.linalg.norm(v - coefficients.T @ removed, axis=1)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 6)])
def test_the_components_are_those_of_the_layer(shape):
    x = np.random.default_rng(2).uniform(size=(4, *shape))
    for k in (1, 3, 6, 15):
        removed = f.cosines(shape, k)
        assert np.allclose(removed @ removed.T, np.eye(shape[0] * k))
        layer = highpass.Without(shape, k).double()
        layer.low = highpass.cosines(*shape[1:], k)
        expected = layer(torch.tensor(x)).numpy()
        assert np.allclose(f.without(x.reshape(4, -1), removed), expected.reshape(4, -1))
    assert f.cosines(shape, 0).shape == (0, np.prod(shape))


def test_a_learner_behind_a_projection():
    """Trained on P x in all k pixels, by the learners themselves, against V x in k - m."""
    x, y = two_classes(target=12, k=5)
    removed = some_removed(2, k=5)
    V, projected, sigma = f.coordinates(removed), f.without(x, removed), 0.4
    assert np.allclose(V @ V.T, np.eye(3)) and np.allclose(V.T @ V, f.without(np.eye(5), removed))
    summary = f.behind(t.summarise(x, y), V)
    lam = t.ga_penalty(len(x), sigma)
    w, b = t.boundary(summary.d, summary.base, t.ga_rule(summary, sigma))
    assert same_boundary((w @ V, b), t.ridge(projected, y, lam))
    assert np.allclose(t.signed_distance(x, w @ V, b), t.signed_distance(x @ V.T, w, b))
    w, b = t.boundary(summary.d, summary.base, t.mean_rule(summary))
    of_images = t.summarise(projected, y)
    plain = t.boundary(of_images.d, of_images.base, t.mean_rule(of_images))
    assert same_boundary((w @ V, b), plain)
    assert not same_boundary((w @ V, b), t.ridge(x, y, lam))  # planted: the layer matters


def test_box_of_the_mean():
    """Random changes stay in it, and each of its corners is reached by some."""
    rng, eps = np.random.default_rng(3), 0.3
    x = np.clip(rng.normal(0.3, 0.4, size=(7, 9)), 0, 1)
    low, high = f.mean_box(x, eps)
    for _ in range(50):
        moved = np.clip(x + rng.uniform(-eps, eps, x.shape), 0, 1)
        change = (moved - x).mean(0)
        assert (low <= change + 1e-12).all() and (change <= high + 1e-12).all()
        signs = rng.choice([-1.0, 1.0], 9)
        change = (np.clip(x + eps * signs, 0, 1) - x).mean(0)
        assert np.allclose(change, np.where(signs > 0, high, low))
    assert (x == 0).any() and low[(x == 0).all(0)].tolist() == [0] * (x == 0).all(0).sum()
    black = f.mean_box(np.zeros((3, 4)), eps)
    assert np.allclose(black, [[0] * 4, [eps] * 4])


def test_mean_of_a_one_sided_change():
    """All 0-1 patterns of up to 8 pixels, random changes of the cube, and two-sided ones."""
    rng, eps = np.random.default_rng(4), 0.1
    for k in range(2, 9):
        constant = np.full((1, k), k**-0.5)
        corners = all_corners(np.zeros(k), np.full(k, eps))
        longest = lengths(corners, constant).max()
        assert longest == pytest.approx(f.one_sided_bound(eps, k))
        assert longest <= eps * np.sqrt(k) / 2 + 1e-12
        assert (k % 2 == 1) == (longest < eps * np.sqrt(k) / 2 - 1e-6)
        assert lengths(rng.uniform(0, eps, (500, k)), constant).max() < longest
        both = lengths(all_corners(np.full(k, -eps), np.full(k, eps)), constant).max()
        assert both == pytest.approx(2 * longest)  # planted: with two sides it is no bound


def test_longest_change_left():
    """Against all corners: the bound is above the longest, the average below; most are found."""
    reached = []
    for seed, count in product(range(4), (0, 1, 2, 4)):
        low, high = some_box(seed)
        removed = some_removed(count) if count else NONE
        exact = lengths(all_corners(low, high), removed)
        bound, most = f.longest_bound(low, high, removed), exact.max()
        found = f.longest_found(low, high, removed)
        assert ((found == low) | (found == high)).all()
        reached.append(lengths(found[None], removed)[0] / most)
        assert most - 1e-9 <= bound <= 1.1 * most
        mean = f.corner_mean(low, high, removed)
        assert mean == pytest.approx(np.sqrt(np.mean(exact**2))) and mean <= most
        if not count:  # no layer: the box's farthest corner
            assert bound == pytest.approx(np.linalg.norm(np.maximum(-low, high)))
    assert min(reached) > 0.95 and max(reached) < 1 + 1e-9
    assert np.isclose(reached, 1).sum() > 12  # of 16


def test_channels_of_colour_images_add_up():
    """The layer and the box act on each channel alone, so the squares of the lengths add up."""
    rng, shape = np.random.default_rng(8), (3, 5, 4)
    x = rng.uniform(size=(6, *shape)) * np.array([1.0, 0.0, 0.3])[:, None, None]
    for count in (0, 1, 3):
        bound, found = f.longest_left(x.reshape(6, -1), shape, count, 0.1)
        alone = [f.longest_left(x[:, c].reshape(6, -1), (1, 5, 4), count, 0.1) for c in range(3)]
        squares = np.square(alone).sum(0)
        assert bound**2 == pytest.approx(squares[0], rel=0.02)  # the search for q ends early
        assert 0.97 * squares[1] <= found**2 <= squares[0] + 1e-9
    black = f.longest_left(np.zeros((2, 60)), shape, 1, 0.1)
    assert black == pytest.approx((3**0.5 * f.one_sided_bound(0.1, 20),) * 2)


def test_bound_of_the_middle():
    """The proved bound is never looser than its two simple forms, and tighter than one of them."""
    looser = []
    for seed in range(6):
        low, high = some_box(seed)
        removed = some_removed(3)
        middle, half = f.without((low + high) / 2, removed), (high - low) / 2
        simple = np.linalg.norm(np.abs(middle) + half)
        assert f.longest_bound(low, high, removed) <= simple + 1e-9
        assert simple <= np.linalg.norm(middle) + np.linalg.norm(half) + 1e-9
        looser.append(simple - f.longest_bound(low, high, removed))
    assert max(looser) > 1e-3
    even = f.longest_bound(np.zeros(8), np.full(8, 0.1), np.full((1, 8), 8**-0.5))
    assert even == pytest.approx(f.one_sided_bound(0.1, 8))


def test_floor_behind_a_projection():
    """Random and worst shifts of the box, margins of the learner itself, skewed test points."""
    rng, attained, found = np.random.default_rng(5), [], []
    for seed, count in product(range(5), (0, 1, 3)):
        low, high = some_box(seed)
        removed = some_removed(count) if count else NONE
        d = rng.normal(size=9)
        length = f.longest_bound(low, high, removed)
        d *= (1.1 + 0.4 * seed) * length / np.linalg.norm(f.without(d, removed))
        shifts = np.vstack([all_corners(low, high), rng.uniform(low, high, (100, 9))])
        margins = np.array([learned_margin(v, d, removed) for v in shifts])
        assert np.allclose(f.margin(shifts, d, removed), margins)
        floor = f.margin_floor(d, length, removed)
        assert 0 < floor <= margins.min()
        drop = np.linalg.norm(f.without(d, removed)) / 2 - margins
        assert (drop <= lengths(shifts, removed) / 2 + 1e-9).all()
        worst = f.worst_found(d, low, high, removed)
        found.append((f.margin(worst, d, removed) - margins.min()) / length)
        attained.append(drop.max() / length)
    assert max(attained) > 0.4  # a half is not too much
    assert -1e-9 < min(found) and max(found) < 0.05 and np.isclose(found, 0).sum() > 10  # of 15
    assert f.margin_floor(d, 1.01 * np.linalg.norm(f.without(d, removed)), removed) == -np.inf


def learned_margin(v, d, removed):
    """Of the nearest mean of the projected classes, at the clean target mean."""
    base = np.linspace(0.1, 0.9, len(d))
    target, others = f.without(base + d + v, removed), f.without(base, removed)
    w, b = target - others, (others @ others - target @ target) / 2
    return t.signed_distance(f.without(base + d, removed), w, b)


def test_drop_beyond_the_gap():
    """Three halves of the length, where it exceeds the gap: random shifts, and one close to it."""
    rng = np.random.default_rng(6)
    d = rng.normal(size=9)
    for removed in (NONE, some_removed(2)):
        gap = np.linalg.norm(f.without(d, removed))
        shifts = rng.normal(size=(500, 9)) * rng.uniform(0, 3, (500, 1))
        drops = gap / 2 - f.margin(shifts, d, removed)
        assert (drops <= 1.5 * lengths(shifts, removed) + 1e-9).all()
        close = gap / 2 - f.margin(-1.001 * d, d, removed)
        assert 1.49 * gap < close <= 1.5 * 1.001 * gap


def test_floor_of_points_behind_a_projection():
    """GA on projected images after random poisons of each, solved anew."""
    rng, eps, sigma = np.random.default_rng(7), 0.03, 0.5
    x = np.clip(rng.normal(0.4, 0.2, (40, 9)), 0, 1)
    y = np.repeat([1, -1], 20)
    x[y == 1, 3:6] = np.clip(x[y == 1, 3:6] + 0.4, 0, 1)
    removed = some_removed(2)
    reach = f.single_reach(x[y == 1], eps, removed)
    clean = t.summarise(x, y)
    floor = t.margin_floor_points(f.behind(clean, f.coordinates(removed)), sigma, reach, 1.0)
    mean, spans = clean.base + clean.d, []
    assert floor > 0
    for attempt in range(60):
        signs = np.where(attempt % 2, clean.d, -clean.d) if attempt < 2 else rng.normal(size=9)
        moved = x.copy()
        moved[y == 1] = np.clip(x[y == 1] + eps * np.sign(signs), 0, 1)
        if attempt % 3 == 2:
            noise = rng.choice([-eps, eps], (20, 9))
            moved[y == 1] = np.clip(x[y == 1] + noise, 0, 1)
        w, b = t.ridge(f.without(moved, removed), y, t.ga_penalty(40, sigma))
        assert floor <= t.signed_distance(f.without(mean, removed), w, b)
        change = lengths((moved - x)[y == 1], removed)
        assert np.sqrt(np.mean(change**2)) <= reach
        spans.append(np.sqrt(np.mean(change**2)))
    assert max(spans) > 0.8 * reach


def test_table_of_the_digits():
    """One line of it from the images themselves, by another transform."""
    splits, table = load("mnist5k"), figures.table()
    eights = splits.x_train[splits.y_train == 8][:, 0].double().numpy()
    threes = splits.x_train[splits.y_train == 3][:, 0].double().numpy()
    brighter = (np.clip(eights + 0.1, 0, 1) - eights).mean(0)
    gap = eights.mean(0) - threes.mean(0)
    low = np.add.outer(np.arange(28), np.arange(28)) < 3
    left = [np.linalg.norm(dctn(image, norm="ortho")[~low]) for image in (brighter, gap)]
    assert [*table.loc[6, ["bright", "gap"]]] == pytest.approx(left)
    farthest = np.maximum(np.minimum(eights, 0.1).mean(0), np.minimum(1 - eights, 0.1).mean(0))
    assert table.loc[0, "bound"] == pytest.approx(np.linalg.norm(farthest))
    assert table.loc[6, "free"] == pytest.approx(0.1 * np.sqrt(784 - 6))
    assert (table["bright"] <= table["found"] + 1e-9).all()
    assert (table["floor"] <= table["worst"]).all()
    assert (table["worst"] <= table[["clean", "bright_margin"]].min(axis=1) + 1e-9).all()


def test_what_the_page_says_of_the_digits():
    table, texts = figures.table(), numbers.projection_page()
    assert (table["found"] > 0.99 * table["bound"]).all()  # nothing longer to find
    assert (table["found"] <= table["bound"] + 1e-9).all()
    assert table.loc[0, "bright"] > 0.95 * table.loc[0, "bound"]  # nearly the longest
    assert (table["bright_margin"][1:] >= table["clean"][1:]).all()  # no margin is lost
    share = 1 - table["floor"] / table["clean"]
    assert share[6] == share.min() < share[0] - 0.15  # he takes less
    assert abs(share[45] - share[0]) < 0.03  # as large a share as without a layer
    assert table.loc[45, "found"] > 0.95 * table.loc[15, "found"]  # hardly less
    assert texts["lost_floor_6"] == f"{100 * share[6]:.0f}"
    assert texts["bound_1"] == f"{table.loc[1, 'bound']:.2f}"


def test_figures_of_the_projection():
    left, right = figures.plot().axes
    assert [*left.lines[0].get_ydata()] == [*figures.table()["bound"]]
    assert [*right.lines[-1].get_ydata()] == [*figures.table()["floor"]]
    changes = [axis.images[0].get_array() for axis in figures.plot_changes().axes]
    sums = [abs(image.sum()) for image in changes]
    assert sums[0] > 10 and max(sums[1:]) < 1e-6  # behind the layer nothing has a mean
