"""ApproxGrad against a transcription of its formulas in numpy, on a logistic problem."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from test_attack import linear, planted, problem_of

from pacd import losses, smoothing
from pacd.approxgrad import PUBLISHED, ApproxGrad, Batches, approxgrad
from pacd.attack import Problem
from pacd.poison_file import to_8bit

SIGMA, EPS, SEED = 0.1, 0.1, 3
METHOD = ApproxGrad(
    clean_batch=7,
    poison_batch=5,
    val_batch=6,
    draws=2,
    temperature=2.0,
    inner_steps=20,
    inner_lr=0.2,
    solve_steps=4,
    solve_lr=0.03,
    damping=0.02,
    step=0.02,
    restart=1,
)


class Adam:
    """Of a list of arrays, changed in place."""

    def __init__(self, lr):
        self.lr, self.t, self.m, self.v = lr, 0, None, None

    def step(self, values, gradients):
        self.t += 1
        self.m = self.m or [0 * g for g in gradients]
        self.v = self.v or [0 * g for g in gradients]
        for i, (x, g) in enumerate(zip(values, gradients)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
            m, v = self.m[i] / (1 - 0.9**self.t), self.v[i] / (1 - 0.999**self.t)
            x -= self.lr * m / (np.sqrt(v) + 1e-8)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def training_gradient(theta, x, y):
    error = (softmax(x @ theta[0].T + theta[1]) - np.eye(2)[y]) / len(x)
    return [error.T @ x, error.sum(0)]


def hessian_product(theta, x, v, damping):
    p, dz = softmax(x @ theta[0].T + theta[1]), x @ v[0].T + v[1]
    dp = p * (dz - (p * dz).sum(1, keepdims=True)) / len(x)
    return [dp.T @ x + damping * v[0], dp.sum(0) + damping * v[1]]


def mixed_product(theta, x, y, q):
    """Of each image, the derivative of (training gradient . q)."""
    p, z = softmax(x @ theta[0].T + theta[1]), x @ q[0].T + q[1]
    through = p * (z - (p * z).sum(1, keepdims=True))
    return ((p - np.eye(2)[y]) @ q[0] + through @ theta[0]) / len(x)


def radius_gradient(theta, x, temperature, squash=1e-3):
    """Mean soft radius of class 1, wrong points counting 0, and its gradient in theta."""
    p = softmax(temperature * (x @ theta[0].T + theta[1]))
    s = (1 - 2 * squash) * p[:, 1] + squash
    radius = SIGMA * norm.ppf(s)
    slope = SIGMA / norm.pdf(norm.ppf(s)) * (1 - 2 * squash) * temperature * p[:, 0] * p[:, 1]
    slope = np.where(radius > 0, slope, 0)[:, None] * [-1, 1] / len(x)
    return radius.clip(0).mean(), [slope.T @ x, slope.sum(0)]


def transcription(splits, steps, flaw=None):
    """The poison after each step; ``flaw`` plants one of the things that are easily lost."""
    order = torch.Generator().manual_seed(SEED)
    x, y = splits.x_train.flatten(1).numpy(), splits.y_train.numpy()
    x_val = splits.x_val.flatten(1).numpy()[splits.y_val.numpy() == 1]
    index = np.flatnonzero(y == 1)
    torch.randperm(len(index), generator=order)  # which share of the class: all of it
    others, u, found = np.flatnonzero(y != 1), x[index].copy(), []
    clean, (method, per_epoch) = u.copy(), (METHOD, 2)
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            model = linear(1000 * SEED + step).double()
            theta = [p.detach().numpy().copy() for p in model[1].parameters()]
            if flaw != "one system" or step == 0:
                q, q_adam = [0 * p for p in theta], Adam(method.solve_lr)
            descent, ascent = Adam(method.inner_lr), Adam(method.step)
            clean_order = torch.randperm(len(others), generator=order).numpy()
            poison_order = torch.randperm(len(index), generator=order).numpy()
        rows = others[clean_order[7 * place : 7 * place + 7]]
        slots = poison_order[5 * place : 5 * place + 5]
        labels = np.append(y[rows], [1] * 5)
        for _ in range(method.inner_steps):
            batch = np.concatenate([x[rows], u[slots]])
            descent.step(theta, training_gradient(theta, batch, labels))
        looked = torch.randperm(len(x_val), generator=order)[:6].numpy()
        if flaw == "cold":
            q, q_adam = [0 * p for p in theta], Adam(method.solve_lr)
        if flaw == "cold moments":
            q_adam = Adam(method.solve_lr)
        for _ in range(method.solve_steps):
            _, b = radius_gradient(theta, x_val[looked], method.temperature)
            r = [h - s for h, s in zip(hessian_product(theta, batch, q, method.damping), b)]
            q_adam.step(q, hessian_product(theta, batch, r, method.damping))
        moved = u[slots]
        if flaw == "moments by image":
            ascent = Adam(method.step)
        ascent.step([moved], [-mixed_product(theta, batch, labels, q)[7:]])
        u[slots] = np.clip(np.clip(moved, clean[slots] - EPS, clean[slots] + EPS), 0, 1)
        found.append(u.copy())
    return found


@pytest.fixture
def splits():
    few = planted(40)
    chosen = torch.cat([(few.y_train == c).nonzero().flatten()[:n] for c, n in ((0, 15), (1, 11))])
    x, y = few.x_train[chosen].double(), few.y_train[chosen]
    return replace(few, x_train=x, y_train=y, x_val=few.x_val.double())


def published(splits, monkeypatch, steps):
    """The poison after each step, by the study's code."""
    silent = lambda x, sigma, draws, generator: x.repeat_interleave(draws, 0)
    monkeypatch.setattr(smoothing, "noisy", silent)
    found = []

    def loss(model, x, y, generator, epoch=None):
        return losses.standard(model, x, y, sigma=0, generator=generator)

    problem = Problem(splits, lambda seed: linear(seed).double(), loss, SIGMA, 1, EPS)
    watch = lambda step, index, images: found.append(images.flatten(1).numpy().copy())
    approxgrad(problem, method=METHOD, steps=steps, seed=SEED, watch=watch)
    return found


