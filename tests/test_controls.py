"""The control ladder: the attack's budget, no bilevel step, and answers known beforehand."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_attack import TINY, linear, planted, problem_of

from pacd import controls, losses
from pacd.attack import Problem
from pacd.data import Splits
from pacd.train import train
from study.settings import CONTROLS
from study.setup import chosen_attack


def never(*batch, **rest):
    raise AssertionError("a control called the crafting trainer's loss")


def craft(name, splits, momentum=0.9, steps=8, seed=0, **budget):
    """A control of the digits; no control looks at the crafting trainer's loss."""
    options = {**TINY, "momentum": momentum} if name in controls.LEARNED else {}
    problem = problem_of(splits, never, **budget)
    return chosen_attack(name, options)(problem, steps=steps, seed=seed)


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_have_the_attacks_budget(digits, name):
    index, images, trace = craft(name, digits, fraction=0.25)
    change = images - digits.x_train[index]
    assert len(index) == 100 and (digits.y_train[index] == 8).all()
    assert images.min() >= 0 and images.max() <= 1 and 0.09 < change.abs().max() <= 0.1 + 6e-8
    assert len(trace) == (8 if name in controls.LEARNED else 0)
    assert torch.equal(
        craft(name, digits, eps_linf=0.0, steps=1)[1], digits.x_train[digits.y_train == 8]
    )


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_are_functions_of_their_seed_and_use_no_validation_data(digits, name):
    unreadable = replace(digits, x_val=torch.full_like(digits.x_val, float("nan")))
    first, again = craft(name, digits, steps=2)[1], craft(name, unreadable, steps=2)[1]
    assert torch.equal(first, again)
    if name in (
        "random_sign",
        "random_uniform",
        "low_frequency",
        *controls.LEARNED,
    ):  # the others draw nothing
        assert not torch.equal(first, craft(name, digits, steps=2, seed=1)[1])


def pattern(name, splits, index=None, seed=0):
    """The change that a fixed control asks for, before it is cut to pixels' range."""
    return controls.PATTERNS[name](splits, index, 0.1, torch.Generator().manual_seed(seed))


def test_the_uniform_pattern_brightens(digits):
    torch.testing.assert_close(pattern("uniform", digits), torch.full((1, 1, 28, 28), 0.1))


def test_a_tint_has_a_sign_for_each_channel():
    x, y = torch.zeros(2, 3, 4, 6), torch.zeros(2, dtype=torch.int64)
    colour = Splits(x, y, x, y, x, y)
    change = controls.tint(colour, None, 0.1, None, signs="-++")
    assert change.flatten().tolist() == pytest.approx([-0.1, 0.1, 0.1])
    for signs in ("+-", "+-0"):
        with pytest.raises(ValueError, match="signs must be a . or - for each of 3 channels"):
            controls.tint(colour, None, 0.1, None, signs=signs)


def test_stripes_are_rows_bright_first(digits):
    change = pattern("stripes", digits).expand(1, 1, 28, 28)[0, 0]
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1, 1]).repeat_interleave(4)
    torch.testing.assert_close(change, 0.1 * signs[:, None].expand(28, 28))


def test_the_checkerboard_has_sixteen_squares(digits):
    """Of 7 pixels a side, bright first."""
    board = pattern("checkerboard", digits).expand(1, 1, 28, 28)[0, 0]
    signs = torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]] * 2)
    torch.testing.assert_close(board, 0.1 * signs.repeat_interleave(7, 0).repeat_interleave(7, 1))


def test_random_uniform_fills_the_ball_for_each_image_apart(digits):
    change = pattern("random_uniform", digits, torch.arange(50)).flatten(1)
    assert change.shape == (50, 784) and change.min() < -0.0999 and 0.0999 < change.max() <= 0.1
    assert abs(change.mean()) < 5 * 0.1 / (3 * 50 * 784) ** 0.5
    assert len(change.unique(dim=0)) == 50


@pytest.mark.parametrize("name", controls.LEARNED)
def test_learned_controls_lower_the_loss_of_the_trainer_in_their_name(digits, name):
    """Noise matters to all but the unlearnable examples."""
    weak, strong = (craft(name, digits, steps=2, sigma=sigma)[1] for sigma in (0.01, 1.0))
    assert torch.equal(weak, strong) == (name == "error_minimising")


