"""The implicit hypergradient against ridge regression, where everything is known in closed form."""

import pytest
import torch

from pacd.hypergradient import SOLVERS, conjugate_gradient, hypergradient
from study.minres import minres

RIDGE = 0.3


def problem():
    """Ridge regression on poisoned inputs u; the outer objective is the loss on validation data."""
    g = torch.Generator().manual_seed(0)
    u, y = (
        torch.randn(20, 4, generator=g, dtype=torch.float64),
        torch.randn(20, generator=g, dtype=torch.float64),
    )
    x_val, y_val = (
        torch.randn(15, 4, generator=g, dtype=torch.float64),
        torch.randn(15, generator=g, dtype=torch.float64),
    )

    def optimum(u):
        return torch.linalg.solve(u.T @ u / 20 + RIDGE * torch.eye(4, dtype=u.dtype), u.T @ y / 20)

    def inner(u, w):
        return ((u @ w - y) ** 2).mean() / 2 + RIDGE * (w**2).sum() / 2

    def outer(w):
        return ((x_val @ w - y_val) ** 2).mean() / 2

    return u, optimum, inner, outer


def computed(solve, damping=0.0):
    u, optimum, inner, outer = problem()
    w = optimum(u).requires_grad_()
    u.requires_grad_()
    return hypergradient(lambda: outer(w), lambda: inner(u, w), [w], u, solve, damping)


def exact():
    """Autograd through the closed form of the optimum."""
    u, optimum, _, outer = problem()
    u.requires_grad_()
    return torch.autograd.grad(outer(optimum(u)), u)[0]


def test_closed_form_and_finite_differences():
    u, optimum, _, outer = problem()
    _, gradient, residual = computed(lambda a, b: conjugate_gradient(a, b, 20, 1e-12))
    assert residual < 1e-9
    torch.testing.assert_close(gradient, exact(), rtol=1e-8, atol=1e-12)
    for i, j in ((0, 0), (7, 3), (19, 1)):
        step = torch.zeros_like(u)
        step[i, j] = 1e-6
        difference = (outer(optimum(u + step)) - outer(optimum(u - step))) / 2e-6
        assert gradient[i, j].item() == pytest.approx(difference.item(), rel=1e-5)


def test_an_outer_objective_that_sees_the_poison_itself():
    """As when the validation loss also charges for the length of the poison."""
    u, optimum, inner, outer = problem()
    w = optimum(u).requires_grad_()
    u.requires_grad_()
    solve = lambda draw, b: conjugate_gradient(draw, b, 20, 1e-12)
    charged = lambda w: outer(w) + (u**3).sum()
    found = hypergradient(lambda: charged(w), lambda: inner(u, w), [w], u, solve, damping=0.0)
    expected = torch.autograd.grad(charged(optimum(u)), u)[0]
    torch.testing.assert_close(found.gradient, expected, rtol=1e-8, atol=1e-12)


def test_damping_is_added_to_the_diagonal():
    """Ridge's Hessian is u'u / 20 + RIDGE: a damping of RIDGE doubles the ridge of the system."""
    u, optimum, inner, outer = problem()
    w = optimum(u).requires_grad_()
    u.requires_grad_()
    (b,) = torch.autograd.grad(outer(w), w)
    q = torch.linalg.solve(u.T @ u / 20 + 2 * RIDGE * torch.eye(4, dtype=u.dtype), b).detach()
    (slope,) = torch.autograd.grad(inner(u, w), w, create_graph=True)
    expected = -torch.autograd.grad(slope @ q, u)[0]
    found = computed(lambda draw, b: conjugate_gradient(draw, b, 20, 1e-12), damping=RIDGE)
    torch.testing.assert_close(found.gradient, expected, rtol=1e-8, atol=1e-12)


def test_neumann_is_the_sum_of_its_powers():
    """Of the numbers 2 and 1 with scale 0.3: three terms of the ratios 0.4 and 0.7."""
    matrix = torch.tensor([2.0, 1.0])
    draw = lambda: lambda v: [matrix * v[0]]
    q, residual = SOLVERS["neumann"](draw, [torch.ones(2)], iterations=2, scale=0.3)
    ratio = torch.tensor([0.4, 0.7])
    torch.testing.assert_close(q[0], 0.3 * (1 + ratio + ratio**2))
    assert residual == pytest.approx((ratio**3).norm().item() / 2**0.5, rel=1e-5)


