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

W, SIGMA = torch.tensor([1.25, -1.25]).repeat(8), 0.5  # |W| = 5


def linear(x):
    """Class 1 where W . (x - 1/2) > 0; d from the boundary p = Phi(d / sigma): the true radius."""
    score = (x.flatten(1) - 0.5) @ W
    return torch.stack([-score, score], 1)


def at_distance(*distances):
    return torch.stack([0.5 + d * W / 5 for d in distances]).view(-1, 1, 4, 4)


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
@pytest.mark.parametrize(
    "wrap",
    [lambda network: network, lambda network: Wrapped(network).eval()],
    ids=["cached", "whole"],
)
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


def test_first_layers_are_affine_and_others_are_not_touched(lenet):
    first, rest = split_affine(lenet)
    x, d = torch.rand(2, 1, 28, 28), torch.randn(2, 1, 28, 28)
    assert len(first) == 3 and torch.allclose(
        first(x + d), first(x) + first(d) - first(0 * x), atol=1e-5
    )
    assert rest(first(x)).equal(lenet(x))
    plain = nn.ModuleList([lenet])[0]
    assert (
        split_affine(linear)[1] is linear
        and len(split_affine(nn.Sequential(nn.ReLU(), plain))[0]) == 0
    )


@pytest.mark.parametrize(
    "pool",
    [
        *(nn.MaxPool2d(2), nn.MaxPool2d(3), nn.MaxPool2d(2, stride=1), nn.MaxPool2d(1)),
        *(nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, dilation=2), nn.MaxPool2d((2, 3))),
        nn.MaxPool2d(3, ceil_mode=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 11, 7)])
def test_windows_of_a_pool_are_shared_where_they_lie_side_by_side(pool, shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(shape[0], 4, 3), pool, nn.ReLU(), nn.Flatten()).eval()
    x, noise = torch.rand(3, *shape), 0.5 * torch.randn(20, *shape)
    first, rest = split_affine(model)
    alone = pool.extra_repr() == nn.MaxPool2d(pool.kernel_size).extra_repr()
    assert len(first) == 1 + (alone and isinstance(pool.stride, int))
    assert rest(first(x)).equal(model(x))
    votes = Votes(model, x, model(x).shape[1])(noise, torch.arange(3))
    plain = torch.stack(
        [model(image + noise).argmax(1).bincount(minlength=len(votes[0])) for image in x]
    )
    assert votes.equal(plain)


def test_padded_convolution_is_cached_right():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).eval()
    x, noise, points = torch.rand(3, 3, 8, 8), torch.randn(50, 3, 8, 8), torch.arange(3)
    with torch.inference_mode():
        plain = [model(p + noise).argmax(1).bincount(minlength=3).tolist() for p in x]
    assert Votes(model, x, 3, batch=7)(noise, points).tolist() == plain
    assert Votes(model, x, 3)(noise, points[[2, 0]]).tolist() == [plain[2], plain[0]]
    assert Votes(model, x, 3)(noise, points[:0]).shape == (0, 3)


@pytest.mark.parametrize("right", [2, 0])
def test_stopping_wrong_guesses_changes_no_radius(lenet, images, rows, right):
    """With so many right guesses among the five."""
    y = (torch.tensor(rows["guess"]) + (torch.arange(5) >= right)) % 10
    whole, stopped = (
        certify(lenet, images[0], y, 0.5, n=N, n0=30, stop_wrong=stop) for stop in (False, True)
    )
    wrong = whole["guess"] != whole["label"]
    assert wrong.sum() == 5 - right and stopped["radius"].equals(whole["radius"])
    assert stopped[~wrong].equals(whole[~wrong])
    assert (stopped.loc[wrong, "n"] == 0).all()
    assert (stopped.loc[wrong, "prediction"] == k_n.STOPPED).all()
    assert (counts(stopped).sum(1) == stopped["n"]).all()
    again = recertify(stopped, alpha=0.1, n=100)
    assert (again["n"] == np.where(wrong, 0, 100)).all()
    assert (again.loc[wrong, "prediction"] == k_n.STOPPED).all()


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