def test_the_iterates_are_those_of_the_formulas(splits, monkeypatch):
    """Four steps, with a new model before the third."""
    found, said = published(splits, monkeypatch, 4), transcription(splits, 4)
    assert (
        len(found) == 4
        and np.abs(found[-1] - splits.x_train[splits.y_train == 1].flatten(1).numpy()).max() > 0.01
    )
    for here, there in zip(found, said):
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-9)


@pytest.mark.parametrize("flaw", ["cold", "cold moments", "moments by image", "one system"])
def test_what_is_easily_lost_is_found(splits, monkeypatch, flaw):
    found, said = published(splits, monkeypatch, 4), transcription(splits, 4, flaw)
    assert max(np.abs(here - there).max() for here, there in zip(found, said)) > 1e-4


def test_an_epoch_goes_through_the_clean_images_once_and_takes_the_poison_in_turn(digits):
    loss = partial(losses.gaussian, sigma=0.5)
    method = replace(PUBLISHED["approxgrad"], clean_batch=500, poison_batch=70)
    made = Batches(problem_of(digits, loss), method, torch.Generator().manual_seed(0))
    assert made.per_epoch == 3600 // 500 == 7
    made.shuffle()
    rows, places = zip(*[made.batch(place) for place in range(made.per_epoch)])
    rows, places = torch.cat(rows), torch.cat(places)
    assert len(rows.unique()) == len(rows) == 500 * made.per_epoch
    times = places.bincount(minlength=400)  # 490 places among 400 images
    assert times.tolist().count(2) == 90 and times.tolist().count(1) == 310
    assert all(len(batch.unique()) == 70 for batch in places.split(70))
    assert (digits.y_train[rows] != 8).all()


def test_on_digits_the_poison_stays_in_its_ball(digits):
    method = replace(METHOD, inner_lr=1e-3, solve_lr=1e-2, step=0.1, poison_batch=20)
    problem = problem_of(digits, partial(losses.gaussian, sigma=0.5))
    index, images, trace = approxgrad(problem, method=method, steps=3)
    change = (images - digits.x_train[index]).abs()
    assert images.min() >= 0 and images.max() <= 1 and 0 < change.max() <= 0.1 + 6e-8
    assert (change.flatten(1).amax(1) > 0).sum() == 60 and len(trace) == 3
    assert all(t["soft_radius"] >= 0 and t["residual"] > 0 for t in trace)
    assert to_8bit(images, digits.x_train[index], 0.1).dtype == np.uint8


def test_a_model_that_diverges_is_refused(digits):
    problem = problem_of(digits, partial(losses.gaussian, sigma=0.5))
    with pytest.raises(FloatingPointError, match="poison step 1"):
        approxgrad(problem, method=replace(METHOD, inner_lr=1e30), steps=1)


def test_the_constants_are_those_of_the_published_script():
    """Batches of 900 and 100; 100 points x 20 draws; 10 inner and 10 solver steps."""
    method = PUBLISHED["approxgrad"]
    assert (method.clean_batch, method.poison_batch) == (900, 100)
    assert (method.val_batch, method.draws) == (100, 20)
    assert (method.inner_steps, method.inner_lr, method.solve_steps) == (10, 1e-3, 10)
    assert (method.solve_lr, method.step, method.damping, method.restart) == (1e-2, 0.1, 1e-3, 10)
    assert (method.temperature, method.squash) == (16.0, 1e-3)
