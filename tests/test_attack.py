"""The attack keeps to its budget, and succeeds where success can be known."""

import math
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from pacd import attack, losses, poison_file
from pacd.data import Splits
from pacd.hypergradient import conjugate_gradient, hypergradient, matching
from pacd.models import make_model
from pacd.smoothing import blur
from pacd.train import train
from study.parameters import SettingsError
from study.results import write_poison
from study.setup import chosen_attack

TINY = {
    "clean_batch": 40,
    "poison_batch": 20,
    "val_batch": 20,
    "draws": 2,
    "warmup": 2,
    "inner_steps": 1,
    "restart": 2,
    "hyper_batch": 20,
}


def craft(splits, name="first_order", seed=0, steps=3, eps=0.1, **options):
    problem = problem_of(splits, partial(losses.gaussian, sigma=0.5), eps_linf=eps)
    return chosen_attack(name, {**TINY, **options})(problem, steps=steps, seed=seed)


def problem_of(splits, loss, eps_linf=0.1, sigma=0.5, **budget):
    """The digits' problem: LeNet, class 8."""
    make = partial(make_lenet, splits.shape)
    return attack.Problem(splits, make, loss, sigma, 8, eps_linf, **budget)


def make_lenet(shape, seed):
    return make_model("lenet", shape, 10, seed)


@pytest.mark.parametrize("name", attack.METHODS)
def test_poison_stays_in_the_ball_and_in_range_and_in_its_class(digits, name):
    index, images, trace = craft(
        digits, name, solve_batch=min(40, attack.METHODS[name].solve_batch)
    )
    change = (images - digits.x_train[index]).abs()
    assert images.min() >= 0 and images.max() <= 1
    assert 0 < change.max() <= 0.1 + 6e-8  # float32 rounding of x + eps
    assert (digits.y_train[index] == 8).all() and len(index) == 400
    assert len(trace) == 3 and all(
        t["residual"] >= 0 for t in trace if attack.METHODS[name].solver != "identity"
    )


@pytest.mark.parametrize("name", ["first_order", "accuracy", "gradient_matching"])
def test_poison_is_a_function_of_its_seed(digits, name):
    first, again, other = (craft(digits, name, seed=seed, steps=2)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_zero_eps_changes_nothing(digits):
    index, images, _ = craft(digits, eps=0.0)
    assert torch.equal(images, digits.x_train[index])


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"stpe": 1}, "unknown parameter 'stpe'; did you mean 'step'?"),
        ({"solver": "gc"}, "solver must be one of identity, cg, adam, neumann, matching, not 'gc'"),
        ({"objective": "acr"}, "objective must be one of radius, loss, training, not 'acr'"),
        ({"draws": 0}, "draws must be a whole number from 1 to a billion, not 0"),
        ({"restart": 1.5}, "restart must be a whole number from 1 to a billion, not 1.5"),
        ({"warmup": -1}, "warmup must be a whole number from 0 to a billion, not -1"),
        ({"step": "long"}, "step must be a number from 0 to a million, not 'long'"),
        (
            {"temperature": float("nan")},
            "temperature must be a number above 0, at most a million, not nan",
        ),
        ({"momentum": 1.0}, "momentum must be a number from 0 to below 1, not 1.0"),
        ({"class_wise": "yes"}, "class_wise must be True or False, not 'yes'"),
    ],
)
def test_an_impossible_option_is_refused(options, sentence):
    with pytest.raises(
        SettingsError, match="^attack_options of first_order: " + re.escape(sentence)
    ):
        chosen_attack("first_order", options)


@pytest.mark.parametrize("side, reach", [(28, 5), (5, 4), (1, 0)])
def test_blur_is_scipys_also_in_images_smaller_than_its_kernel(side, reach):
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(images.numpy(), 2.0, mode="mirror", radius=reach, axes=(2, 3))
    np.testing.assert_allclose(blur(images, 2.0), expected, atol=1e-6)


def test_projection_is_the_nearest_feasible_point():
    x, u = torch.tensor([0.0, 0.5, 0.98]), torch.tensor([-0.05, 0.7, 1.5])
    torch.testing.assert_close(attack.project(u, x, 0.1), torch.tensor([0.0, 0.6, 1.0]))


def planted(count=200):
    """Two pixels: pixel 0 tells the classes apart by 0.2, and pixel 1 is constant.

    So poison can turn pixel 1 into a shortcut.
    """
    g = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 2
    x = torch.stack(
        [0.4 + 0.2 * y + 0.02 * torch.randn(count, generator=g), torch.full((count,), 0.5)], 1
    ).view(count, 1, 1, 2)
    return Splits(x, y, x.clone(), y.clone(), x.clone(), y.clone())


