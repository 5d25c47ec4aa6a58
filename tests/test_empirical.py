"""The attack on the smoothed classifier against the certificate, inside which none succeeds."""

from functools import partial

import numpy as np
import pytest
import torch
from certifying import certify, votes_of
from scipy.stats import binomtest

from pacd import empirical
from pacd.counts import majority
from pacd.losses import gaussian
from pacd.models import make_model
from pacd.train import train
from pacd.votes import Votes
from study.parameters import MOST_WHOLE

SIGMA, W = 0.25, torch.tensor([0.5, -0.5, 0.5, -0.5])  # |W| = 1


def linear(x):
    """Class 1 where W . x > 0; at distance d from the boundary the true radius is d."""
    score = 2 * x.flatten(1) @ W
    return torch.stack([-score, score], 1)


def at_distance(*distances):
    """Points around mid-grey, so that the attack stays inside [0, 1], and their label 1."""
    return torch.stack([0.5 + d * W for d in distances]).view(-1, 1, 2, 2), torch.ones(
        len(distances), dtype=torch.long
    )


def attacked(model, x, y, radii, sigma=SIGMA, **options):
    """Empirical radii of the points."""
    votes, options = votes_of(model, x, **options)
    return empirical.empirical_radius(votes, y, sigma, radii, **options)


def certified(model, x, y, sigma=SIGMA, **options):
    """Certified radii of the points."""
    return certify(model, x, y, sigma, **options)["radius"].to_numpy()


on_line = partial(attacked, linear, classes=2)


def accepts(failures, runs, alpha):
    """Could this many failures come from a procedure that fails with probability at most alpha?

    Exact, at level 1e-4.
    """
    return binomtest(failures, runs, alpha, alternative="greater").pvalue > 1e-4


def test_majority_is_the_two_sided_binomial_test():
    counts = np.array([[50, 50, 0], [60, 40, 0], [5, 30, 65], [0, 0, 9], [0, 10, 0]])
    p = [
        binomtest(first, first + second, 0.5).pvalue
        for first, second in ((50, 50), (60, 40), (65, 30), (9, 0), (10, 0))
    ]
    assert p[3] < 0.004 < p[1] and p[4] < 0.002 < p[3]
    assert majority(counts, 0.002).tolist() == [-1, -1, 2, -1, 1]
    assert majority(counts, p[3]).tolist() == [-1, -1, 2, 2, 1]


def test_linear_classifier_falls_just_outside_its_true_radius():
    x, y = at_distance(0.2, 0.3, 0.4, -0.1, 5.0)
    radii = [0.35, 0, 0.25, 0.45, 0.15]
    found = on_line(x[:4].clamp(0, 1), y[:4], radii, steps=4, n=3000)
    assert found.tolist() == [0.25, 0.35, 0.45, 0]  # the last point is wrong already
    far, label = at_distance(0.4)
    assert on_line(far, label, [0.1, 0.3], steps=4).tolist() == [np.inf]


def test_no_more_false_successes_than_alpha():
    """Radii that end on the boundary, where either class has probability 1/2: success is false."""
    x, y = at_distance(0.3)
    alpha, runs = 0.1, 300
    attack = partial(on_line, x, y, steps=1, draws=1, n=50)
    found = [attack(radii=[0.3, 0.3, 0.3, 0.3], alpha=alpha, seed=seed)[0] for seed in range(runs)]
    untested = [attack(radii=[0.3], alpha=1.0, seed=seed)[0] for seed in range(runs)]
    assert accepts(np.isfinite(found).sum(), runs, alpha)
    assert not accepts(
        np.isfinite(untested).sum(), runs, alpha
    )  # planted: a bare majority counts as success


def test_the_tests_of_a_point_share_alpha(monkeypatch):
    """24 lost votes of 30 have p = 0.0014: enough for one radius, not for four."""

    def by_place(x):
        lost = torch.arange(len(x)) >= 6
        return torch.stack([lost, ~lost], 1) + 0 * x.flatten(1).sum(1, keepdim=True)

    monkeypatch.setattr(Votes, "_check", lambda votes, network: None)  # it is no function
    attack = partial(attacked, by_place, *at_distance(0.0), classes=2, n=30, alpha=0.004)
    assert attack([0.0]).tolist() == [0]
    assert attack([0.0, 0.1, 0.2, 0.3]).tolist() == [np.inf]


