"""Other people's rungs of the ladder: the study's budget, and what is known of each beforehand."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate
from test_attack import linear, planted, problem_of
from test_notebooks import TINY, VICTIM, papermill, victim
from torch import nn

from extras import unlearnable
from pacd import losses
from pacd.attack import Problem
from pacd.data import Splits
from pacd.poison_file import PoisonError
from pacd.train import train
from study import named
from study.setup import chosen_attack

PATTERNS = "separable_patches", "autoregressive", "linear_surrogate"
# Those of the ladder, with options that make them cheap.
RUNGS = {**dict.fromkeys(PATTERNS, {}), "stable_error_minimising": {"warmup": 1, "ascents": 1}}
RUNGS["linear_surrogate"] = {"epochs": 1, "steps": 4}


def never(*batch, **rest):
    raise AssertionError("a rung of the ladder called the crafting trainer's loss")


def craft(name, splits, seed=0, steps=2, **budget):
    """Poison of the digits' class 8; none of the rungs looks at the crafting trainer's loss."""
    attack = chosen_attack(f"extras.unlearnable:{name}", RUNGS.get(name, {}))
    problem = problem_of(splits, never, **budget)
    return attack(problem, steps=steps, seed=seed, checkpoint=Noted())


class Noted:
    """A checkpoint that keeps nothing, and notes how often it was asked."""

    def __init__(self):
        self.kept = 0

    def resume(self, parts, progress):
        return progress

    def keep(self, parts, progress, last=False):
        self.kept += 1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def colour():
    """Thirty random images of 3 x 10 x 12 pixels, of three classes, away from 0 and 1."""
    x = 0.3 + 0.4 * torch.rand(30, 3, 10, 12, generator=generator())
    y = torch.arange(30) % 3
    return Splits(x, y, x, y, x, y)


def test_each_has_a_form_that_the_study_takes():
    for name in PATTERNS:
        assert named.fits(getattr(unlearnable, name), named.PATTERN)
    for attack in (unlearnable.stable_error_minimising, unlearnable.convolution):
        assert named.fits(attack, named.ATTACK)


@pytest.mark.parametrize("name", RUNGS)
def test_rungs_have_the_ladders_budget(digits, name):
    """They reach the border of the ball, in a quarter of the class and nowhere else."""
    index, images, _ = craft(name, digits, fraction=0.25)
    change = images - digits.x_train[index]
    assert len(index) == 100 and (digits.y_train[index] == 8).all()
    assert images.min() >= 0 and images.max() <= 1
    reach = 0.04 if name == "stable_error_minimising" else 0.0999  # two steps of 0.02 each
    assert reach - 1e-6 <= change.abs().max() <= 0.1 + 6e-8


@pytest.mark.parametrize("name", RUNGS)
def test_rungs_are_functions_of_their_seed_and_use_no_validation_data(digits, name):
    unreadable = replace(digits, x_val=torch.full_like(digits.x_val, float("nan")))
    first, again, other = (
        craft(name, splits, seed, steps=1)[1]
        for splits, seed in ((digits, 0), (unreadable, 0), (digits, 1))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("name", PATTERNS)
def test_changes_of_colour_images_fill_all_channels(colour, name):
    index = torch.arange(0, 30, 3)
    change = getattr(unlearnable, name)(colour, index, 0.1, generator())
    change = change.expand(10, 3, 10, 12)
    # Of noise that is scaled by image one channel holds the largest entry; none is idle.
    assert (change.abs().amax((0, 2, 3)) > 0.05).all() and change.abs().max() <= 0.1 + 6e-8
    assert not torch.equal(change[:, 0], change[:, 1])


# ---- separable patches ----


def test_patches_are_squares_of_one_sign_each(colour):
    """Of 5 pixels: 2 x 3 squares of each channel, the last column of them cut at 12 pixels."""
    change = unlearnable.separable_patches(colour, None, 0.1, generator(), side=5)
    assert change.shape == (1, 3, 10, 12)
    signs = torch.randn(1, 3, 2, 3, generator=generator()).sign()
    by_hand = torch.from_numpy(np.kron(signs.numpy(), np.ones((5, 5), dtype=np.float32)))
    torch.testing.assert_close(change, 0.1 * by_hand[..., :12])


# ---- autoregressive noise ----


def windows(noise):
    """The eight pixels before each pixel of an image (H, W), (n, 8), and that pixel, (n,)."""
    parts = noise.double().unfold(0, 3, 1).unfold(1, 3, 1).flatten(2).flatten(0, 1)
    return parts[:, :8], parts[:, 8]


def test_the_filter_of_one_image_annihilates_the_noise_of_another(digits):
    """Weights that least squares finds in one image sum to 1, so the filter with -1 sums to 0."""
    index = (digits.y_train == 8).nonzero().flatten()[:3]
    change = unlearnable.autoregressive(digits, index, 0.1, generator())
    assert change.shape == (3, 1, 28, 28) and len(change.flatten(1).unique(dim=0)) == 3
    torch.testing.assert_close(change.abs().amax((1, 2, 3)), torch.full((3,), 0.1))
    before, pixel = windows(change[0, 0])
    weights = torch.linalg.lstsq(before, pixel).solution
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    before, pixel = windows(change[1, 0])
    assert pixel.std() > 0.005 and (before @ weights - pixel).abs().max() < 1e-5
    other = unlearnable.autoregressive(digits, index, 0.1, generator(1))
    before, pixel = windows(other[0, 0])
    assert (before @ weights - pixel).abs().max() > 0.01  # of another draw of the class


def test_autoregressive_noise_does_not_grow_towards_one_corner(digits):
    """Scaled by its largest entry, noise that grows would be 0 all but there."""
    index = (digits.y_train == 8).nonzero().flatten()[:50]
    for seed in range(5):
        change = unlearnable.autoregressive(digits, index, 0.1, generator(seed)).abs()
        first, last = change[:, :, :9, :9].mean(), change[:, :, -9:, -9:].mean()
        assert 0.1 < last / first < 10 and change.mean() > 0.01


# ---- the linear surrogate ----


def test_the_linear_surrogate_moves_what_tells_the_class_apart():
    """In the planted set class 1 is brighter in pixel 0, and pixel 1 serves as the offset."""
    for target_class, sign in ((1, 1), (0, -1)):
        problem = Problem(planted(), None, None, 0.1, target_class, 0.1)
        attack = chosen_attack("extras.unlearnable:linear_surrogate", {})
        index, images, _ = attack(problem, seed=0)
        change = (images - planted().x_train[index]).view(-1, 2)
        wanted = torch.tensor([[sign * 0.1, -sign * 0.1]])
        torch.testing.assert_close(change, wanted.expand(100, 2))


def test_another_linear_classifier_has_less_loss_on_its_poison(digits):
    """One with an offset and other batches; the poison taken backwards is harder."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(model[1].weight)
    loss = partial(losses.standard, sigma=0)
    train(model, digits.x_train, digits.y_train, loss, epochs=3, batch=100, lr=1e-3, seed=5)
    index, images, _ = craft("linear_surrogate", digits)
    clean, y = digits.x_train[index], digits.y_train[index]
    easy, plain, hard = (
        F.cross_entropy(model(x), y).item() for x in (images, clean, 2 * clean - images)
    )
    assert easy < 0.7 * plain and hard > 1.3 * plain


