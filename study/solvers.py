"""Each solver's hypergradient against that of a solve to convergence, and what it costs."""

from functools import partial
from typing import NamedTuple

import torch

from pacd.hypergradient import hypergradient
from pacd.smoothing import soft_radius
from pacd.train import train
from study.evaluations import Count
from study.minres import SOLVERS

# Solver, its options, redrawn noise.
COMPARED = [
    ("identity", {}, False),
    ("cg", {"iterations": 5}, False),
    ("cg", {"iterations": 20}, False),
    ("minres", {"iterations": 5}, False),
    ("minres", {"iterations": 20}, False),
    ("neumann", {"iterations": 10}, False),
    ("adam", {"iterations": 10}, False),
    ("adam", {"iterations": 10}, True),
]
# The authors', and one of the size of the negative curvature; see notebooks/audit.ipynb.
DAMPINGS = (1e-3, 3.0)
EPOCHS, VALIDATION, COPIES = 3, 100, 8  # of the network; images and their noisy copies


class Solved(NamedTuple):
    """A hypergradient (m, C, H, W), the relative residual of its solve, and what it cost."""

    gradient: torch.Tensor
    residual: float
    evaluations: float


def solver_errors(problem, units, *, seeds, images, iterations):
    """Each solver's hypergradient against MINRES to convergence on the same frozen noise.

    Parameters
    ----------
    problem : pacd.attack.Problem
    units : dict
        Gradient evaluations of an image in each kind of pass; see :mod:`study.evaluations`.
    seeds : list of int
        One network for each, after three epochs.
    images : int
        Images of the class, and as many others, in the system that is solved.
    iterations : int
        Of the solve to convergence.

    Returns
    -------
    list of dict
        A line for each solver, damping and seed.
    """
    lines = []
    for seed in seeds:
        model = problem.make_model(100 + seed)
        x, y = problem.splits.x_train, problem.splits.y_train
        train(model, x, y, problem.loss, epochs=EPOCHS, batch=100, lr=1e-3, seed=seed)
        solved = partial(_solved, problem, units, model, seed, images)
        for damping in DAMPINGS:
            converged = {"iterations": iterations, "tolerance": 1e-5}
            exact = solved("minres", converged, False, damping)
            for solver, options, redraw in COMPARED:
                found = solved(solver, options, redraw, damping)
                case = {"case": _label(solver, options, redraw), "seed": seed, "damping": damping}
                lines.append(case | _compared(found, exact))
    return lines


def _solved(problem, units, model, seed, images, solver, options, redraw, damping):
    """One hypergradient; the noise is the same for every solver, but where it is redrawn."""
    splits, target = problem.splits, problem.target_class
    poisoned, validated = splits.y_train == target, splits.y_val == target
    u = splits.x_train[poisoned][:images].clone().requires_grad_()
    x, y = splits.x_train[~poisoned][:images], splits.y_train[~poisoned][:images]
    labels = torch.cat([y, y.new_full((len(u),), target)])
    x_val, y_val = splits.x_val[validated][:VALIDATION], splits.y_val[validated][:VALIDATION]
    generator = torch.Generator(u.device).manual_seed(seed)
    count = Count(problem.loss, lambda _: model)
    count.images["radius"] = COPIES * len(x_val)

    def inner():
        return count.loss(model, torch.cat([x, u]), labels, generator=generator)

    def outer():
        return soft_radius(model, x_val, y_val, problem.sigma, COPIES, generator).mean()

    solve = count.solver(partial(SOLVERS[solver], **options))
    parameters = list(model.parameters())
    found = hypergradient(outer, inner, parameters, u, solve, damping, redraw)
    return Solved(found.gradient, found.residual, count.evaluations(units))


def _label(solver, options, redraw):
    return " ".join([solver, *map(str, options.values()), *["redrawn"] * redraw])


def _compared(found, exact):
    """How far a hypergradient is from the exact one, and from its direction and signs."""
    a, b = found.gradient, exact.gradient
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).item()
    return {
        "evaluations": found.evaluations,
        "residual": found.residual,
        "reference_residual": exact.residual,
        "error": (1 - min(1, cosine**2)) ** 0.5,
        "cosine": cosine,
        "signs": (a.sign() == b.sign()).float().mean().item(),
    }
