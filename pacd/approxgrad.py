"""ApproxGrad as the authors published it: their solver of the bilevel problem, in their order.

Mehra et al. (arXiv 2012.01274, algorithm 1) and the constants of their code for MNIST and Gaussian
augmentation. What a re-implementation loses easily:

- the solution q of the linear system and its Adam moments go on from one poison step to the next,
  until a new model starts; each step of the solve redraws the noise on both sides;
- one batch serves the steps of the model, the solve and the poison step;
- the poison's Adam keeps its moments by slot of the batch, so they mix the images that pass through
  a slot, and starts afresh with the model;
- validation images that are wrong count 0.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from annotated_types import Gt

from pacd.attack import Poison, project, require_finite
from pacd.hypergradient import SOLVERS, from_zero, hypergradient
from pacd.losses import Whole
from pacd.smoothing import soft_radius
from pacd.train import NOTHING


@dataclass(frozen=True)
class ApproxGrad:
    """The constants, named as the symbols of the paper where it has them.

    clean_batch, poison_batch : images of a batch; an epoch goes through the clean ones once.
    val_batch, draws : validation images of the class in a step, and noise draws of each.
    temperature, squash : of the soft radius; see :func:`pacd.smoothing.soft_radius`.
    inner_steps, inner_lr : Adam steps of the model in a poison step.
    solve_steps, solve_lr, damping : Adam steps of the linear solve in a poison step.
    step : step size of the poison's Adam.
    restart : epochs between new models.
    """

    clean_batch: int = 900
    poison_batch: int = 100
    val_batch: int = 100
    draws: int = 20
    temperature: Annotated[float, Gt(0)] = 16.0
    squash: Annotated[float, Gt(0)] = 1e-3
    inner_steps: Whole = 10
    inner_lr: Annotated[float, Gt(0)] = 1e-3
    solve_steps: int = 10
    solve_lr: Annotated[float, Gt(0)] = 1e-2
    damping: float = 1e-3
    step: float = 0.1
    restart: int = 10


PUBLISHED = {"approxgrad": ApproxGrad()}


def approxgrad(problem, *, method, steps, seed=0, watch=None, checkpoint=NOTHING):
    """Optimise the poison of one class as the authors did.

    Parameters, result and errors are those of :func:`pacd.attack.poison`, but for ``method``, an
    :class:`ApproxGrad`. An epoch is :meth:`Batches.per_epoch` poison steps.
    """
    generator = torch.Generator(problem.splits.x_train.device).manual_seed(seed)
    made = Batches(problem, method, generator)
    trace = checkpoint.resume((made.images, generator), [])
    for step in range(len(trace), steps):
        epoch, place = divmod(step, made.per_epoch)
        if place == 0 and epoch % method.restart == 0:
            checkpoint.keep((made.images, generator), trace)
            model = problem.make_model(1000 * seed + step)
            solver = Solver(model, made, method)
        if place == 0:
            made.shuffle()
        trace.append({"step": step, **solver.move(*made.batch(place), step)})
        if watch:
            watch(step, made.index, made.images)
    return made.index, made.images, trace


class Batches(Poison):
    """The poison, and the batches of an epoch.

    Each clean image once, but for what is left over; the poison in turn, for as long as that takes.
    """

    def __init__(self, problem, method, generator):
        super().__init__(problem, generator)
        clean = min(method.clean_batch, len(self.others))
        self.sizes = clean, min(method.poison_batch, len(self.index))

    @property
    def per_epoch(self):
        """Poison steps of an epoch."""
        return len(self.others) // self.sizes[0]

    def shuffle(self):
        self.orders = [self.pick(rows, len(rows)) for rows in (self.others, self.index)]

    def batch(self, place):
        """Rows of clean images and places in the poison, of a step of the epoch."""
        pairs = zip(self.orders, self.sizes)
        clean, poison = (order.roll(-place * size)[:size] for order, size in pairs)
        return self.others[clean], poison


class Solver:
    """A model, and all that goes on until there is another: q, and three Adams."""

    def __init__(self, model, made, method):
        self.model, self.made, self.method = model, made, method
        self.theta = list(model.parameters())
        self.train_step = made.model_step(model, method.inner_lr)
        self.warm = from_zero(self.theta, method.solve_lr)
        self.slots = made.clean[: made.sizes[1]].clone().requires_grad_()
        self.ascent = torch.optim.Adam([self.slots], lr=method.step)

    def move(self, rows, places, step):
        """One poison step; the soft radius and the residual of the solve before its last step."""
        made, method = self.made, self.method
        self.slots.data.copy_(made.images[places])
        for _ in range(method.inner_steps):
            self.train_step(*made.labelled(rows, places))
        chosen = made.pick(made.y_val, method.val_batch)
        outer = partial(made.outer, self.model, self.radius, made.x_val[chosen], made.y_val[chosen])
        inner = partial(made.inner, self.model, rows, places, self.slots)
        solve = partial(
            SOLVERS["adam"],
            iterations=method.solve_steps,
            warm=self.warm,
            side=lambda: torch.autograd.grad(outer(), self.theta),
        )
        system = self.theta, self.slots, solve, method.damping
        found = hypergradient(outer, inner, *system, redraw=True)
        require_finite(found.gradient, step)
        self.slots.grad = found.gradient
        self.ascent.step()
        made.images[places] = project(self.slots.data, made.clean[places], made.problem.eps_linf)
        return {"soft_radius": found.value, "residual": found.residual}

    def radius(self, model, x, y, made):
        method, sigma = self.method, made.problem.sigma
        options = method.draws, made.generator, method.temperature, method.squash
        return soft_radius(model, x, y, sigma, *options, correct_only=True).mean()
