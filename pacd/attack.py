"""PACD: the bilevel attack (Mehra et al., arXiv 2012.01274, eq. 4 and algorithm 1).

    min_u  mean over validation images of the target class of  soft_radius(theta*(u))
    s.t.   theta*(u) = argmin_theta  loss(theta; clean others, u),  |u - x|_inf <= eps,  u in [0, 1]

The trainer's loss is the inner loss. Only images of the target class change; labels never do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Gt, Interval

from pacd.data import Splits
from pacd.hypergradient import SOLVERS, Hypergradient, hypergradient, matching
from pacd.losses import Whole
from pacd.smoothing import blur, soft_radius
from pacd.train import NOTHING, make_optimizer, model_step


class Problem(NamedTuple):
    """What every attack is given: data, network, trainer, and what the attacker may change.

    splits : training and validation sets, on one device; no attack touches the test set.
    make_model : ``seed -> torch.nn.Module``, freshly initialised.
    loss : the crafting trainer's, ``loss(model, x, y, generator=..., epoch=...) -> scalar``.
    sigma : noise of the smoothed classifier whose radius is attacked, pixel units.
    target_class : the class whose images change.
    eps_linf : radius of the L-inf ball around each image, pixel units.
    fraction : share of the class that is poisoned.
    """

    splits: Splits
    make_model: Callable
    loss: Callable
    sigma: float
    target_class: int
    eps_linf: float
    fraction: float = 1.0

    def poisoned_rows(self, generator):
        """Rows of ``fraction`` of the class, drawn at random, in ascending order; (m,)."""
        rows = (self.splits.y_train == self.target_class).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator, device=rows.device)
        return rows[order[: max(1, round(self.fraction * len(rows)))]].sort().values

    def validation(self):
        """Images and labels of the class on which the attack may look, (V, C, H, W) and (V,)."""
        rows = self.splits.y_val == self.target_class
        return self.splits.x_val[rows], self.splits.y_val[rows]


def project(u, x, eps):
    """The nearest point to u inside both the eps ball around x (L-inf, pixel units) and [0, 1].

    Applied after every step and outside the graph: a clamp inside it would kill the gradient at
    black pixels.
    """
    return u.clamp((x - eps).clamp(min=0), (x + eps).clamp(max=1))


@dataclass(frozen=True)
class Method:
    """One setting of the attack; ``METHODS`` holds the named ones.

    objective : a key of ``OBJECTIVES``, what a poison step lowers.
    solver : key of ``SOLVERS``, or ``matching``, see :func:`pacd.hypergradient.matching`.
    damping : added to the Hessian.
    temperature, draws : of the radius; see :func:`pacd.smoothing.soft_radius`.
    val_batch : validation images in a step.
    hyper_batch : poison images that move in a step.
    solve_batch : clean images of other classes beside them in the Hessian and in the matched
    gradient (the mixed derivative does not need them).
    step : length of a sign step.
    momentum : decay of the gradient that an image remembers.
    blur : standard deviation, in pixels, of a Gaussian blur of the gradient; neighbouring pixels
    share their noise-ridden signs.
    class_wise : one pattern for all images.
    inner_steps, inner_lr, clean_batch, poison_batch : Adam steps of the model before each poison
    step, and their batch.
    restart, warmup : poison steps between new models, and further inner steps of a new model
    before it is used.
    """

    solver: Literal[(*SOLVERS, "matching")] = "identity"
    objective: Literal["radius", "loss", "training"] = "radius"
    damping: float = 1e-3
    temperature: Annotated[float, Gt(0)] = 16.0
    draws: int = 8
    val_batch: int = 64
    hyper_batch: int = 200
    solve_batch: Whole = 0
    step: float = 0.02
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    blur: float = 0.0
    class_wise: bool = False
    inner_steps: Whole = 2
    inner_lr: Annotated[float, Gt(0)] = 1e-3
    clean_batch: int = 200
    poison_batch: int = 100
    restart: int = 150
    warmup: Whole = 30


# Ours: no products with the Hessian, wrong validation images count too, and sign steps whose noise
# is averaged out.
OURS = partial(Method, momentum=0.9, blur=2.0)
METHODS = {
    "first_order": OURS(),
    "cg": OURS(solver="cg", solve_batch=200),
    "neumann": OURS(solver="neumann", solve_batch=200),
    # The same steps against training without noise: for Table 1 of the paper, with the crafting
    # trainer ``standard``.
    "accuracy": OURS(objective="loss"),
    "gradient_matching": OURS(solver="matching", solve_batch=200),
}


def poison(problem, *, method, steps, seed=0, watch=None, checkpoint=NOTHING):
    """Optimise the poison of one class.

    Parameters
    ----------
    problem : Problem
    method : Method
    steps : int
        Poison steps (outer iterations).
    seed : int
        Seed of the batches, the noise and the models.
    watch : callable, optional
        ``watch(step, index, images)`` after every poison step, for those who measure on the way.
    checkpoint : object
        Where the state is kept whenever a new model starts, as then nothing of the last one
        matters, and found again after a kill.

    Returns
    -------
    index : tensor of shape (m,)
        Rows of the training set.
    images : tensor of shape (m, C, H, W)
        Their poisoned images, inside the eps ball and [0, 1].
    trace : list of dict
        For each step the objective (``soft_radius`` in pixel units, or ``log_probability``, or
        ``training_loss``), and the relative residual of the solve (of ``matching``: 1 - cosine).

    Raises
    ------
    FloatingPointError
        If the gradient of the poison is not finite.
    """
    generator = torch.Generator(problem.splits.x_train.device).manual_seed(seed)
    made = Descent(problem, method, generator)
    trace = checkpoint.resume(made.state, [])
    for step in range(len(trace), steps):
        fresh = step % method.restart == 0
        if fresh:
            checkpoint.keep(made.state, trace)
            model = problem.make_model(1000 * seed + step)
            train_step = made.model_step(model, method.inner_lr)
        for _ in range(method.inner_steps + fresh * method.warmup):
            train_step(*made.labelled(*made.batch(method.clean_batch, method.poison_batch)))
        trace.append({"step": step, **made.move(model, step)})
        if watch:
            watch(step, made.index, made.images)
    return made.index, made.images, trace


class Poison:
    """The images while they are optimised, their batches and the two objectives.

    Parameters
    ----------
    problem : Problem
    generator : torch.Generator
        Of all draws.
    """

    def __init__(self, problem, generator):
        self.problem, self.generator = problem, generator
        self.x, self.y = problem.splits.x_train, problem.splits.y_train
        self.index = problem.poisoned_rows(generator)
        others = torch.ones(len(self.y), dtype=torch.bool, device=self.y.device)
        self.others = others.index_fill_(0, self.index, False).nonzero().flatten()
        self.x_val, self.y_val = problem.validation()
        self.clean = self.x[self.index]
        self.images = self.clean.clone()  # u

    def batch(self, clean_size, poison_size):
        """Rows of clean images, of all classes that are not poisoned, and places in the poison."""
        rows = self.others[self.pick(self.others, clean_size)]
        return rows, self.pick(self.index, poison_size)

    def pick(self, rows, size):
        """Positions of at most ``size`` of the rows, drawn without replacement."""
        order = torch.randperm(len(rows), generator=self.generator, device=rows.device)
        return order[:size]

    def labelled(self, rows, places, u=None):
        """Clean images and the poison in ``places``, or ``u`` for it, and their labels."""
        u = self.images[places] if u is None else u
        images = torch.cat([self.x[rows], u]).contiguous(memory_format=torch.channels_last)
        return images, torch.cat([self.y[rows], self.y[self.index[places]]])

    def model_step(self, model, lr):
        """:func:`pacd.train.model_step` by the trainer's loss and Adam."""
        adam = make_optimizer(model, "adam", lr, 0.0)
        return model_step(model, self.problem.loss, adam, self.generator)

    def inner(self, model, rows, places, u):
        """The trainer's loss on clean images and on ``u`` for the poison in ``places``."""
        return self.problem.loss(model, *self.labelled(rows, places, u), generator=self.generator)

    def outer(self, model, objective, x, y):
        """The objective with batch norm as the certifier sees it, in evaluation mode."""
        model.eval()
        value = objective(model, x, y, self)
        model.train()
        return value


