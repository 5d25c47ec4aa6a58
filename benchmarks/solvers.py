"""Each solver's hypergradient against that of a solve to convergence, and what it costs."""

from functools import partial

import pandas as pd
import torch

from benchmarks.evaluations import Count
from pacd.hypergradient import SOLVERS, hypergradient
from pacd.smoothing import soft_radius
from pacd.train import train

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
DAMPINGS = (
    1e-3,
    3.0,
)  # the authors', and one of the size of the negative curvature; see notebooks/audit.ipynb


def solver_errors(study, sigma, target_class, **unused):
    """Each solver's hypergradient against MINRES to convergence on the same frozen noise; networks after three epochs, one for each seed."""
    splits, target, half = study.splits, target_class, study.images
    mine, others = ((splits.y_train == target) == side for side in (True, False))
    x_val, y_val = (part[splits.y_val == target][:100] for part in (splits.x_val, splits.y_val))
    lines, copies = [], 8
    for seed in study.seeds:
        model = study.make_model(100 + seed)
        train(
            model,
            splits.x_train,
            splits.y_train,
            study.loss,
            epochs=3,
            batch=100,
            lr=1e-3,
            seed=seed,
        )
        u = splits.x_train[mine][:half].clone().requires_grad_()
        x, y = splits.x_train[others][:half], splits.y_train[others][:half]
        labels = torch.cat([y, y.new_full((len(u),), target)])

        def found(solver, options, redraw, damping):
            generator = torch.Generator(u.device).manual_seed(
                seed
            )  # the same noise for every solver, but where it is redrawn
            count = Count(study.loss, lambda _: model)
            solve = count.solver(partial(SOLVERS[solver], **options))
            inner = lambda: count.loss(model, torch.cat([x, u]), labels, generator=generator)  # noqa: E731
            outer = lambda: soft_radius(model, x_val, y_val, sigma, copies, generator).mean()  # noqa: E731
            count.images["radius"] = copies * len(x_val)
            gradient, residual = hypergradient(
                outer, inner, list(model.parameters()), u, solve, damping, redraw
            )[1:]
            return gradient, residual, count.evaluations(study.units)

        for damping in DAMPINGS:
            exact, leftover, _ = found(
                "minres", {"iterations": study.reference, "tolerance": 1e-5}, False, damping
            )
            for solver, options, redraw in COMPARED:
                gradient, residual, evaluations = found(solver, options, redraw, damping)
                cosine = torch.nn.functional.cosine_similarity(
                    gradient.flatten(), exact.flatten(), 0
                ).item()
                case = (
                    solver
                    + "".join(f" {value}" for value in options.values())
                    + (" redrawn" if redraw else "")
                )
                lines.append(
                    {
                        "case": case,
                        "seed": seed,
                        "damping": damping,
                        "evaluations": evaluations,
                        "residual": residual,
                        "reference_residual": leftover,
                        "error": (1 - min(1, cosine**2)) ** 0.5,
                        "cosine": cosine,
                        "signs": (gradient.sign() == exact.sign()).float().mean().item(),
                    }
                )
    return pd.DataFrame(lines)
