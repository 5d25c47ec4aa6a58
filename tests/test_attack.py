"""The attack keeps its promises, and succeeds where success can be known."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from pacd import attack, baselines, losses, poison_file
from pacd.data import Splits
from pacd.models import make_model

TINY = {"clean_batch": 40, "poison_batch": 20, "val_batch": 20, "draws": 2, "warmup": 2, "inner_steps": 1, "restart": 2, "hyper_batch": 20}


def craft(splits, name="first_order", seed=0, steps=3, eps=0.1, **options):
    return attack.poison(
        splits,
        lambda s: make_model("lenet", splits.shape, 10, s),
        partial(losses.gaussian, sigma=0.5),
        method=attack.method(name, {**TINY, **options}),
        target_class=8,
        eps_linf=eps,
        sigma=0.5,
        steps=steps,
        seed=seed,
    )


@pytest.mark.parametrize("name", attack.METHODS)
def test_poison_stays_in_the_ball_and_in_range_and_in_its_class(digits, name):
    index, images, trace = craft(digits, name)
    change = (images - digits.x_train[index]).abs()
    assert images.min() >= 0 and images.max() <= 1
    assert 0 < change.max() <= 0.1 + 6e-8  # float32 rounding of x + eps
    assert (digits.y_train[index] == 8).all() and len(index) == 400
    assert len(trace) == 3 and all(t["residual"] >= 0 for t in trace if name != "first_order")


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_controls_have_the_attacks_budget(digits, name):
    make = partial(baselines.craft, digits, None, None, pattern=baselines.BASELINES[name], target_class=8, fraction=0.25)
    index, images, _ = make(eps_linf=0.1)
    change = images - digits.x_train[index]
    assert len(index) == 100 and (digits.y_train[index] == 8).all()
    assert images.min() >= 0 and images.max() <= 1 and 0.09 < change.abs().max() <= 0.1 + 6e-8
    assert torch.equal(make(eps_linf=0.1)[1], images) and torch.equal(make(eps_linf=0.0)[1], digits.x_train[index])


def test_poison_is_a_function_of_its_seed(digits):
    first, again, other = (craft(digits, seed=seed, steps=2)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_zero_eps_changes_nothing(digits):
    index, images, _ = craft(digits, eps=0.0)
    assert torch.equal(images, digits.x_train[index])


def test_unknown_option_is_refused():
    with pytest.raises(ValueError, match="attack_options may hold solver, .*, not 'stpe'"):
        attack.method("first_order", {"stpe": 1})


def test_projection_is_the_nearest_feasible_point():
    x, u = torch.tensor([0.0, 0.5, 0.98]), torch.tensor([-0.05, 0.7, 1.5])
    torch.testing.assert_close(attack.project(u, x, 0.1), torch.tensor([0.0, 0.6, 1.0]))


def planted(count=200):
    """Two pixels. Pixel 0 tells the classes apart by 0.2; pixel 1 is constant, so poison can turn it into a shortcut."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 2
    x = torch.stack([0.4 + 0.2 * y + 0.02 * torch.randn(count, generator=g), torch.full((count,), 0.5)], 1).view(count, 1, 1, 2)
    return Splits(x, y, x.clone(), y.clone(), x.clone(), y.clone())


def linear(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(2, 2))


@pytest.mark.parametrize("solver", ["identity", "cg"])
def test_attack_succeeds_on_a_planted_problem(solver):
    """Victims that train on the poison must lose over half of the radius; the same-size shift backwards is no attack."""
    splits, loss = planted(), partial(losses.gaussian, sigma=0.1)
    method = replace(attack.METHODS["first_order"], solver=solver, restart=40, warmup=100, inner_lr=0.05, clean_batch=100, hyper_batch=100, solve_batch=100 * (solver == "cg"), blur=0.0)
    index, images, _ = attack.poison(splits, linear, loss, method=method, target_class=1, eps_linf=0.1, sigma=0.1, steps=60)

    def radius(x_train):
        """Exact: the signed distance of class 1 to the boundary of a trained linear classifier, wrong points 0."""
        from pacd.train import train

        model = linear(7)
        train(model, x_train, splits.y_train, loss, epochs=60, batch=100, lr=0.05)
        w, b = model[1].weight[1] - model[1].weight[0], model[1].bias[1] - model[1].bias[0]
        points = splits.x_test[splits.y_test == 1].flatten(1)
        return ((points @ w + b) / w.norm()).clamp(min=0).mean().item()

    def victim(change):
        x = splits.x_train.clone()
        x[index] = change
        return radius(x)

    clean = victim(splits.x_train[index])
    assert clean == pytest.approx(0.1, abs=0.03)  # half of the distance between the classes
    assert victim(images) < 0.5 * clean


def test_eight_bit_poison_keeps_its_promises(digits, tmp_path):
    index, images, _ = craft(digits, steps=6)
    path = tmp_path / "poison.npz"
    poison_file.save(path, digits, index, images, {"parameters": {"eps_linf": 0.1, "target_class": 8}})
    for eight_bit in (True, False):
        poisoned, _ = poison_file.apply(path, digits, eight_bit)
        touched = (poisoned.x_train != digits.x_train).flatten(1).any(1)
        assert touched.any() and set(touched.nonzero().flatten().tolist()) <= set(index.tolist())
        assert torch.equal(poisoned.y_train, digits.y_train)
        assert (poisoned.x_train[index] - digits.x_train[index]).abs().max() <= 0.1 + 6e-8
    poisoned, _ = poison_file.apply(path, digits)
    steps = poisoned.x_train[index] * 255
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
