"""The certifier: its bound, draws, rows and tricks, with exact probabilities where they can be."""

import numpy as np
import pandas as pd
import pytest
import torch
from certifying import certify
from scipy.stats import binom, binomtest, chisquare, norm
from torch import nn

from pacd import certify as c
from pacd import counts as k_n
from pacd.models import make_model, split_affine
from pacd.votes import DRAWS, Votes
from study.intervals import recertify

W, SIGMA = torch.tensor([3.0, -4.0]), 0.5  # |W| = 5


def linear(x):
    """Class 1 where W . x > 0; d from the boundary p = Phi(d / sigma), so the true radius is d."""
    score = x.flatten(1) @ W
    return torch.stack([-score, score], 1)


def at_distance(*distances):
    return torch.stack([d * W / 25 * 5 for d in distances]).view(-1, 1, 1, 2)


def counts(rows):
    return k_n.counts_of(rows)


def accepts(failures, runs, alpha):
    """Could so many failures come from one that fails with probability alpha? At level 1e-4."""
    return binomtest(failures, runs, alpha, alternative="greater").pvalue > 1e-4


def failure(n, p, bound, alpha):
    """Exact probability that the bound of Bin(n, p) successes lies above p."""
    k = np.arange(n + 1)
    return binom.pmf(k, n, p)[bound(k, n, alpha) > p].sum()


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [1, 2, 30, 300])
def test_bound_fails_at_most_alpha(n, alpha):
    edges = k_n.lower_bound(
        np.arange(n + 1), n, alpha
    )  # the worst rates lie just below a value of the bound
    rates = np.unique(
        np.concatenate(
            [edges - 1e-9, [1e-6, 0.5, 0.9, 0.999, 1 - 1e-6], np.linspace(0.01, 0.99, 23)]
        ).clip(0, 1)
    )
    worst = max(failure(n, p, k_n.lower_bound, alpha) for p in rates)
    assert 0.9 * alpha < worst <= alpha * (1 + 1e-6)
    assert (
        max(
            failure(n, p, lambda k, n, a: k_n.lower_bound(k, n, 1.1 * a), alpha)
            for p in np.append(rates, (1.1 * alpha) ** (1 / n) - 1e-9)
        )
        > alpha
    )


def test_bound_at_its_ends():
    assert k_n.lower_bound(0, 100, 0.001) == 0
    assert k_n.lower_bound(100, 100, 0.001) == pytest.approx(0.001 ** (1 / 100), abs=1e-12)
    assert norm.ppf(k_n.lower_bound(100_000, 100_000, 0.001)) == pytest.approx(3.81, abs=0.005)


def test_linear_classifier_is_never_certified_too_far_more_often_than_alpha():
    distances, alpha, runs = (0.0, 0.02, 0.3, 0.8), 0.1, 250
    x, y = at_distance(*distances), torch.ones(4, dtype=torch.long)
    over = np.zeros(4)
    for seed in range(
        runs
    ):  # points share draws, seeds do not: each point is judged over the seeds
        rows = certify(linear, x, y, SIGMA, n=60, n0=10, alpha=alpha, seed=seed, classes=2)
        wrong = rows["prediction"] == 0
        over += (rows["radius"] > distances) | wrong
    assert all(accepts(int(failures), runs, alpha) for failures in over), over
    assert (over[:2] > 0).any()  # the test has something to count


def test_many_draws_find_the_true_radius():
    rows = certify(linear, at_distance(0.3, -0.3), torch.tensor([1, 1]), SIGMA, n=20_000, classes=2)
    assert (
        0.27 < rows["radius"][0] <= 0.3
        and rows["prediction"].tolist() == [1, 0]
        and rows["radius"][1] == 0
    )


def test_guess_and_estimate_need_different_draws():
    """At p = 1/2 any certificate is false.

    Independent draws give it with probability alpha at most, reused ones with more.
    """
    generator, runs, n, alpha = np.random.default_rng(0), 20_000, 200, 0.05
    first, second = generator.binomial(n, 0.5, runs), generator.binomial(n, 0.5, runs)

    def false_certificates(k, n):
        k = np.where(first > 100, k, n - k)  # of the class that the first draws guess
        return int((k_n.lower_bound(k, n, alpha) > 0.5).sum())

    assert accepts(false_certificates(second, n), runs, alpha)
    assert not accepts(
        false_certificates(first + second, 2 * n), runs, alpha
    )  # planted: n0 counted into n
    assert not accepts(
        false_certificates(first, n), runs, alpha
    )  # planted: one set of draws for both