def linear(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(2, 2))


class Watched(nn.Sequential):
    """A model that notes for each batch whether it trains, and the images."""

    def __init__(self, seed, notes):
        super().__init__(*linear(seed))
        self.notes = notes
        notes.append(seed)

    def forward(self, x):
        self.notes.append((self.training, x.detach()))
        return super().forward(x)


def watch(steps=5, splits=None, seed=3, fraction=1.0, **options):
    """What models and losses are given while the planted set is poisoned, in order."""
    notes, labels = [], []
    sizes = {"clean_batch": 7, "poison_batch": 5, "val_batch": 11, "draws": 3, "hyper_batch": 4}
    rhythm = {"inner_steps": 2, "warmup": 1, "restart": 2}
    method = attack.Method(**{**sizes, **rhythm, "solve_batch": 6, **options})

    def loss(model, x, y, *, generator, epoch=None):
        labels.append(y)
        return losses.standard(model, x, y, sigma=0, generator=generator)

    make = partial(Watched, notes=notes)
    problem = attack.Problem(splits or planted(), make, loss, 0.1, 1, 0.1, fraction)
    result = attack.poison(problem, method=method, steps=steps, seed=seed)
    return notes, labels, result


def test_models_start_afresh_on_seeds_of_their_own_and_warm_up():
    """A model for every two poison steps, with 1 + 2 and then 2 inner steps of its own."""
    notes, labels, _ = watch()
    assert [note for note in notes if isinstance(note, int)] == [3000, 3002, 3004]
    rhythm = ["".join("i" if len(y) == 12 else "h" for y in labels)]
    assert rhythm == ["iiih" + "iih" + "iiih" + "iih" + "iiih"]


def test_the_objective_looks_at_validation_images_in_evaluation_mode_and_nothing_else_does():
    """11 images under 3 draws; batch norm then neither learns from them nor mixes them."""
    notes, _, _ = watch()
    batches = [note for note in notes if not isinstance(note, int)]
    assert {len(x) for training, x in batches if not training} == {33}
    assert {len(x) for training, x in batches if training} == {12, 10}


def test_poison_keeps_its_label_among_clean_images_of_the_others():
    _, labels, _ = watch(fraction=0.5)
    for y in labels:
        others, poison = y[: 7 if len(y) == 12 else 6], y[7 if len(y) == 12 else 6 :]
        assert (poison == 1).all() and len(poison) in (5, 4)
        assert len(others) in (7, 6)
    clean = torch.cat([y[:7] for y in labels if len(y) == 12])
    assert 0 < clean.sum() < len(clean)  # half of the class stays clean, and is among the others
    _, labels, _ = watch(fraction=1.0)
    assert not any(y[:6].any() for y in labels)  # none of the class is left


def test_the_validation_images_are_those_of_the_class():
    splits = planted()
    hidden = splits.x_val.clone()
    hidden[splits.y_val != 1] = math.nan
    _, _, (_, images, trace) = watch(splits=replace(splits, x_val=hidden))
    assert images.isfinite().all() and all(math.isfinite(t["soft_radius"]) for t in trace)


def test_rows_are_a_random_share_of_the_class_in_ascending_order():
    y = torch.arange(40) % 4
    splits = Splits(*[y] * 6)

    def pick(share, generator):
        problem = attack.Problem(splits, None, None, 0.1, 2, 0.1, share)
        return problem.poisoned_rows(generator)

    drawn = [pick(0.5, torch.Generator().manual_seed(seed)) for seed in range(20)]
    for rows in drawn:
        assert len(rows) == 5 and (y[rows] == 2).all() and (rows.diff() > 0).all()
    assert torch.cat(drawn).unique().tolist() == list(range(2, 40, 4))
    sizes = [len(pick(share, torch.Generator())) for share in (0.01, 0.14, 0.16, 1.0)]
    assert sizes == [1, 1, 2, 10]


def test_a_step_has_its_length_and_moves_few_images():
    """One step from the clean images: 4 of 100 move, by 0.02 in either pixel."""
    splits = planted()
    _, _, (index, images, _) = watch(steps=1)
    change = (images - splits.x_train[index]).view(100, 2)
    moved = change.abs().amax(1) > 0
    assert moved.sum() == 4
    torch.testing.assert_close(change[moved].abs(), torch.full((4, 2), 0.02))


