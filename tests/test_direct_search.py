"""Direct search: the attack's budget, smooth patterns, and the best pattern where it is known."""

import math
from dataclasses import replace

import pytest
import torch
from test_attack import problem_of

from pacd import direct_search as ds
from pacd.data import Splits
from study.setup import chosen_attack, trainer


@pytest.fixture
def few(digits):
    """Every eighth training digit."""
    return replace(digits, x_train=digits.x_train[::8], y_train=digits.y_train[::8])


def craft(splits, steps=4, seed=0, **budget):
    attack = chosen_attack("direct_search", {"epochs": 1, "draws": 2})
    return attack(
        problem_of(splits, trainer("gaussian", {}, 0.5), **budget), steps=steps, seed=seed
    )


def test_poison_stays_in_the_ball_and_in_its_class(few):
    index, images, trace = craft(few, fraction=0.5)
    change = images - few.x_train[index]
    assert (
        len(index) == round(0.5 * (few.y_train == 8).sum().item())
        and (few.y_train[index] == 8).all()
    )
    assert images.min() >= 0 and images.max() <= 1 and 0.09 < change.abs().max() <= 0.1 + 6e-8
    assert len(trace) == 4 + 2 and all(math.isfinite(t["soft_radius"]) for t in trace)
    assert torch.equal(craft(few, eps_linf=0.0, steps=1)[1], few.x_train[few.y_train == 8])


def test_poison_is_a_function_of_its_seed_and_of_the_validation_images(few):
    first, again, other = (craft(few, seed=seed, steps=2)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    unreadable = replace(few, x_val=torch.full_like(few.x_val, float("nan")))
    assert all(math.isnan(t["soft_radius"]) for t in craft(unreadable, steps=2)[2])


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"epoch": 1}, "unknown parameter 'epoch'; did you mean 'epochs'"),
        ({"strokes": 1}, "strokes must be True or False, not 1"),
        ({"order": 0}, "order must be a whole number from 1 to a billion, not 0"),
        ({"epochs": 1.5}, "epochs must be a whole number from 1 to a billion, not 1.5"),
        ({"lr": float("inf")}, "lr must be a number above 0, at most a million, not inf"),
        (
            {"temperature": "hot"},
            "temperature must be a number above 0, at most a million, not 'hot'",
        ),
    ],
)
def test_a_wrong_option_is_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        chosen_attack("direct_search", options)


def test_patterns_for_colour_have_a_sign_for_each_channel():
    """The same patterns otherwise, as the signs are drawn last."""
    x, y = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
    problem = problem_of(Splits(x, y, x, y, x, y), None)
    found = {}
    for colour in (False, True):
        generator = torch.Generator().manual_seed(0)
        method = ds.Search(colour=colour)
        found[colour] = ds.candidates(problem, x, method, 20, generator)
    assert all(pattern.shape == (1, 1, 8, 8) for pattern in found[False])
    signs = [(a * b).flatten(2) for a, b in zip(found[False], found[True])]
    assert all((sign == sign[..., :1]).all() and sign.shape == (1, 3, 64) for sign in signs)
    assert len({tuple(sign[0, :, 0].tolist()) for sign in signs}) > 4


@pytest.mark.parametrize("order, low, high", [(2, 0.93, 1.0), (3, 0.88, 0.99), (14, 0.5, 0.85)])
def test_patterns_of_low_order_are_smooth(order, low, high):
    generator = torch.Generator().manual_seed(0)
    patterns = torch.cat([ds.smooth_signs((1, 28, 28), order, generator) for _ in range(50)])
    assert (patterns.abs() == 1).all() and not torch.equal(patterns[0], patterns[1])
    agree = (patterns[..., 1:] == patterns[..., :-1]).float().mean() / 2 + (
        patterns[:, :, 1:] == patterns[:, :, :-1]
    ).float().mean() / 2
    assert low < agree < high


def test_every_second_pattern_is_for_the_strokes(few, monkeypatch):
    """It brightens the background of every image, and keeps its own signs on the strokes.

    The first patterns are as without.
    """

    def trained_on(strokes):
        """The class's images in the first round, one batch for each of the four patterns."""
        images = []
        monkeypatch.setattr(
            ds, "train", lambda model, x, y, *rest, **setting: images.append(x[y == 8])
        )
        search = chosen_attack("direct_search", {"draws": 1, "strokes": strokes})
        search(problem_of(few, None), steps=4)
        return images[:4]

    clean, pairs = few.x_train[few.y_train == 8], zip(trained_on(True), trained_on(False))
    background = clean <= 0.5
    for i, (separate, joint) in enumerate(pairs):
        assert torch.equal(separate[~background], joint[~background])
        expected = clean + 0.1 if i % 2 else joint
        assert torch.allclose(separate[background], expected[background], atol=1e-6)
        assert torch.equal(separate, joint) == (i % 2 == 0)


@pytest.mark.parametrize("steps", [1, 2, 7, 32])
def test_the_best_pattern_is_kept(few, monkeypatch, steps):
    """Victims that learn nothing but the poison's mean brightness; the darkest is the best."""
    seen = []

    def train(model, x, y, loss, *, seed, **setting):
        model.append(x[y == 8].mean().item())
        seen.append((seed, model[0]))

    model = type("Model", (list,), {"eval": lambda self: None})
    monkeypatch.setattr(ds, "train", train)
    monkeypatch.setattr(ds, "soft_radius", lambda model, x, *rest: torch.full((len(x),), model[0]))
    problem = problem_of(few, None)._replace(make_model=lambda seed: model())
    index, images, trace = ds.direct_search(problem, method=ds.Search(), steps=steps)
    first = [brightness for seed, brightness in seen if seed == seen[0][0]]
    assert len(first) == steps == len(set(first)) and images.mean().item() == pytest.approx(
        min(first), abs=1e-6
    )
    rounds, left = [], steps
    for _ in range(max(1, math.ceil(math.log2(steps)))):
        rounds.append(left)
        left = math.ceil(left / 2)
    assert (
        left == 1 and [[t["round"] for t in trace].count(r) for r in range(len(rounds))] == rounds
    )
    assert len({seed for seed, _ in seen}) == len(
        rounds
    )  # each round another victim, the same for all


def test_radii_of_all_rounds_count(few, monkeypatch):
    """The second pattern has the least sum, 0.1 + 0.5, and the third the least last radius."""
    script, images = iter([1.0, 0.1, 0.5, 2.0, 0.5, 0.2]), []
    monkeypatch.setattr(ds, "train", lambda model, x, y, *rest, **setting: images.append(x[y == 8]))
    monkeypatch.setattr(ds, "soft_radius", lambda *rest: torch.tensor([next(script)]))
    _, kept, trace = ds.direct_search(problem_of(few, None), method=ds.Search(), steps=4)
    assert [t["soft_radius"] for t in trace] == pytest.approx([1.0, 0.1, 0.5, 2.0, 0.5, 0.2])
    assert torch.equal(kept, images[1]) and not torch.equal(kept, images[2])


def test_validation_images_of_other_classes_do_not_matter(few):
    hidden = few.x_val.clone()
    hidden[few.y_val != 8] = torch.nan
    (line,) = craft(replace(few, x_val=hidden), steps=1)[2]
    assert math.isfinite(line["soft_radius"])