def test_no_two_streams_share_draws():
    streams = [
        torch.cat(list(c.noise_blocks((4,), 1.0, 3000, (seed, stage), "cpu")))
        for seed in range(3)
        for stage in (0, 1)
    ]
    flat = torch.stack([stream.flatten() for stream in streams])
    correlation = torch.corrcoef(flat) - torch.eye(6)
    assert correlation.abs().max() < 5 / np.sqrt(
        12_000
    )  # 5 standard errors of a correlation of 12,000 pairs
    assert len(np.unique(flat.numpy())) > 0.99 * flat.numel()
    assert abs(flat.mean()) < 0.02 and abs(flat.std() - 1) < 0.01


def test_longer_run_begins_with_the_shorter_one():
    blocks = list(c.noise_blocks((3,), 0.5, 2 * DRAWS + 7, (1, 1), "cpu"))
    short = list(c.noise_blocks((3,), 0.5, 30, (1, 1), "cpu"))
    assert [len(b) for b in blocks] == [DRAWS, DRAWS, 7] and blocks[0][:30].equal(short[0])


@pytest.fixture(scope="module")
def lenet():
    return make_model("lenet", (1, 28, 28), 10, 0).eval()


@pytest.fixture(scope="module")
def images(digits):
    return digits.x_test[::100], digits.y_test[::100]  # 5 points


N = 1130  # no batch below divides it


@pytest.fixture(scope="module")
def rows(lenet, images):
    return certify(lenet, *images, 0.5, n=N, n0=30)


def test_rows_repeat_and_add_up(lenet, images, rows):
    pd.testing.assert_frame_equal(certify(lenet, *images, 0.5, n=N, n0=30), rows)
    assert (
        (counts(rows).sum(1) == N).all()
        and (rows["n"] == N).all()
        and (rows["precision"] == "float32").all()
    )
    assert not np.array_equal(
        counts(certify(lenet, *images, 0.5, n=N, n0=30, seed=1)), counts(rows)
    )


class Wrapped(nn.Module):
    """The same network in a form whose first layers nothing can take apart."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


@pytest.mark.parametrize("batch", [1, 77, 250, 3000])
@pytest.mark.parametrize("wrap", [lambda network: network, Wrapped], ids=["cached", "whole"])
def test_tricks_change_only_ties(lenet, images, batch, wrap):
    """Counts may differ from a bare forward's by draws whose two largest logits agree to 1e-5."""
    n = 130 if batch == 1 else N
    noise = torch.cat(list(c.noise_blocks((1, 28, 28), 0.5, n, (0, 1), "cpu")))
    got = counts(certify(wrap(lenet), *images, 0.5, n=n, n0=30, batch=batch))
    with torch.inference_mode():
        for x, line in zip(images[0], got):
            top, winner = lenet(x + noise).topk(2)
            ties = int((top[:, 0] - top[:, 1] < 1e-5 * top.abs().max()).sum())
            plain = winner[:, 0].bincount(minlength=10).numpy()
            assert np.abs(plain - line).sum() <= 2 * ties and ties <= 2


def test_compiled_step_counts_the_same(lenet, images, rows, monkeypatch):
    """The padding and masking of compiled batches, with a compiler that takes no time."""
    compiled = []
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: lambda *a: (compiled.append(a[3].shape), f(*a))[1]
    )
    again = certify(lenet, *images, 0.5, n=N, n0=30, compiled=True, batch=300)
    assert len(compiled) > 10 and np.abs(counts(again) - counts(rows)).sum() <= 2


def test_without_a_compiler_the_rows_are_the_same(lenet, images, rows, monkeypatch):
    def broken(f, **options):
        def fail(*a):
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="without torch.compile .*no C"):
        pd.testing.assert_frame_equal(certify(lenet, *images, 0.5, n=N, n0=30, compiled=True), rows)


def test_bfloat16_says_so_and_is_one_network_whatever_the_tricks(lenet, images, rows):
    half = certify(lenet, *images, 0.5, n=N, n0=30, precision="bfloat16")
    assert (half["precision"] == "bfloat16").all()
    again = certify(lenet, *images, 0.5, n=N, n0=30, precision="bfloat16", batch=100)
    assert np.abs(counts(half) - counts(again)).sum() <= 0.01 * N * len(half)
    assert np.abs(counts(half) - counts(rows)).sum() <= 0.1 * N * len(half)
    assert lenet[-1].weight.dtype == torch.float32  # the caller's network is left alone


def test_first_layers_are_affine_and_others_are_not_touched(lenet):
    first, rest = split_affine(lenet)
    x, d = torch.rand(2, 1, 28, 28), torch.randn(2, 1, 28, 28)
    assert len(first) == 2 and torch.allclose(
        first(x + d), first(x) + first(d) - first(0 * x), atol=1e-5
    )
    plain = nn.ModuleList([lenet])[0]
    assert (
        split_affine(linear)[1] is linear
        and len(split_affine(nn.Sequential(nn.ReLU(), plain))[0]) == 0
    )