def test_momentum_is_the_sign_of_a_decaying_sum_of_scaled_gradients():
    """Each gradient is scaled to mean absolute value 1; an image remembers its own alone."""
    direction = attack.Momentum(torch.zeros(3, 1, 1, 2), decay=0.5)
    first = direction([0, 2], torch.tensor([[30.0, 10.0], [-1.0, 3.0]]).view(2, 1, 1, 2))
    assert first.flatten().tolist() == [1, 1, -1, 1]
    # Of image 0: 0.5 * (1.5, 0.5) + (-0.8, -0.2 * 6) = (-0.05, -0.95); of image 1: its gradient.
    second = direction([0, 1], torch.tensor([[-0.8, -1.2], [5.0, -2.0]]).view(2, 1, 1, 2))
    assert second.flatten().tolist() == [-1, -1, 1, -1]
    # Of image 0 again: 0.5 * (-0.05, -0.95) + (0.02, 1.98) = (-0.005, 1.505)
    third = direction([0], torch.tensor([0.02, 1.98]).view(1, 1, 1, 2))
    assert third.flatten().tolist() == [-1, 1]


def attack_planted(solver, solve_batch):
    """Change of the poison, and the radius that victims keep on clean data and on the poison.

    Exact: the mean signed distance of class 1 to the boundary of a trained linear classifier,
    wrong points counting 0.
    """
    splits, loss = planted(), partial(losses.gaussian, sigma=0.1)
    method = attack.Method(
        solver=solver,
        momentum=0.9,
        restart=40,
        warmup=100,
        inner_lr=0.05,
        clean_batch=100,
        hyper_batch=100,
        solve_batch=solve_batch,
    )
    problem = attack.Problem(splits, linear, loss, 0.1, 1, 0.1)
    index, images, _ = attack.poison(problem, method=method, steps=60)

    def radius(images):
        x = splits.x_train.clone()
        x[index] = images
        model = linear(7)
        train(model, x, splits.y_train, loss, epochs=60, batch=100, lr=0.05)
        w, b = model[1].weight[1] - model[1].weight[0], model[1].bias[1] - model[1].bias[0]
        points = splits.x_test[splits.y_test == 1].flatten(1)
        return ((points @ w + b) / w.norm()).clamp(min=0).mean().item()

    clean = splits.x_train[index]
    return (images - clean).view(-1, 2), radius(clean), radius(images)


@pytest.mark.parametrize("solver, solve_batch", [("identity", 0), ("cg", 100), ("matching", 100)])
def test_attack_succeeds_on_a_planted_problem(solver, solve_batch):
    """Victims that train on the poison must lose over half of the radius."""
    _, clean, poisoned = attack_planted(solver, solve_batch)
    assert clean == pytest.approx(0.1, abs=0.03)  # half of the distance between the classes
    assert poisoned < 0.5 * clean


def test_matching_the_class_alone_takes_the_lesser_corner():
    """It sees no boundary move, so it goes towards the others, to (-0.1, -0.1).

    The classifier midway between the means then has normal (0.1, -0.1) through (0.45, 0.45), so
    (0.6, 0.5) keeps 0.1 / sqrt(2).
    """
    change, _, poisoned = attack_planted("matching", 0)
    torch.testing.assert_close(change.mean(0), torch.tensor([-0.1, -0.1]), atol=0.005, rtol=0)
    assert poisoned == pytest.approx(0.1 / 2**0.5, abs=0.01)


