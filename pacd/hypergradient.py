"""Implicit hypergradient of a bilevel problem; outer, inner and solver are callables.

For theta*(u) = argmin_theta inner(theta, u) the implicit function theorem gives

    d outer / du  =  d_u outer  -  d_u d_theta inner . q,
    (d^2_theta inner + damping I) q  =  d_theta outer.

Vectors are lists of tensors shaped like the parameters. A solver is ``solve(draw, b) -> (q,
residual)``: ``draw()`` gives the product v -> A v, always the same one where the noise is frozen,
and the relative residual |b - A q| / |b| is measured, not assumed.
"""

from typing import NamedTuple

import torch


class Hypergradient(NamedTuple):
    """Of the outer objective its ``value`` and ``gradient``, shaped like u.

    ``residual`` is the relative one of the linear system.
    """

    value: float
    gradient: torch.Tensor
    residual: float


def hypergradient(outer, inner, parameters, u, solve, damping=1e-3, redraw=False):
    """d outer(theta*(u)) / du at the current parameters.

    Parameters
    ----------
    outer, inner : callables
        ``() -> scalar``, differentiable in ``parameters`` (inner twice, and in u); an outer that
        ignores u is fine.
    parameters : list of tensors
        theta, requiring gradients.
    u : tensor
        The poison, requiring gradients.
    solve : callable
        A solver of this module, or any other with its signature.
    damping : float
        Added to the diagonal of the Hessian.
    redraw : bool
        Call ``inner`` afresh for every draw of the system, so that its noise is redrawn: the
        authors' setting, kept for comparison. CG needs the frozen noise of the default.

    Returns
    -------
    Hypergradient

    References
    ----------
    Pedregosa 2016 (arXiv 1602.02355); Mehra et al. (arXiv 2012.01274, algorithm 1).
    """
    value = outer()
    b = torch.autograd.grad(value, parameters, retain_graph=True)
    (direct,) = torch.autograd.grad(value, u, allow_unused=True)
    frozen = torch.autograd.grad(inner(), parameters, create_graph=True)

    def draw():
        gradient = frozen
        if redraw:
            gradient = torch.autograd.grad(inner(), parameters, create_graph=True)

        def product(v):
            products = torch.autograd.grad(gradient, parameters, v, retain_graph=True)
            return [h + damping * x for h, x in zip(products, v)]

        return product

    q, residual = solve(draw, b)
    (mixed,) = torch.autograd.grad(frozen, u, q)
    return Hypergradient(value.item(), -mixed if direct is None else direct - mixed, residual)


def matching(outer, inner, parameters, u):
    """Gradient in u of 1 - cos(d inner / d theta, d outer / d theta), which is the residual.

    Witches' Brew (arXiv 2009.02276). A training step goes along -d inner / d theta: at cosine 1 no
    other short step lowers the outer objective more. First order raises the inner product instead;
    where it is negative, images that are easier to learn do that too. Without ``solve_batch`` the
    training gradient is that of the target class alone, as in the paper.
    """
    value = outer()
    wanted = torch.autograd.grad(value, parameters)
    trained = torch.autograd.grad(inner(), parameters, create_graph=True)
    lengths = (dot(trained, trained) * dot(wanted, wanted)).clamp(min=1e-30).sqrt()
    cosine = dot(trained, wanted) / lengths
    return Hypergradient(value.item(), torch.autograd.grad(-cosine, u)[0], 1 - cosine.item())


def dot(a, b):
    """Inner product of two lists of tensors."""
    return sum((x * y).sum() for x, y in zip(a, b))


def plus(a, scale, b):
    """a + scale * b of two lists of tensors."""
    return [x + scale * y for x, y in zip(a, b)]


def residual_of(product, b, q):
    """Relative residual |b - A q| / |b|."""
    r = [x - y for x, y in zip(b, product(q))]
    return (dot(r, r) / dot(b, b).clamp(min=1e-30)).sqrt().item()


def identity(draw, b):
    """First order: the Hessian taken as the identity, q = b. Its residual is not measured (nan)."""
    return list(b), float("nan")


def conjugate_gradient(draw, b, iterations=5, tolerance=1e-6):
    """CG on one draw of the system; stops early at the tolerance or at negative curvature."""
    product = draw()
    q = [torch.zeros_like(x) for x in b]
    r, p = list(b), list(b)
    rr = bb = dot(b, b)
    for iteration in range(iterations):
        if rr <= tolerance**2 * bb:
            break
        ap = product(p)
        curvature = dot(p, ap)
        if curvature <= 0:  # an indefinite Hessian: keep the iterate, or b where there is none yet
            q = q if iteration else list(b)
            break
        step = rr / curvature
        q, r = plus(q, step, p), [x - step * y for x, y in zip(r, ap)]
        rr, before = dot(r, r), rr
        p = plus(r, rr / before, p)
    return q, residual_of(product, b, q)


def adam(draw, b, iterations=10, lr=1e-2, *, warm=None, side=None):
    """Adam on |A q - b|^2, each step with one draw of A in both products.

    By itself it starts from q = 0. As published (:mod:`pacd.approxgrad`) it goes on from the last
    poison step, with ``warm``, a pair (q, optimizer) that is changed in place, and redraws b too,
    with ``side``. With redrawn noise the expected gradient is E[A A] q - E[A] b, and E[A A] exceeds
    E[A] E[A] by the variance of A: that biases A q towards 0 (measured in notebooks/audit.ipynb).
    The residual of a warm solve is that before its last step.
    """
    q, optimizer = warm or from_zero(b, lr)
    for iteration in range(iterations):
        if side and iteration:
            b = side()
        product = draw()
        r = [x - y for x, y in zip(product(q), b)]
        for x, gradient in zip(q, product(r)):
            x.grad = gradient
        optimizer.step()
    solution = [x.detach() for x in q]
    if warm:
        return solution, (dot(r, r) / dot(b, b).clamp(min=1e-30)).sqrt().item()
    return solution, residual_of(draw(), b, solution)


def from_zero(b, lr):
    """The start of a solve by :func:`adam`: q = 0, and its optimizer."""
    q = [torch.zeros_like(x) for x in b]
    return q, torch.optim.Adam(q, lr=lr)


def neumann(draw, b, iterations=10, scale=None):
    """Truncated Neumann series q = scale * sum_i (I - scale A)^i b.

    It needs scale below 2 / largest eigenvalue. By default the reciprocal of that eigenvalue,
    estimated by five power iterations from b: it differs too much between networks for a constant
    (between 35 and over 200 on small ones under Gaussian augmentation).
    """
    product = draw()
    if scale is None:
        v = b
        for _ in range(5):
            length = dot(v, v).sqrt().clamp(min=1e-30)
            v = product([x / length for x in v])
        scale = 1 / dot(v, v).sqrt().clamp(min=1e-6)
    term = [scale * x for x in b]
    q = list(term)
    for _ in range(iterations):
        term = [x - scale * y for x, y in zip(term, product(term))]
        q = plus(q, 1, term)
    return q, residual_of(product, b, q)


SOLVERS = {"identity": identity, "cg": conjugate_gradient, "adam": adam, "neumann": neumann}
