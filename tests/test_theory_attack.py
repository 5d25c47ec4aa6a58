"""The general-purpose attack on the linear problem, whose optimum is known."""

from functools import partial

import numpy as np
from test_theory import COV, MEAN, two_classes

from study import theory as t


def ridge_hypergradient(x, y, sigma, v, mean, cov):
    """The attack's own hypergradient of ACR in the target's shift v, at the ridge solution."""
    import torch

    from pacd.hypergradient import conjugate_gradient, hypergradient

    points, labels, m, S = (torch.tensor(np.asarray(a, float)) for a in (x, y, mean, cov))
    shift = torch.tensor(np.asarray(v, float), requires_grad=True)
    lam, rows = t.ga_penalty(len(x), sigma), (labels == 1)[:, None]
    moved = x + np.where(y[:, None] == 1, v, 0)
    w, b = (torch.tensor(a, requires_grad=True) for a in t.ridge(moved, y, lam))
    normal = torch.distributions.Normal(0.0, 1.0)

    def outer():
        mu, s = (w @ m + b) / w.norm(), (w @ S @ w).sqrt() / w.norm()
        return mu * normal.cdf(mu / s) + s * normal.log_prob(mu / s).exp()

    def inner():
        shifted = points + rows * (shift if shift.shape == points.shape else shift[None])
        return ((shifted @ w + b - labels) ** 2).sum() + lam * w @ w

    def solve(matvec, rhs):
        return conjugate_gradient(matvec, rhs, iterations=50, tolerance=1e-13)

    return hypergradient(outer, inner, [w, b], shift, solve, damping=0.0).gradient.numpy()


def sign_attack(x, y, sigma, r, mean, cov, steps=40):
    """The shift where projected sign steps along the hypergradient end, from clean data."""
    v = np.zeros(x.shape[1])
    for step in range(steps):
        length = 2 * r / (step + 2)  # shrinking, and summing to far more than the ball
        v = np.clip(v - length * np.sign(ridge_hypergradient(x, y, sigma, v, mean, cov)), -r, r)
    return v


def white(x, y, variance):
    """The same points moved linearly so that their pooled covariance is exactly variance * I."""
    s = t.summarise(x, y)
    means = np.where(y[:, None] == 1, s.base + s.d, s.base)
    return means + np.sqrt(variance) * np.linalg.solve(np.linalg.cholesky(s.cov), (x - means).T).T


def test_hypergradient_is_the_point_gradient():
    x, y = two_classes(target=5, others=7)
    lam = t.ga_penalty(12, 0.4)
    exact = t.ridge_point_gradient(x, y, lam, *t.acr_gradient(*t.ridge(x, y, lam), MEAN, COV))
    found = ridge_hypergradient(x, y, 0.4, np.zeros_like(x), MEAN, COV)
    assert np.allclose(found[y == 1], exact[y == 1], rtol=1e-6, atol=1e-9)
    assert not np.allclose(found[y == 1], 1.01 * exact[y == 1], rtol=1e-6, atol=1e-9)  # planted


def test_sign_attack_lands_on_the_corner():
    x, y = two_classes(target=8, others=20, k=4)
    x = white(x, y, 0.05)
    s, sigma, r = t.summarise(x, y), 0.3, 0.3
    c = t.imbalance(s.p, 0.05, sigma)
    v, left = t.best_shift_cube(s.d, r, c)
    landed = sign_attack(x, y, sigma, r, s.base + s.d, 0.05 * np.eye(4))
    assert np.allclose(landed, v) and not np.allclose(
        landed, r * s.d / np.abs(s.d).max()
    )  # planted: along d
    moved = x + np.where(y[:, None] == 1, landed, 0)
    assert np.isclose(
        t.signed_distance(s.base + s.d, *t.ridge(moved, y, t.ga_penalty(len(x), sigma))), left
    )


def test_sign_attack_can_be_trapped_on_a_line():
    x, y = two_classes(target=8, others=20, k=1)
    s, r, landed = t.summarise(x, y), 1.0, []
    D, variance = s.d[0], s.cov[0, 0]
    # c below D^2 - r^2 (right), between it and D^2 (trapped) and above D^2 (right, downwards).
    for c in (0.5 * (D**2 - r**2), D**2 - 0.5 * r**2, 1.5 * D**2):
        sigma = np.sqrt(c * s.p * (1 - s.p) / (1 - 2 * s.p) - variance)
        v = sign_attack(x, y, sigma, r, s.base + s.d, np.array([[0.2]]))[0]
        optima = t.local_optima_line(D, r, c)
        assert any(np.isclose(v, end) for end in optima)
        landed.append(bool(np.isclose(v, optima[0])))
    assert landed == [True, False, True]


def linear_loss(model, x, y, *, sigma, generator=None, epoch=0):
    """Gaussian-augmented least squares, with the exact mean over the noise (thm-ga-ridge)."""
    w, b = model[1].weight[0], model[1].bias[0]
    return ((x.flatten(1) @ w + b - 2.0 * y + 1) ** 2).mean() + sigma**2 * w @ w


def test_general_attack_lands_on_the_corner():
    """`pacd.attack.poison`, told nothing but the loss, finds the optimum of thm-optimum-cube."""
    import torch
    from torch import nn

    from pacd.attack import Method, Problem, poison
    from pacd.data import Splits

    class Scores(nn.Module):
        def forward(self, f):
            return torch.cat([-f, f], 1)

    def make_model(seed):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3, 1), Scores())

    rng = np.random.default_rng(13)
    y = np.repeat([1, -1], [60, 60])
    x = 0.5 + 0.04 * rng.normal(size=(120, 3)) + 0.5 * np.outer(y, [0.2, -0.15, 0.1])
    x = white(x, y, 0.04**2)
    images = torch.tensor(x, dtype=torch.float32).view(-1, 1, 1, 3)
    labels = torch.tensor((y + 1) // 2)
    splits = Splits(images, labels, images[:40], labels[:40], images[:0], labels[:0])
    method = Method(
        solver="cg",
        class_wise=True,
        step=0.005,
        inner_steps=5,
        restart=1000,
        warmup=300,
        inner_lr=0.02,
        clean_batch=120,
        poison_batch=120,
        hyper_batch=120,
        solve_batch=120,
        temperature=4.0,
        damping=0.0,
    )
    loss = partial(linear_loss, sigma=0.1)
    state = torch.random.get_rng_state()
    problem = Problem(splits, make_model, loss, 0.1, 1, 0.03)
    index, poisoned, _ = poison(problem, method=method, steps=30)
    torch.random.set_rng_state(state)
    v, left = t.best_shift_cube(t.summarise(x, y).d, 0.03, 0.0)
    shifts = (poisoned - splits.x_train[index]).flatten(1).numpy()
    assert np.allclose(shifts, v, atol=1e-6)
    moved = x.copy()
    moved[index.numpy()] += shifts
    assert np.isclose(
        t.signed_distance(x[y == 1].mean(0), *t.ridge(moved, y, t.ga_penalty(120, 0.1))),
        left,
        atol=1e-6,
    )