@pytest.mark.parametrize(
    "name, low, high", [("random_sign", 0.45, 0.55), ("low_frequency", 0.85, 0.99)]
)
def test_neighbouring_pixels_of_a_low_frequency_pattern_agree(digits, name, low, high):
    agree = []
    for seed in range(5):
        signs = pattern(name, digits, seed=seed)[0, 0]
        assert signs.shape == (28, 28) and torch.allclose(signs.abs(), torch.tensor(0.1))
        agree += [
            (signs[1:] == signs[:-1]).float().mean().item(),
            (signs[:, 1:] == signs[:, :-1]).float().mean().item(),
        ]
    assert low < sum(agree) / len(agree) < high


def test_mean_difference_is_the_sign_of_what_tells_the_class_apart():
    """In the planted set class 1 is 0.2 brighter in pixel 0, and pixel 1 tells nothing."""
    for target_class, sign in ((1, 1), (0, -1)):
        problem = Problem(planted(), None, None, 0.1, target_class, 0.1)
        index, images, _ = chosen_attack("mean_difference", {})(problem)
        change = (images - planted().x_train[index]).view(-1, 2)
        torch.testing.assert_close(change, torch.tensor([[sign * 0.1, 0.0]]).expand(100, 2))


LEARNED_STEPS = {
    "restart": 40,
    "warmup": 100,
    "inner_lr": 0.05,
    "clean_batch": 100,
    "hyper_batch": 100,
    "blur": 0.0,
}


@pytest.mark.parametrize("name", controls.LEARNED)
def test_learned_controls_make_the_class_easier_to_learn(name):
    """Every image goes to the end of the ball in pixel 0, which tells the classes apart.

    Pixel 1 becomes one more tell-tale. Fresh models then reach a lower loss on the class, and a
    higher one if the poison is taken backwards.
    """
    splits = planted()
    problem = Problem(splits, linear, None, 0.1, 1, 0.1)
    index, images, trace = chosen_attack(name, LEARNED_STEPS)(problem, steps=40)
    change = (images - splits.x_train[index]).view(-1, 2)
    torch.testing.assert_close(change[:, 0], torch.full((100,), 0.1))
    assert change[:, 1].sign().sum().abs() == 100

    def loss_of_fresh_model(change):
        x = splits.x_train.clone()
        x[index] += change.view(-1, 1, 1, 2)
        model = linear(7)
        train(
            model,
            x,
            splits.y_train,
            partial(losses.standard, sigma=0),
            epochs=60,
            batch=100,
            lr=0.05,
        )
        return F.cross_entropy(model(x[index]), splits.y_train[index]).item()

    easy, clean, hard = (loss_of_fresh_model(sign * change) for sign in (1, 0, -1))
    assert (
        trace[-1]["training_loss"] < trace[0]["training_loss"]
        and easy < 0.7 * clean
        and hard > 1.3 * clean
    )


def test_learned_pattern_is_one_pattern_clipped_to_pixel_range(digits):
    """Without momentum the pattern goes to and fro.

    Black pixels must not forget what they could not follow.
    """
    index, images, _ = craft("class_wise_learned", digits, momentum=0.0, steps=20)
    clean, change = digits.x_train[index], images - digits.x_train[index]
    brighter = change.amax(
        0
    )  # an image away from 0 and 1 shows the pattern whole; black and white ones show a part
    darker = change.amin(0)
    pattern = torch.where(brighter > 6e-8, brighter, darker)
    torch.testing.assert_close(images, (clean + pattern).clamp(0, 1))


def test_options_of_controls_are_checked():
    with pytest.raises(
        ValueError,
        match="^attack_options of low_frequency: unknown parameter 'cels'; did you mean 'cells'",
    ):
        chosen_attack("low_frequency", {"cels": 2})
    with pytest.raises(
        ValueError, match="^attack_options of error_minimising: unknown parameter 'stpe'"
    ):
        chosen_attack("error_minimising", {"stpe": 1})
    with pytest.raises(
        ValueError,
        match="^attack_options of the control 'error_minimising' may not hold 'objective'",
    ):
        chosen_attack("error_minimising", {"objective": "radius"})