@pytest.mark.parametrize(
    "name, options, relative",
    [
        ("cg", {"iterations": 5}, 1e-6),
        ("neumann", {"iterations": 300, "scale": 0.5}, 1e-6),
        ("adam", {"iterations": 2000}, 1e-2),
    ],
)
def test_every_solver_converges_and_reports_its_residual(name, options, relative):
    _, gradient, residual = computed(lambda a, b: SOLVERS[name](a, b, **options))
    assert residual < relative
    assert (gradient - exact()).norm() < 10 * relative * exact().norm()


def test_residual_is_the_true_one_when_the_solve_is_cut_short():
    matrix = torch.diag(torch.tensor([1.0, 4.0, 9.0]))
    b = torch.tensor([1.0, 1.0, 1.0])
    for solve in (lambda a, b: conjugate_gradient(a, b, 1), lambda a, b: SOLVERS["adam"](a, b, 3)):
        q, residual = solve(lambda: lambda v: [matrix @ v[0]], [b])
        assert (
            residual == pytest.approx(((b - matrix @ q[0]).norm() / b.norm()).item(), rel=1e-5)
            and residual > 0.1
        )


def test_cg_falls_back_to_first_order_on_negative_curvature():
    b = torch.tensor([1.0, 2.0])
    q, residual = conjugate_gradient(lambda: lambda v: [-v[0]], [b])
    assert torch.equal(q[0], b) and residual == pytest.approx(2.0)


def test_identity_is_the_gradient_alignment():
    """First order is -d/du <d inner, d outer>: where a training step hurts the outer objective."""
    u, optimum, inner, outer = problem()
    w = optimum(u).requires_grad_()
    u.requires_grad_()
    (b,) = torch.autograd.grad(outer(w), w)
    (g,) = torch.autograd.grad(inner(u, w), w, create_graph=True)
    expected = -torch.autograd.grad(g @ b, u)[0]
    torch.testing.assert_close(computed(SOLVERS["identity"]).gradient, expected)


def test_a_wrong_sign_would_be_found():
    wrong = -computed(lambda a, b: conjugate_gradient(a, b, 20)).gradient
    with pytest.raises(AssertionError):
        torch.testing.assert_close(wrong, exact(), rtol=1e-2, atol=1e-6)


def test_redrawing_the_system_biases_the_authors_solver_towards_zero():
    """A is 1 + noise of variance v, so its squared residual is least at 1 / (1 + v), not at 1."""
    g = torch.Generator().manual_seed(0)

    def draw():
        a = 1 + 0.5**0.5 * torch.randn((), generator=g)
        return lambda v: [a * v[0]]

    q = (
        torch.stack([SOLVERS["adam"](draw, [torch.ones(1)], 3000, 1e-3)[0][0] for _ in range(5)])
        .mean()
        .item()
    )
    assert q == pytest.approx(1 / 1.5, abs=0.08)
    q, _ = SOLVERS["adam"](lambda: lambda v: v, [torch.ones(1)], 3000, 1e-3)
    assert q[0].item() == pytest.approx(1, abs=0.02)


def test_minres_solves_what_cg_cannot():
    """Eigenvalues 2, 1 and -3; along b the curvature is negative from the second direction on."""
    matrix, b = torch.diag(torch.tensor([2.0, 1.0, -3.0])), torch.tensor([1.0, 1.0, 0.5])
    draw = lambda: lambda v: [matrix @ v[0]]
    q, residual = minres(draw, [b], 3)
    torch.testing.assert_close(q[0], b / matrix.diag(), rtol=1e-4, atol=1e-5)
    assert residual < 1e-4 and conjugate_gradient(draw, [b], 10)[1] > 0.1
    assert minres(draw, [b], 1)[1] > minres(draw, [b], 2)[1] > 0.01


def test_minres_keeps_shapes_and_order_of_several_tensors():
    b = [torch.arange(6.0).view(2, 3), torch.tensor([5.0])]
    q, _ = minres(lambda: lambda v: [2 * v[0], 4 * v[1]], b)
    torch.testing.assert_close(q, [b[0] / 2, b[1] / 4])


@pytest.mark.parametrize("largest", [5.0, 50.0, 500.0])
def test_neumann_finds_its_scale(largest):
    """A constant of 0.1 has residual (0.1 * 50 - 1)^11 = 4e6 at a largest eigenvalue of 50."""
    scales = torch.tensor([1.0, largest])
    _, residual = SOLVERS["neumann"](lambda: lambda v: [scales * v[0]], [torch.ones(2)])
    assert (
        residual < 1 / 2**0.5 + 1e-3
    )  # nothing left along the second direction, at most all along the first