def test_more_outputs_than_classes_are_refused(images):
    """Votes for a class beyond the last one would vanish, and the others look surer."""
    x, y = images
    wide = nn.Sequential(nn.Flatten(), nn.Linear(784, 100)).eval()
    with pytest.raises(ValueError, match=r"of shape \(5, 10\), not \(5, 100\)"):
        certify(wide, x, y, 0.5)
    with pytest.raises(ValueError, match=r"of shape \(5, 10\), not \(5,\)"):
        certify(lambda z: z.flatten(1).sum(1), x, y, 0.5)
    with pytest.raises(ValueError, match=r"of shape \(5, 10\), not \(5, 100\)"):
        certify(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval(), x, y, 0.5, quick=wide)
    assert counts(certify(wide, x, y, 0.5, classes=100, n=50)).sum(1).tolist() == [50] * 5


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_network_that_breaks_under_noise_is_refused(images, value):
    """Finite on pixels; each NaN would vote for class 0."""
    x, y = images

    def brittle(z):
        broken = (z.flatten(1) > 1.5).any(1)
        return torch.where(broken[:, None], value, z.flatten(1)[:, :10])

    with pytest.raises(ValueError, match="under noise are not finite"):
        certify(brittle, x, y, 0.5, n=200)


def test_a_network_in_training_mode_is_refused(lenet, images):
    part = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(784, 10))
    with pytest.raises(ValueError, match="evaluation mode"):
        certify(part, *images, 0.5)
    part.eval()[1].train()
    with pytest.raises(ValueError, match="evaluation mode"):
        certify(part, *images, 0.5)
    with pytest.raises(ValueError, match="evaluation mode"):
        certify(lenet, *images, 0.5, quick=part)


@pytest.mark.parametrize(
    "drift",
    [lambda z, out: out - out.mean(0), lambda z, out: out + torch.randn_like(out)],
    ids=["the batch", "chance"],
)
def test_a_network_that_is_no_function_of_the_image_is_refused(lenet, images, drift):
    with pytest.raises(ValueError, match="batch or chance"):
        certify(lambda z: drift(z, 10 * lenet(z)), *images, 0.5)


class Follows(nn.Module):
    """A network that takes away the mean of what it saw, which moves by a thousandth each time."""

    def __init__(self, rest, name):
        super().__init__()
        self.rest, self.name = rest, name
        self.register_buffer("seen", torch.tensor(0.3), persistent=name == "buffer")
        self.weight = nn.Parameter(torch.tensor(0.3))
        self.eval()

    def forward(self, x):
        moved = self.weight if self.name == "parameter" else self.seen
        moved.mul_(0.999).add_(0.001 * x.mean())
        return self.rest(x - moved)


@pytest.mark.parametrize("name", ["buffer", "unsaved buffer", "parameter"])
def test_a_network_that_moves_slowly_in_evaluation_is_refused(lenet, images, name):
    """So slowly that its outputs agree to three digits, and by much over thousands of draws."""
    x = images[0][:2]
    network = Follows(lenet, name)
    with torch.inference_mode():
        assert torch.allclose(network(x), network(torch.cat([x, x + 1]))[:2], rtol=1e-2, atol=1e-2)
    with pytest.raises(ValueError, match="parameters and buffers must not change"):
        certify(network, x, images[1][:2], 0.5)
    with pytest.raises(ValueError, match="parameters and buffers must not change"):
        certify(lenet, x, images[1][:2], 0.5, quick=network)


class BatchStatistics(nn.Module):
    """A network with batch norm that keeps no running statistics, in evaluation mode."""

    def __init__(self, rest):
        super().__init__()
        self.norm, self.rest = nn.BatchNorm2d(1, track_running_stats=False), rest
        self.eval()

    def forward(self, x):
        return 10 * self.rest(self.norm(x))


@pytest.mark.parametrize("points", [1, 4])
def test_a_batch_of_equal_points_does_not_hide_what_depends_on_it(lenet, images, points):
    x = images[0][:1].expand(points, -1, -1, -1)
    with pytest.raises(ValueError, match="batch or chance"):
        certify(BatchStatistics(lenet), x, images[1][:1].expand(points), 0.5, n=50)


def seeded(lenet):
    """Dropout under a seed of its own: a mask for each place in the batch, always the same."""

    def answer(z):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return lenet(nn.functional.dropout(z, 0.7, training=True))

    return answer


HIDDEN = {
    "a softmax": lambda lenet: lambda z: BatchStatistics(lenet)(z).softmax(1),
    "small logits": lambda lenet: lambda z: BatchStatistics(lenet)(z) / 1000,
    "far from zero": lambda lenet: lambda z: BatchStatistics(lenet)(z) - 1000,
    "few images": lambda lenet: (
        lambda z: BatchStatistics(lenet)(z) if len(z) >= 16 else 10 * lenet(z)
    ),
    "a seed of its own": seeded,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_depends_on_the_batch_is_found_however_it_is_hidden(lenet, images, name):
    with pytest.raises(ValueError, match="batch or chance"):
        certify(HIDDEN[name](lenet), *images, 0.5, n=50)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_a_function_of_the_image_is_certified_at_any_scale(lenet, images, scale):
    rows = certify(lambda z: scale * lenet(z) + 100 * scale, *images, 0.5, n=50)
    pd.testing.assert_frame_equal(rows, certify(lenet, *images, 0.5, n=50))


def test_what_changes_layers_from_outside_is_found(lenet, images, monkeypatch):
    """The affine first layers are passed once, if they are what their types say."""
    hook = nn.modules.module.register_module_forward_hook(
        lambda layer, inputs, output: output.clamp(max=0.1) if type(layer) is nn.Conv2d else None
    )
    try:
        with pytest.raises(ValueError, match="must act as its layers say"):
            certify(lenet, *images, 0.5, n=50)
        certify(lambda z: lenet(z), *images, 0.5, n=50)
    finally:
        hook.remove()
    plain = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: plain(self, x).clamp(max=0.1))
    with pytest.raises(ValueError, match="must act as its layers say"):
        certify(lenet, *images, 0.5, n=50)