def test_draws_that_could_show_no_success_are_refused():
    """Ten lost votes of ten have p = 2 / 2^10 = 0.00195: not enough for four radii at 0.004."""
    with pytest.raises(ValueError, match="n must be at least 11, or no attack can succeed, not 10"):
        on_line(*at_distance(0.1), [0.0, 0.1, 0.2, 0.3], n=10, alpha=0.004)


def test_attacks_and_certificates_share_no_noise():
    """Of black images the network sees the noise itself."""
    seen = []

    def watched(x):
        seen.append(x.detach().flatten())
        return linear(x)

    def drawn(radius_of, *rest, **options):
        seen.clear()
        black = torch.zeros(1, 1, 2, 2)
        radius_of(watched, black, torch.tensor([1]), *rest, n=50, classes=2, **options)
        return torch.cat(seen).numpy()

    Votes(watched, torch.zeros(1, 1, 2, 2), 2)
    plain = set(torch.cat(seen).numpy())  # what votes try first
    attack = drawn(attacked, [0.0], seed=0)
    assert len(np.intersect1d(attack, drawn(attacked, [0.0], seed=0))) > 200
    assert set(np.intersect1d(attack, drawn(attacked, [0.0], seed=1))) <= plain
    for seed in range(3):
        assert set(np.intersect1d(attack, drawn(certified, seed=seed))) <= plain
    assert 2 * MOST_WHOLE + 1 < 2**31  # nor any two of the seeds that settings allow


def test_linear_certificates_and_attacks_agree_and_doubled_radii_are_caught():
    x, y = at_distance(0.05, 0.2, 0.4)
    alpha, runs, inside, doubled = 0.1, 60, np.zeros(3), np.zeros(3)
    for seed in range(runs):  # points share draws, seeds do not
        setting = {"n": 300, "alpha": alpha, "seed": seed}
        found = on_line(x, y, [0.06, 0.21, 0.25, 0.45], steps=2, draws=2, **setting)
        radius = certified(linear, x, y, n0=10, classes=2, **setting)
        inside, doubled = inside + (found < radius), doubled + (found < 2 * radius)
    assert all(accepts(int(failures), runs, 2 * alpha) for failures in inside), inside
    assert not any(accepts(int(failures), runs, 2 * alpha) for failures in doubled[1:]), doubled


@pytest.fixture(scope="module")
def lenet(digits):
    model = make_model("lenet", digits.shape, 10, 0)
    train(
        model,
        digits.x_train[::5],
        digits.y_train[::5],
        partial(gaussian, sigma=0.5),
        epochs=2,
        batch=50,
        lr=1e-3,
    )
    return model.eval()


def test_no_attack_on_a_network_succeeds_inside_its_certificate(lenet, digits):
    alpha, inside, doubled, points = 0.001, 0, 0, range(0, 500, 17)
    for i in points:  # a seed for each point, so that points are independent
        x, y = digits.x_test[i : i + 1], digits.y_test[i : i + 1]
        setting = {"sigma": 0.5, "n": 500, "alpha": alpha, "seed": i}
        radius = certified(lenet, x, y, **setting)[0]
        radii = [0.99 * radius, 1.99 * radius]
        found = attacked(lenet, x, y, radii, steps=8, draws=16, **setting)[0]
        inside, doubled = inside + (found < radius), doubled + (found < 2 * radius)
    assert accepts(int(inside), len(points), 2 * alpha)
    assert not accepts(
        int(doubled), len(points), 2 * alpha
    )  # planted: a certifier that doubles its radius


def test_impossible_radii_are_refused():
    for radii in ([], [-0.1], [np.inf]):
        with pytest.raises(
            ValueError, match="radii must be one or more numbers, 0 or above, pixel units, not"
        ):
            on_line(*at_distance(0.1), radii)