class Descent(Poison):
    """Poison that moves by the steps of a :class:`Method`."""

    def __init__(self, problem, method, generator):
        super().__init__(problem, generator)
        self.method = method
        self.pattern = torch.zeros_like(self.clean[:1]) if method.class_wise else self.images
        self.direction = Momentum(self.pattern, method.momentum)
        self.state = self.images, self.pattern, self.direction, generator

    def move(self, model, step):
        """One poison step; the value of the objective and the residual, by their names."""
        method = self.method
        rows, places = self.batch(method.solve_batch, method.hyper_batch)
        chosen = self.pick(self.y_val, method.val_batch)
        u = self.images[places].requires_grad_()
        name, objective = OBJECTIVES[method.objective]
        on_poison = method.objective == "training"
        x = u if on_poison else self.x_val[chosen]
        y = self.y[self.index[places]] if on_poison else self.y_val[chosen]
        outer = partial(self.outer, model, objective, x, y)
        inner = partial(self.inner, model, rows, places, u)
        value, gradient, residual = _gradient(outer, inner, model, u, method)
        require_finite(gradient, step)
        self.update(places, u.detach(), gradient)
        return {name: value, "residual": residual}

    def update(self, places, u, gradient):
        """Move the images in ``places``, or the pattern of all of them, and project."""
        method, eps = self.method, self.problem.eps_linf
        if method.blur:
            gradient = blur(gradient, method.blur)
        if method.class_wise:
            step = method.step * self.direction([0], gradient.mean(0, keepdim=True))
            self.pattern.sub_(step).clamp_(-eps, eps)
            self.images[:] = project(self.clean + self.pattern, self.clean, eps)
        else:
            u = u - method.step * self.direction(places, gradient)
            self.images[places] = project(u, self.clean[places], eps)


