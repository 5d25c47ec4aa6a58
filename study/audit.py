"""What the audit notebook holds the hypergradient against: closed forms, differences, solves."""

from functools import partial

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from pacd import hypergradient as hg
from study.minres import SOLVERS, minres

AUTHORS = {"damping": 1e-3, "iterations": 10, "lr": 1e-2}  # of the authors' linear solve
PRODUCTS = {"cg": 1, "minres": 1, "neumann": 1, "adam": 2}  # Hessian-vector products an iteration
# Solver, and whether it meets fresh noise in each of its steps.
COMPARED = (("cg", False), ("cg", True), ("minres", False), ("neumann", False))
COMPARED += (("adam", False), ("adam", True))
# To convergence on the closed form.
SOLVES = {
    "cg": partial(hg.conjugate_gradient, iterations=50, tolerance=1e-12),
    "minres": partial(minres, iterations=50, tolerance=1e-12),
    "neumann": partial(hg.neumann, iterations=400, scale=0.5),
    "adam": partial(hg.adam, iterations=3000, lr=1e-2),
    "identity": hg.identity,
}


def relative(a, b):
    """|a - b| / |b|."""
    return ((a - b).norm() / b.norm()).item()


class Ridge:
    """Ridge regression on digits, 8 against 3, in 16 averaged pixels; u are its training images."""

    strength, step = 0.1, 1e-4

    def __init__(self, splits):
        self.u, self.signs = self._pixels(splits.x_train, splits.y_train)  # (N, 16), (N,)
        self.x_val, self.signs_val = self._pixels(splits.x_val, splits.y_val)
        self.u.requires_grad_()
        self.exact = torch.autograd.grad(self.outer(self.optimum(self.u)), self.u)[0]

    @staticmethod
    def _pixels(x, y, count=60):
        rows = ((y == 8) | (y == 3)).nonzero().flatten()[:count]
        pixels = nn.functional.avg_pool2d(x[rows].double(), 7).flatten(1)
        return pixels, (y[rows] == 8).double() * 2 - 1

    def optimum(self, u):
        """The solution of the inner problem, (16,)."""
        ridge = self.strength * torch.eye(16, dtype=u.dtype)
        return torch.linalg.solve(u.T @ u / len(u) + ridge, u.T @ self.signs / len(u))

    def inner(self, u, w):
        return ((u @ w - self.signs) ** 2).mean() / 2 + self.strength * (w**2).sum() / 2

    def outer(self, w):
        return ((self.x_val @ w - self.signs_val) ** 2).mean() / 2

    def error(self, solve):
        """Relative error of a solver's hypergradient to the closed form's, and its residual."""
        w = self.optimum(self.u).detach().requires_grad_()
        losses = partial(self.outer, w), partial(self.inner, self.u, w)
        found = hg.hypergradient(*losses, [w], self.u, solve, damping=0.0)
        return {"residual": found.residual, "error": relative(found.gradient, self.exact)}

    def error_of_differences(self, directions):
        """The closed form against finite differences of the regression along directions."""
        ends = [[self.u + sign * self.step * d for sign in (1, -1)] for d in directions]
        values = [[self.outer(self.optimum(u)) for u in pair] for pair in ends]
        slopes = torch.stack([there - back for there, back in values]) / (2 * self.step)
        return relative((directions * self.exact).sum((1, 2)), slopes)


class Curvature:
    """Gradients, products and systems of a network's training loss; ``noise`` is a seed."""

    def __init__(self, network, loss, x, y):
        self.network, self.loss, self.x, self.y = network, loss, x, y
        self.parameters = list(network.parameters())
        self.size = sum(p.numel() for p in self.parameters)

    def flat(self, vectors):
        return torch.cat([v.flatten() for v in vectors])

    def lists(self, vector):
        parts = torch.as_tensor(vector).ravel().split([p.numel() for p in self.parameters])
        return [part.view(p.shape) for part, p in zip(parts, self.parameters)]

    @torch.enable_grad()
    def gradient(self, noise, x=None, by=None, **graph):
        """Gradient of the training loss, by the weights or by ``by``."""
        x, generator = self.x if x is None else x, torch.Generator().manual_seed(noise)
        value = self.loss(self.network, x, self.y, generator=generator)
        return torch.autograd.grad(value, self.parameters if by is None else by, **graph)

    def system(self, noise, damping):
        """v -> (H + damping I) v on one draw of noise."""
        graph = self.gradient(noise, create_graph=True)

        def product(v):
            products = torch.autograd.grad(graph, self.parameters, v, retain_graph=True)
            return [h + damping * z for h, z in zip(products, v)]

        return product

    def central(self, direction, function, step=1e-6):
        """Derivative of ``function()`` along a direction of the weights."""
        there, back = (self._moved(sign * step, direction, function) for sign in (1, -1))
        return (there - back) / (2 * step)

    @torch.no_grad()
    def _moved(self, step, direction, function):
        """``function()`` with the weights moved, and put back."""
        for p, d in zip(self.parameters, direction):
            p += step * d
        result = function()
        for p, d in zip(self.parameters, direction):
            p -= step * d
        return result

    def errors(self, direction):
        """Hessian-vector product and mixed derivative against central differences."""
        poison = self.x.clone().requires_grad_()
        graph = self.gradient(1, poison, create_graph=True)
        product = torch.autograd.grad(graph, self.parameters, direction, retain_graph=True)
        (mixed,) = torch.autograd.grad(graph, poison, direction)
        hessian = self.central(direction, lambda: self.flat(self.gradient(1)))
        by_input = self.central(direction, lambda: self.gradient(1, poison, poison)[0])
        return {
            "Hessian-vector product": relative(self.flat(product), hessian),
            "mixed derivative": relative(mixed, by_input),
        }

    def ends(self):
        """Largest and smallest eigenvalue of the Hessian."""
        product = self.system(0, 0.0)
        matvec = lambda v: self.flat(product(self.lists(v))).numpy()
        operator = LinearOperator((self.size, self.size), matvec, dtype=float)
        options = {"return_eigenvectors": False, "tol": 1e-2}
        return [eigsh(operator, 1, which=end, **options)[0] for end in ("LA", "SA")]


