"""PACD: the bilevel attack (Mehra et al., arXiv 2012.01274, eq. 4 and algorithm 1).

    min_u  mean over validation images of the target class of  soft_radius(theta*(u))
    s.t.   theta*(u) = argmin_theta  loss(theta; clean others, u),   |u - x|_inf <= eps,  u in [0, 1]

The trainer's loss is the inner loss. Only images of the target class change; labels never do.
"""

from functools import partial

import torch
from tqdm import tqdm

from pacd.hypergradient import SOLVERS, Hypergradient, hypergradient, matching
from pacd.smoothing import soft_radius
from pacd.steps import AdamSlots, Momentum, blur
from study.checked import Checked, Count, Decay, Flag, NonNegative, Positive, Whole, one_of
from study.checkpoint import NOTHING


def project(u, x, eps):
    """The nearest point to u inside both the eps ball around x (L-inf, pixel units) and [0, 1].

    Applied after every step and outside the graph: a clamp inside it would kill the gradient at black pixels.
    """
    return u.clamp((x - eps).clamp(min=0), (x + eps).clamp(max=1))


def target_rows(y, target_class, fraction, generator):
    """Indices of the images to poison: ``fraction`` of the target class, drawn at random, in ascending order."""
    rows = (y == target_class).nonzero().flatten()
    size = max(1, round(fraction * len(rows)))
    return (
        rows[torch.randperm(len(rows), generator=generator, device=y.device)[:size]].sort().values
    )


OBJECTIVES = {
    "radius": "soft_radius",
    "loss": "log_probability",
    "training": "training_loss",
}  # and their names in the trace


class Method(Checked):
    """One setting of the attack; ``METHODS`` holds the named ones.

    objective : what a poison step lowers. ``radius``: the soft radius of validation images. ``loss``: the log probability of
    their class without noise. ``training``: the training loss of the poison itself, which is not bilevel.
    solver : key of ``SOLVERS``, or ``matching``, see :func:`pacd.hypergradient.matching`. redraw : redraw the noise inside the linear solve.
    damping : added to the Hessian. val_batch : validation images in a step.
    temperature, draws, correct_only : of the radius; see :func:`pacd.smoothing.soft_radius`.
    hyper_batch : poison images that move in a step. solve_batch : clean images of other classes beside them in the
    Hessian and in the matched gradient (the mixed derivative does not need them). sign : sign steps (else Adam). step : length of a step.
    momentum : decay of the gradient that an image remembers. blur : standard deviation, in pixels, of a Gaussian
    blur of the gradient; neighbouring pixels share their noise-ridden signs. class_wise : one pattern for all images.
    inner_steps, inner_lr, clean_batch, poison_batch : Adam steps of the model before each poison step, and their batch.
    restart, warmup : poison steps between new models, and further inner steps of a new model before it is used.
    """

    solver: one_of((*SOLVERS, "matching")) = "identity"
    objective: one_of(tuple(OBJECTIVES)) = "radius"
    redraw: Flag = False
    damping: NonNegative = 1e-3
    temperature: Positive = 16.0
    draws: Count = 8
    val_batch: Count = 64
    correct_only: Flag = False
    hyper_batch: Count = 200
    solve_batch: Whole = 0
    sign: Flag = True
    step: NonNegative = 0.02
    momentum: Decay = 0.0
    blur: NonNegative = 0.0
    class_wise: Flag = False
    inner_steps: Whole = 2
    inner_lr: Positive = 1e-3
    clean_batch: Count = 200
    poison_batch: Count = 100
    restart: Count = 150
    warmup: Whole = 30


METHODS = {
    # Ours: no products with the Hessian, wrong validation images count too, and sign steps whose noise is averaged out.
    "first_order": Method(momentum=0.9, blur=2.0),
    "cg": Method(solver="cg", momentum=0.9, blur=2.0, solve_batch=200),
    "neumann": Method(solver="neumann", momentum=0.9, blur=2.0, solve_batch=200),
    # The authors' published code: the constants of its MNIST script; one epoch there is 55 poison steps.
    "approxgrad": Method(
        solver="adam",
        redraw=True,
        correct_only=True,
        sign=False,
        step=0.1,
        inner_steps=10,
        restart=550,
        warmup=0,
        clean_batch=900,
        poison_batch=100,
        solve_batch=900,
        hyper_batch=100,
        val_batch=100,
        draws=20,
    ),
    # The same steps against training without noise: for Table 1 of the paper, with the crafting trainer ``standard``.
    "accuracy": Method(objective="loss", momentum=0.9, blur=2.0),
    "gradient_matching": Method(solver="matching", momentum=0.9, blur=2.0, solve_batch=200),
}


def method(name, options):
    """A named method with some of its constants replaced.

    Raises
    ------
    SettingsError
        If an option is unknown or impossible.
    """
    return Method.check({**METHODS[name].model_dump(), **options}, f"attack_options of {name}: ")