def test_padded_convolution_is_cached_right():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    x, noise, points = torch.rand(3, 3, 8, 8), torch.randn(50, 3, 8, 8), torch.arange(3)
    with torch.inference_mode():
        plain = [model(p + noise).argmax(1).bincount(minlength=3).tolist() for p in x]
    assert Votes(model, x, 3, batch=7)(noise, points).tolist() == plain
    assert Votes(model, x, 3)(noise, points[[2, 0]]).tolist() == [plain[2], plain[0]]
    assert Votes(model, x, 3)(noise, points[:0]).shape == (0, 3)


def test_stopping_wrong_guesses_changes_no_radius(lenet, images, rows):
    stopped = certify(lenet, *images, 0.5, n=N, n0=30, stop_wrong=True)
    wrong = rows["guess"] != rows["label"]
    assert (
        wrong.any()
        and stopped["radius"].equals(rows["radius"])
        and stopped[~wrong].equals(rows[~wrong])
    )
    assert (stopped.loc[wrong, "n"] == 0).all() and (
        stopped.loc[wrong, "prediction"] == k_n.STOPPED
    ).all()
    assert (counts(stopped).sum(1) == stopped["n"]).all()
    again = recertify(stopped, alpha=0.1, n=100)
    assert (again["n"] == np.where(wrong, 0, 100)).all() and (
        again.loc[wrong, "prediction"] == k_n.STOPPED
    ).all()


def test_recertifying_at_another_alpha_is_a_run_at_that_alpha(lenet, images, rows):
    direct = certify(lenet, *images, 0.5, n=N, n0=30, alpha=0.2)
    pd.testing.assert_frame_equal(recertify(rows, alpha=0.2), direct)
    pd.testing.assert_frame_equal(recertify(rows), rows)


def test_fewer_draws_from_rows_are_distributed_as_a_shorter_run():
    generator, n, p = np.random.default_rng(0), 200, 0.93
    k = generator.binomial(n, p, 5000)
    table = pd.DataFrame(
        {
            "label": 0,
            "guess": 0,
            "n": n,
            "alpha": 0.001,
            "sigma": 1.0,
            "count_0": k,
            "count_1": n - k,
        }
    )
    thinned = recertify(table, n=20)
    assert (counts(thinned).sum(1) == 20).all() and thinned.equals(recertify(table, n=20))
    seen = np.bincount(np.maximum(thinned["count_0"], 15) - 15, minlength=6)
    expected = 5000 * np.append(binom.cdf(15, 20, p), binom.pmf(range(16, 21), 20, p))
    assert chisquare(seen, expected).pvalue > 1e-4
    assert (
        chisquare(np.bincount(np.maximum(k * 20 // n, 15) - 15, minlength=6), expected).pvalue
        < 1e-4
    )  # planted: scaled counts
    with pytest.raises(ValueError, match="at most 200"):
        recertify(table, n=201)


def test_all_draws_won_and_all_lost():
    table = pd.DataFrame(
        {
            "label": 0,
            "guess": 0,
            "n": 50,
            "alpha": 0.001,
            "sigma": 2.0,
            "count_0": [50, 0],
            "count_1": [0, 50],
        }
    )
    rows = k_n.bound(table)
    assert rows["radius"].tolist() == [pytest.approx(2 * norm.ppf(0.001 ** (1 / 50))), 0]
    assert rows["prediction"].tolist() == [0, k_n.ABSTAIN]


def test_impossible_networks_are_refused(images):
    x, y = images
    with pytest.raises(ValueError, match="not finite"):
        certify(lambda z: torch.full((len(z), 10), torch.nan), x, y, 0.5)
    with pytest.raises(ValueError, match="float32, bfloat16, int8, not 'float16'"):
        certify(linear, x, y, 0.5, precision="float16")
    with pytest.raises(ValueError, match="nn.Module"):
        certify(linear, x, y, 0.5, precision="bfloat16")


class Shifted(nn.Sequential):
    """A Sequential in name, whose forward is its own."""

    def forward(self, x):
        return super().forward((x - 0.5) / 0.5)


def test_a_sequence_with_its_own_forward_is_certified_whole(images):
    torch.manual_seed(0)
    model = Shifted(nn.Flatten(), nn.Linear(784, 10)).eval()
    rows = certify(model, *images, 0.5, n=300, n0=30)
    whole = certify(lambda z: model(z), *images, 0.5, n=300, n0=30)
    assert np.abs(counts(rows) - counts(whole)).sum() <= 2
    plain = certify(nn.Sequential(*model), *images, 0.5, n=300, n0=30)
    assert np.abs(counts(rows) - counts(plain)).sum() > 100  # another network