class Draws:
    """A draw of the system at every call: ``fresh`` noise, or the frozen one."""

    def __init__(self, curvature, damping, fresh):
        self.curvature, self.damping, self.fresh, self.noise = curvature, damping, fresh, 1000
        self.frozen = curvature.system(0, damping)

    def __call__(self):
        self.noise += 1
        return self.curvature.system(self.noise, self.damping) if self.fresh else self.frozen


def solved(name, draws, b, count, lr=AUTHORS["lr"]):
    """Solution after ``count`` iterations.

    CG asks for one draw only, so its redrawn product redraws itself.
    """
    if name == "adam":
        return hg.adam(draws, b, count, lr)[0]
    inner = (lambda: lambda v: draws()(v)) if draws.fresh else draws
    return SOLVERS[name](inner, b, count)[0]


class Averaged:
    """The expectations over draws of noise: of the system, and of its square."""

    def __init__(self, curvature, draws):
        self.products = [curvature.system(2000 + i, 0.0) for i in range(draws)]

    def mean(self, v, damping):
        parts = zip(*(product(v) for product in self.products))
        return [sum(part) / len(self.products) + damping * z for part, z in zip(parts, v)]

    def mean_square(self, v, damping):
        twice = []
        for product in self.products:
            once = hg.plus(product(v), damping, v)
            twice.append(hg.plus(product(once), damping, once))
        return [sum(part) / len(self.products) for part in zip(*twice)]

    def limit_of_redrawing(self, solve, b, damping):
        """Where Adam on redrawn noise ends, the ridge estimate; with its residual."""
        square = partial(self.mean_square, damping=damping)
        return solve(lambda: square, self.mean(b, damping))


def compared(q, product, b, frozen):
    """Length and cosine against the converged solution on the frozen noise, both flat.

    ``fit`` is 1 where ``product(q)`` has all of b.
    """
    vector, fit = torch.cat([v.flatten() for v in q]), hg.dot(b, product(q)) / hg.dot(b, b)
    ratio, cosine = vector.norm() / frozen.norm(), vector @ frozen / vector.norm() / frozen.norm()
    return {"ratio": ratio.item(), "cosine": cosine.item(), "fit": fit.item()}


def summary(table, curvature, damping):
    """What came out, in sentences.

    Parameters
    ----------
    table : DataFrame
        The audit's rows.
    curvature : list of two floats
        Smallest and largest eigenvalue.
    damping : float
        Of the system that is solved to convergence.

    Returns
    -------
    list of str
    """

    def last(part, quantity, **where):
        chosen = table[table["part"] == part]
        for name, value in where.items():
            chosen = chosen[chosen[name] == value]
        return chosen[quantity].iloc[-1]

    solve, weak = partial(last, "solve", "residual"), AUTHORS["damping"]
    most = last("solve", "iterations", solver="cg")
    end = last("redrawing", "iterations", solver="adam")
    fit = partial(last, "redrawing", "fit", solver="adam", iterations=end)
    authors = solve(solver="adam", redraw=True, damping=weak, iterations=AUTHORS["iterations"])
    reference = table[table["part"] == "reference"].set_index("solver")
    limit, averaged = reference.loc["limit of redrawing"], reference.loc["averaged draws"]
    closed = partial(last, "closed form", "error")
    return [
        f"Closed form: relative error {closed(solver='cg'):.0e} with CG, "
        f"{closed(solver='identity'):.2f} at first order; "
        f"finite differences {last('finite differences', 'error'):.0e}.",
        f"Products against central differences: "
        f"Hessian-vector product {last('Hessian-vector product', 'error'):.0e}, "
        f"mixed derivative {last('mixed derivative', 'error'):.0e}.",
        f"The Hessian's eigenvalues run from {curvature[0]:.2f} to {curvature[1]:.1f}. "
        f"At damping {weak:g} CG ends at residual "
        f"{solve(solver='cg', redraw=False, damping=weak):.2g}, MINRES reaches "
        f"{solve(solver='minres', damping=weak):.2g} in {most} products, "
        f"the authors' solve {authors:.2g}.",
        f"At damping {damping:g} CG reaches "
        f"{solve(solver='cg', redraw=False, damping=damping):.1g} on frozen and "
        f"{solve(solver='cg', redraw=True, damping=damping):.2g} on redrawn noise "
        f"in {most} products.",
        f"After {end:.0f} steps Adam fits {fit(redraw=False):.2f} of b on frozen noise and "
        f"{fit(redraw=True):.2f} with redrawn noise; the limit of redrawing fits "
        f"{limit['fit']:.2f} ({reference['fit'].iloc[-1]:.2f} at the authors' damping) and has "
        f"{limit['ratio'] / averaged['ratio']:.2f} of the length of the averaged system's "
        f"solution.",
    ]