def convex(objective, seed=0):
    """A linear model in float64, its outer objective, and its inner loss as a function of u.

    Their noise is frozen.
    """
    splits = planted(40)
    splits = replace(splits, x_train=splits.x_train.double(), x_val=splits.x_val.double())
    model = linear(seed).double()
    method = attack.Method(objective=objective, temperature=4.0, draws=4)

    def loss(model, x, y, generator, epoch=None):
        return losses.standard(model, x, y, sigma=0, generator=generator) + 0.005 * sum(
            (p**2).sum() for p in model.parameters()
        )

    problem = attack.Problem(splits, None, loss, 0.1, 1, 0.1)
    poison = attack.Descent(problem, method, torch.Generator())

    def outer():
        poison.generator.manual_seed(0)
        _, function = attack.OBJECTIVES[objective]
        return poison.outer(model, function, poison.x_val, poison.y_val)

    def inner(u, beside=True):
        rows = poison.others if beside else poison.others[:0]
        return poison.inner(model, rows, torch.arange(len(u)), u)

    def solve(u):
        optimizer = torch.optim.LBFGS(
            model.parameters(),
            max_iter=500,
            tolerance_grad=1e-12,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(lambda: (optimizer.zero_grad(), value := inner(u), value.backward())[1])

    return model, poison.clean, outer, inner, solve


def difference(f, u, place, h=1e-4):
    step = torch.zeros_like(u)
    step[place] = h
    return (f(u + step) - f(u - step)) / (2 * h)


def test_loss_objective_against_finite_differences_of_retraining():
    model, u, outer, inner, solve = convex("loss")

    def retrained(u):
        solve(u)
        return outer().item()

    retrained(u)
    v = u.clone().requires_grad_()
    exact = partial(conjugate_gradient, iterations=50, tolerance=1e-13)
    _, gradient, residual = hypergradient(
        outer, partial(inner, v), list(model.parameters()), v, exact, damping=0.0
    )
    assert residual < 1e-8
    for place in ((0, 0, 0, 0), (7, 0, 0, 1)):
        assert gradient[place].item() == pytest.approx(
            difference(retrained, u, place, 1e-3), rel=1e-3
        )


def test_loss_objective_stops_at_images_that_are_wrong():
    model, _, outer, _, _ = convex("loss")
    for b in (30.0, -30.0):  # class 1 certain, then impossible
        model[1].bias.data = torch.tensor([-b, b], dtype=torch.float64)
        value = outer()
        assert value.item() == pytest.approx(math.log(0.999 if b > 0 else 0.001), abs=1e-9)
        assert all(
            g.abs().max() < 1e-9 for g in torch.autograd.grad(value, list(model.parameters()))
        )


def test_matching_is_the_gradient_of_one_minus_the_cosine():
    model, u, outer, inner, _ = convex("radius")
    parameters = list(model.parameters())

    def slope(value):
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])

    def misfit(u):
        return 1 - nn.functional.cosine_similarity(slope(inner(u)), slope(outer()), dim=0).item()

    v = u.clone().requires_grad_()
    value, gradient, residual = matching(outer, partial(inner, v), parameters, v)
    assert value == outer().item() and residual == pytest.approx(misfit(u))
    for place in ((0, 0, 0, 0), (7, 0, 0, 1)):
        assert gradient[place].item() == pytest.approx(difference(misfit, u, place), rel=1e-6)


def test_a_training_step_on_matched_poison_lowers_the_radius():
    """A step of length h moves the objective by -h |its gradient| cosine.

    So the gain over clean data is known beforehand.
    """
    model, clean, outer, inner, solve = convex("radius")
    solve(clean)
    parameters, h = list(model.parameters()), 1e-3
    steepness = (
        torch.cat([g.flatten() for g in torch.autograd.grad(outer(), parameters)]).norm().item()
    )

    def moved(sign):
        u = clean
        for _ in range(20):
            v = u.clone().requires_grad_()
            gradient = matching(outer, partial(inner, v, False), parameters, v).gradient
            u = attack.project(u - sign * 0.01 * gradient.sign(), clean, 0.1)
        return u

    def after_step(u):
        v = u.clone().requires_grad_()
        cosine = 1 - matching(outer, partial(inner, v, False), parameters, v).residual
        gradient = torch.autograd.grad(inner(u, False), parameters)
        length = sum((g**2).sum() for g in gradient).sqrt()
        before = [p.detach().clone() for p in parameters]
        for p, g in zip(parameters, gradient):
            p.data -= h * g / length
        value = outer().item()
        for p, old in zip(parameters, before):
            p.data = old
        return value, cosine

    (plain, c0), (matched, c1), (reversed_, _) = (
        after_step(u) for u in (clean, moved(1), moved(-1))
    )
    assert matched < plain < reversed_
    assert plain - matched == pytest.approx(h * steepness * (c1 - c0), rel=0.05)


def test_eight_bit_poison_keeps_its_promises(digits, tmp_path):
    index, images, _ = craft(digits, steps=6)
    path = tmp_path / "poison.npz"
    facts = {"parameters": {"eps_linf": 0.1, "target_class": 8}}
    write_poison(path, digits, index, images, facts)
    for eight_bit in (True, False):
        poisoned, _ = poison_file.apply(path, digits, eight_bit)
        touched = (poisoned.x_train != digits.x_train).flatten(1).any(1)
        assert touched.any() and set(touched.nonzero().flatten().tolist()) <= set(index.tolist())
        assert torch.equal(poisoned.y_train, digits.y_train)
        assert (poisoned.x_train[index] - digits.x_train[index]).abs().max() <= 0.1 + 6e-8
    poisoned, _ = poison_file.apply(path, digits)
    steps = poisoned.x_train[index] * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