# ---- stable error-minimising noise ----


def test_the_stable_model_is_attacked_and_its_noise_is_not():
    x, y = planted().x_train[:8], planted().y_train[:8]
    model = linear(3)
    options = {"sigma": 0.5, "radius": 0.3, "ascents": 2}
    below = unlearnable._adversarial_below(model, x, y, generator=generator(), **options)
    attacked = losses.smoothadv(model, x, y, sigma=0.5, generator=generator(), steps=2, radius=0.3)
    assert below.item() == attacked.item()
    u = x.clone().requires_grad_()
    above = unlearnable._adversarial_below(model, u, y, generator=generator(), **options)
    random = losses.gaussian(model, x, y, sigma=0.5, generator=generator())
    assert above.item() == random.item() < below.item()


def test_stable_noise_makes_the_class_easier_to_learn():
    """Every image goes to the end of the ball in pixel 0; a fresh model then has less loss."""
    splits, noted = planted(), Noted()

    def untrained(seed):
        model = linear(seed)
        nn.init.zeros_(model[1].weight)  # or a few steps of training would not turn its sign
        return model

    problem = Problem(splits, untrained, never, 0.1, 1, 0.1)
    options = {"warmup": 100, "radius": 0.05}
    attack = chosen_attack("extras.unlearnable:stable_error_minimising", options)
    index, images, trace = attack(problem, steps=40, seed=0, checkpoint=noted)
    change = (images - splits.x_train[index]).view(-1, 2)
    torch.testing.assert_close(change[:, 0], torch.full((100,), 0.1))
    assert trace[-1]["training_loss"] < trace[0]["training_loss"] and len(trace) == 40
    assert noted.kept == 1  # at the one new model of 40 steps

    def loss_of_fresh_model(images):
        x, model = splits.x_train.index_copy(0, index, images), linear(7)
        recipe = {"epochs": 60, "batch": 100, "lr": 0.05}
        train(model, x, splits.y_train, partial(losses.standard, sigma=0), **recipe)
        return F.cross_entropy(model(x[index]), splits.y_train[index]).item()

    assert loss_of_fresh_model(images) < 0.7 * loss_of_fresh_model(splits.x_train[index])