class Largest(nn.Module):
    """A network that divides by the largest input so far, and has seen 2 before."""

    def __init__(self, rest):
        super().__init__()
        self.rest = rest
        self.register_buffer("most", torch.tensor(4.0))
        self.eval()

    def forward(self, x):
        self.most.copy_(torch.maximum(self.most, x.max()))
        return self.rest(x * 4 / self.most)


def test_a_network_that_noise_moves_is_refused(lenet, images):
    """Neither the points nor the noise of the trial are so large."""
    with pytest.raises(ValueError, match="parameters and buffers must not change"):
        certify(Largest(lenet), *images, 2.0, n=50)


def test_a_network_that_writes_into_its_input_leaves_the_points_as_they_are(lenet, images):
    x, y = images[0].clone(), images[1]
    rows = certify(lambda z: lenet(z.round_()), x, y, 0.5, n=50)
    assert x.equal(images[0])
    expected = certify(lambda z: lenet(z.round()), x, y, 0.5, n=50)
    pd.testing.assert_frame_equal(rows, expected)


def test_autocast_changes_no_vote(lenet, images):
    with torch.autocast("cpu", torch.bfloat16):
        rows = certify(lenet, *images, 0.5, n=N, n0=30)
    pd.testing.assert_frame_equal(rows, certify(lenet, *images, 0.5, n=N, n0=30))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_points_may_lie_in_memory_as_they_like(lenet, images, layout):
    x = images[0].transpose(2, 3).contiguous(memory_format=layout).transpose(2, 3)
    rows = certify(lenet, x, images[1], 0.5, n=50)
    pd.testing.assert_frame_equal(rows, certify(lenet, *images, 0.5, n=50))


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("n", 9, "n must be at least 10 at alpha = 0.001"),
        ("n", 0, "n must be at least 10"),
        ("n0", 0, "n0 must be at least 1, not 0"),
        ("alpha", 0.0, "alpha must be between 0 and 1"),
        ("alpha", 1.0, "alpha must be between 0 and 1"),
        ("alpha", float("nan"), "alpha must be between 0 and 1"),
        ("radii", [], "radii must be one or more numbers, 0 or above"),
        ("radii", [0.5, -1.0], "radii must be one or more numbers, 0 or above"),
        ("radii", [float("nan")], "radii must be one or more numbers, 0 or above"),
    ],
)
def test_impossible_draws_are_refused(lenet, images, name, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        certify(lenet, *images, 0.5, **{name: value})


def test_impossible_noise_and_labels_are_refused(lenet, images):
    x, y = images
    for sigma in (0.0, -0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="sigma must be a number above 0"):
            certify(lenet, x, y, sigma)
    with pytest.raises(ValueError, match="must be of shape .5,., a label for each point"):
        certify(lenet, x, y[:3], 0.5)


def test_noise_is_drawn_in_double_precision():
    """Single precision makes a normal from 24 bits: its values lie on few points near 0."""
    (block,) = c.noise_blocks((50,), 0.5, DRAWS, (3, 1), "cpu")
    exact = torch.empty(DRAWS, 50, dtype=torch.float64)
    exact.normal_(0, 0.5, generator=torch.Generator().manual_seed(7))
    assert block.dtype == torch.float32 and block.equal(exact.float())


# --- several looks, and a coin ---


def test_points_stop_where_more_draws_change_nothing(lenet, images):
    x, y = at_distance(0.05, 0.5, 1.2, -0.4), torch.ones(4, dtype=torch.long)
    rows = certify(linear, x, y, SIGMA, n=16_000, radii=[0.0, 0.3, 0.6], classes=2)
    whole = certify(linear, x, y, SIGMA, n=16_000, classes=2)
    assert rows["n"].max() < 16_000
    assert (rows["looks"] == 5).all() and (whole["looks"] == 1).all()
    reach = [(table["radius"].to_numpy()[:, None] >= [1e-9, 0.3, 0.6]) for table in (rows, whole)]
    assert (reach[0] == reach[1]).all()
    p = k_n.lower_bound(k_n.wins(rows), rows["n"], 0.001 / 5)
    np.testing.assert_allclose(rows["p_lower"], p)


def test_an_early_look_keeps_the_first_draws(lenet, images):
    """A point that goes on to the end has the counts of a run with one look."""
    rows = certify(
        linear, at_distance(0.3), torch.ones(1).long(), SIGMA, n=3500, radii=[0.3], classes=2
    )
    whole = certify(linear, at_distance(0.3), torch.ones(1).long(), SIGMA, n=3500, classes=2)
    assert rows["n"].item() == 3500 and (counts(rows) == counts(whole)).all()


def test_randomised_rows_name_their_coin_and_share_it(lenet, images, rows):
    table = certify(lenet, *images, 0.5, n=N, n0=30, randomised=True)
    assert (counts(table) == counts(rows)).all() and (rows["u"] == 1).all()
    assert table["u"].between(0.1, 1).all() and table["u"].nunique() > 1
    assert (table["p_lower"] >= rows["p_lower"]).all() and (
        table["p_lower"] > rows["p_lower"]
    ).any()
    other = make_model("lenet", (1, 28, 28), 10, 1).eval()
    assert certify(other, *images, 0.5, n=50, randomised=True)["u"].equals(table["u"])
    pd.testing.assert_frame_equal(recertify(table), table)


# --- a quick network before another ---


class Coarse(nn.Module):
    """The same network, its logits rounded to a grid: right only where the winner leads."""

    def __init__(self, network, step):
        super().__init__()
        self.network, self.step = network, step

    def forward(self, x):
        return (self.network(x) / self.step).round() * self.step


def test_a_quick_network_votes_only_where_it_is_sure(lenet, images, rows):
    quick = Coarse(lenet, 1.0).eval()
    alone = certify(lenet, *images, 0.5, n=N, n0=30, quick=quick)
    assert (alone["precision"] == "int8").all()
    assert np.abs(counts(alone) - counts(rows)).sum() > 100  # it ties often
    pair = certify(lenet, *images, 0.5, n=N, n0=30, quick=quick, margin=1.01)
    assert (pair["precision"] == "mixed").all()
    assert np.abs(counts(pair) - counts(rows)).sum() <= 2
    for batch in (77, 3000):
        again = certify(lenet, *images, 0.5, n=N, n0=30, quick=quick, margin=1.01, batch=batch)
        assert np.abs(counts(pair) - counts(again)).sum() <= 2


def test_the_pair_is_what_its_definition_says(lenet, images):
    other = make_model("lenet", (1, 28, 28), 10, 1).eval()
    x, noise, margin = images[0][:1], torch.randn(300, 1, 28, 28) / 2, 0.05
    with torch.inference_mode():
        first, second = other(x + noise), lenet(x + noise)
        top = first.topk(2).values
        sure = top[:, 0] - top[:, 1] > margin
        winner = torch.where(sure, first.argmax(1), second.argmax(1))
        votes = Votes(lenet, x, quick=other, margin=margin)(noise, torch.arange(1))
    assert 10 < sure.sum() < 290 and votes[0].equal(winner.bincount(minlength=10))


def test_a_pair_that_breaks_under_noise_is_refused(lenet, images):
    def broken(z):
        return torch.where(z.amax((1, 2, 3), keepdim=False)[:, None] > 1.5, torch.nan, lenet(z))

    with pytest.raises(ValueError, match="under noise are not finite"):
        certify(broken, *images, 0.5, n=200, quick=lenet, margin=1e9)


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
    plain = certify(nn.Sequential(*model).eval(), *images, 0.5, n=300, n0=30)
    assert np.abs(counts(rows) - counts(plain)).sum() > 100  # another network


def hooked(model):
    """The whole network, with a hook on its first layer that turns the votes."""
    model[1].register_forward_hook(lambda layer, arguments, output: -output)
    return model


def patched(model):
    forward = model[1].forward
    model[1].forward = lambda z: -forward(z)
    return model


@pytest.mark.parametrize("change", [hooked, patched])
def test_a_changed_layer_is_certified_as_it_is(images, change):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Tanh()).eval()
    plain = certify(model, *images, 0.5, n=300, n0=30)
    rows = certify(change(model), *images, 0.5, n=300, n0=30)
    whole = certify(lambda z: model(z), *images, 0.5, n=300, n0=30)
    assert np.abs(counts(rows) - counts(whole)).sum() <= 2
    assert np.abs(counts(rows) - counts(plain)).sum() > 100