class Momentum:
    """Sign of each image's decaying sum of gradients (MI-FGSM, arXiv 1710.06081).

    ``direction(rows, gradient)``: the gradient, of shape (m, C, H, W), belongs to the images in
    ``rows``. Each is scaled to a mean absolute value of 1.
    """

    def __init__(self, images, decay):
        self.sum, self.decay = torch.zeros_like(images), decay

    def __call__(self, rows, gradient):
        scale = gradient.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)
        self.sum[rows] = self.decay * self.sum[rows] + gradient / scale
        return self.sum[rows].sign()


def require_finite(gradient, step):
    if not torch.isfinite(gradient).all():
        where = f"poison step {step + 1}; raise the damping or lower inner_lr."
        raise FloatingPointError(f"the gradient of the poison is not finite in {where}")


def radius(model, x, y, poison):
    """The mean soft radius of validation images."""
    method, sigma = poison.method, poison.problem.sigma
    options = method.draws, poison.generator, method.temperature
    return soft_radius(model, x, y, sigma, *options).mean()


def log_probability(model, x, y, poison, squash=1e-3):
    """The mean log probability of their class, without noise.

    Squashed as in the soft radius, so an image that is already wrong no longer counts.
    """
    p = model(x).softmax(1).gather(1, y[:, None])
    return ((1 - 2 * squash) * p + squash).log().mean()


def training_loss(model, x, y, poison):
    """The training loss of the poison itself, which is not bilevel."""
    return poison.problem.loss(model, x, y, generator=poison.generator)


# What a poison step lowers: its name in the trace, and its function.
OBJECTIVES = {
    "radius": ("soft_radius", radius),
    "loss": ("log_probability", log_probability),
    "training": ("training_loss", training_loss),
}


def _gradient(outer, inner, model, u, method):
    """The method's gradient in u: of the training loss itself, or through the training."""
    parameters = list(model.parameters())
    if method.objective == "training":
        value = outer()
        return Hypergradient(value.item(), torch.autograd.grad(value, u)[0], float("nan"))
    if method.solver == "matching":
        return matching(outer, inner, parameters, u)
    solver = SOLVERS[method.solver]
    return hypergradient(outer, inner, parameters, u, solver, method.damping)