# ---- convolution ----


@pytest.mark.parametrize("reach", [1, 2])
def test_a_convolution_is_scipys(colour, reach):
    """Zeros outside, one filter for all channels, and the largest value of the image becomes 1."""
    problem = Problem(colour, None, never, 0.1, 2, 1.0)
    attack = chosen_attack("extras.unlearnable:convolution", {"reach": reach, "blur": 0.4})
    index, images, trace = attack(problem, steps=1, seed=3, checkpoint=None)
    assert trace == [] and (colour.y_train[index] == 2).all() and len(index) == 10
    drawn = generator(3)
    problem.poisoned_rows(drawn)
    side = 2 * reach + 1
    kernel = 0.4 * torch.rand(side, side, generator=drawn).numpy()
    kernel[reach, reach] = 1
    clean = colour.x_train[index[4]].numpy()
    by_hand = np.stack([correlate(channel, kernel, mode="constant") for channel in clean])
    np.testing.assert_allclose(images[4], by_hand / by_hand.max(), atol=1e-6)


def test_a_black_image_stays_black(colour):
    splits = replace(colour, x_train=torch.zeros_like(colour.x_train))
    problem = Problem(splits, None, never, 0.1, 2, 1.0)
    _, images, _ = unlearnable.convolution(problem, steps=1, seed=0, checkpoint=None)
    assert images.abs().max() == 0


def test_a_convolution_refuses_the_ladders_ball(digits):
    with pytest.raises(PoisonError, match="^eps_linf must be 1.0 for a convolution, .*, not 0.1: "):
        craft("convolution", digits)


def test_a_convolution_goes_through_both_notebooks(tmp_path):
    """Far outside the ball of the ladder, and inside the one that its manifest names."""
    told = {**TINY, "attack": "extras.unlearnable:convolution", "eps_linf": 1.0}
    done = papermill("poison", tmp_path, **told, poison_file=str(tmp_path / "p.npz"))
    assert done.returncode == 0, done.stderr[-2000:]
    options = {"poison_file": str(tmp_path / "p.npz"), "epochs": 1, "points": VICTIM["points"]}
    rows = victim(tmp_path, "rows.csv", **options)
    assert set(rows["attack"]) == {"extras.unlearnable:convolution"} and len(rows) == 12
    assert rows["linf"].iloc[0] > 0.3 and rows["eps_linf"].iloc[0] == 1.0