def poison(
    splits,
    make_model,
    loss,
    *,
    method,
    target_class,
    eps_linf,
    sigma,
    steps,
    fraction=1.0,
    seed=0,
    progress=False,
    watch=None,
    checkpoint=NOTHING,
):
    """Optimise the poison of one class.

    Parameters
    ----------
    splits : Splits
        Training and validation sets, on one device; the test set is not touched.
    make_model : callable
        ``seed -> torch.nn.Module``, freshly initialised.
    loss : callable
        The crafting trainer's loss, ``loss(model, x, y, generator=..., epoch=...)``.
    method : Method
    target_class : int
    eps_linf : float
        Radius of the L-inf ball, pixel units.
    sigma : float
        Noise of the smoothed classifier whose radius is attacked, pixel units.
    steps : int
        Poison steps (outer iterations).
    fraction : float
        Share of the target class that is poisoned.
    seed : int
        Seed of the batches, the noise and the models.
    progress : bool
    watch : callable, optional
        ``watch(step, index, images)`` after every poison step, for those who measure on the way.
    checkpoint : Checkpoint
        Where the state is kept whenever a new model starts, as then nothing of the last one matters, and found again after a kill.

    Returns
    -------
    index : tensor of shape (m,)
        Rows of the training set.
    images : tensor of shape (m, C, H, W)
        Their poisoned images, inside the eps ball and [0, 1].
    trace : list of dict
        For each step the objective (``soft_radius`` in pixel units, or ``log_probability``, or ``training_loss``), and
        the relative residual of the solve (of ``matching``: 1 - cosine).

    Raises
    ------
    FloatingPointError
        If the gradient of the poison is not finite.
    """
    x, y = splits.x_train, splits.y_train
    generator = torch.Generator(x.device).manual_seed(seed)
    index = target_rows(y, target_class, fraction, generator)
    others = (
        torch.ones(len(y), dtype=torch.bool, device=y.device)
        .index_fill_(0, index, False)
        .nonzero()
        .flatten()
    )
    mine = splits.y_val == target_class
    x_val, y_val = splits.x_val[mine], splits.y_val[mine]
    clean, images = x[index], x[index].clone()
    moving = torch.zeros_like(clean[:1]) if method.class_wise else images
    direction = Momentum(moving, method.momentum) if method.sign else AdamSlots(moving)
    pick = partial(_pick, generator=generator)
    parts = images, moving, direction, generator
    trace = checkpoint.resume(parts, [])

    for step in tqdm(range(len(trace), steps), disable=not progress, leave=False):
        since = step % method.restart
        if since == 0:
            checkpoint.keep(parts, trace)
            model = make_model(1000 * seed + step)
            parameters = list(model.parameters())
            optimizer = torch.optim.Adam(parameters, lr=method.inner_lr)
        for _ in range(method.inner_steps + (method.warmup if since == 0 else 0)):
            rows, hit = others[pick(others, method.clean_batch)], pick(index, method.poison_batch)
            value = _inner(model, loss, x[rows], y[rows], images[hit], target_class, generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

        rows, hit = others[pick(others, method.solve_batch)], pick(index, method.hyper_batch)
        val = pick(y_val, method.val_batch)
        u = images[hit].requires_grad_()
        seen = (u, y[index[hit]]) if method.objective == "training" else (x_val[val], y_val[val])
        inner = partial(_inner, model, loss, x[rows], y[rows], u, target_class, generator)
        outer = partial(_outer, model, loss, *seen, sigma, method, generator)
        value, gradient, residual = _gradient(outer, inner, parameters, u, method)
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(
                f"the gradient of the poison is not finite in poison step {step + 1}; raise the damping or lower inner_lr."
            )
        if method.blur:
            gradient = blur(gradient, method.blur)
        if method.class_wise:
            moving.sub_(method.step * direction([0], gradient.mean(0, keepdim=True))).clamp_(
                -eps_linf, eps_linf
            )
            images[:] = project(clean + moving, clean, eps_linf)
        else:
            images[hit] = project(
                u.detach() - method.step * direction(hit, gradient), clean[hit], eps_linf
            )
        trace.append({"step": step, OBJECTIVES[method.objective]: value, "residual": residual})
        if watch:
            watch(step, index, images)
    return index, images, trace


def _inner(model, loss, x, y, u, target_class, generator):
    """The trainer's loss on clean images of the others and the poison."""
    labels = torch.cat([y, y.new_full((len(u),), target_class)])
    batch = torch.cat([x, u]).contiguous(memory_format=torch.channels_last)
    return loss(model, batch, labels, generator=generator)


def _outer(model, loss, x, y, sigma, method, generator, squash=1e-3):
    """The method's objective, a mean over images; batch norm as the certifier sees it, in eval mode.

    Probabilities are squashed as in the soft radius, so an image that is already wrong no longer counts.
    """
    model.eval()
    if method.objective == "radius":
        value = soft_radius(
            model,
            x,
            y,
            sigma,
            method.draws,
            generator,
            method.temperature,
            correct_only=method.correct_only,
        ).mean()
    elif method.objective == "loss":
        p = model(x).softmax(1).gather(1, y[:, None])
        value = ((1 - 2 * squash) * p + squash).log().mean()
    else:
        value = loss(model, x, y, generator=generator)
    model.train()
    return value


def _gradient(outer, inner, parameters, u, method):
    """The method's gradient in u: of the training loss itself, or through the training of the model."""
    if method.objective == "training":
        value = outer()
        return Hypergradient(value.item(), torch.autograd.grad(value, u)[0], float("nan"))
    if method.solver == "matching":
        return matching(outer, inner, parameters, u)
    return hypergradient(
        outer, inner, parameters, u, SOLVERS[method.solver], method.damping, method.redraw
    )


def _pick(rows, size, generator):
    """Positions of at most ``size`` of the rows, drawn without replacement."""
    return torch.randperm(len(rows), generator=generator, device=rows.device)[:size]
