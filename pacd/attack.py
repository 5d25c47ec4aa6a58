"""PACD: the bilevel attack (Mehra et al., arXiv 2012.01274, eq. 4 and algorithm 1).

    min_u  mean over validation images of the target class of  soft_radius(theta*(u))
    s.t.   theta*(u) = argmin_theta  loss(theta; clean others, u),   |u - x|_inf <= eps,  u in [0, 1]

The trainer's loss is the inner loss. Only images of the target class change; labels never do.
"""

from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from tqdm import tqdm

from pacd.hypergradient import SOLVERS, hypergradient
from pacd.smoothing import soft_radius


def project(u, x, eps):
    """The nearest point to u inside both the eps ball around x (L-inf, pixel units) and [0, 1].

    Applied after every step and outside the graph: a clamp inside it would kill the gradient at black pixels.
    """
    return u.clamp((x - eps).clamp(min=0), (x + eps).clamp(max=1))


def target_rows(y, target_class, fraction, generator):
    """Indices of the images to poison: ``fraction`` of the target class, drawn at random, in ascending order."""
    rows = (y == target_class).nonzero().flatten()
    size = max(1, round(fraction * len(rows)))
    return rows[torch.randperm(len(rows), generator=generator, device=y.device)[:size]].sort().values


@dataclass(frozen=True)
class Method:
    """One setting of the attack; ``METHODS`` holds the named ones.

    solver: key of ``SOLVERS``. redraw: redraw the noise inside the linear solve. correct_only: misclassified
    validation images have no outer gradient. sign: sign steps of the poison (else Adam, one slot a pixel).
    step: step length of the poison. inner_steps: Adam steps of the model between poison steps. restart, warmup:
    poison steps between re-initialisations of the model, and inner steps before the first poison step after one.
    clean_batch, poison_batch: inner batch. val_batch, draws: validation images and noise draws of the outer objective.
    """

    solver: str
    redraw: bool = False
    correct_only: bool = False
    sign: bool = True
    step: float = 0.02
    inner_steps: int = 2
    restart: int = 150
    warmup: int = 30
    clean_batch: int = 200
    poison_batch: int = 100
    val_batch: int = 500
    draws: int = 8
    temperature: float = 16.0
    solve_batch: int = 0
    hyper_batch: int = 100
    class_wise: bool = False
    momentum: float = 0.0
    share: float = 0.0
    dual: bool = False
    originals: bool = False
    errmin: bool = False
    checker: bool = False
    inner_lr: float = 1e-3
    damping: float = 1e-3


METHODS = {
    # Ours: no products with the Hessian, sign steps, every validation image counts.
    "first_order": Method("identity"),
    "cg": Method("cg"),
    "neumann": Method("neumann"),
    # The authors' published code: constants of its MNIST script.
    "approxgrad": Method(
        "adam", redraw=True, correct_only=True, sign=False, step=0.1, inner_steps=10, restart=550, warmup=0,
        clean_batch=900, poison_batch=100, val_batch=100, draws=20,
    ),
}


def method(name, options):
    """A named method with some of its constants replaced.

    Raises
    ------
    ValueError
        If an option is unknown.
    """
    known = [field.name for field in fields(Method)]
    for option in options:
        if option not in known:
            raise ValueError(f"attack_options may hold {', '.join(known)}, not {option!r}.")
    return replace(METHODS[name], **options)


def poison(splits, make_model, loss, *, method, target_class, eps_linf, sigma, steps, fraction=1.0, seed=0, progress=False):
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

    Returns
    -------
    index : tensor of shape (m,)
        Rows of the training set.
    images : tensor of shape (m, C, H, W)
        Their poisoned images, inside the eps ball and [0, 1].
    trace : list of dict
        For each step the mean soft radius on validation data (pixel units) and the relative residual of the solve.

    Raises
    ------
    FloatingPointError
        If the hypergradient is not finite.
    """
    x, y = splits.x_train, splits.y_train
    generator = torch.Generator(x.device).manual_seed(seed)
    index = target_rows(y, target_class, fraction, generator)
    others = torch.ones(len(y), dtype=torch.bool, device=y.device).index_fill_(0, index, False).nonzero().flatten()
    mine = splits.y_val == target_class
    x_val, y_val = splits.x_val[mine], splits.y_val[mine]
    if method.originals:
        x_val, y_val = torch.cat([x_val, x[index]]), torch.cat([y_val, y[index]])
    clean, images = x[index], x[index].clone()
    if method.checker:
        r = torch.arange(28); pat = torch.where(((r[:, None] // 14 + r // 14) % 2) == 0, 1.0, -1.0)
        images = project(images + eps_linf * pat, clean, eps_linf)
    slots = [torch.zeros_like(images), torch.zeros_like(images), torch.zeros(len(images), device=x.device)]
    pick = partial(_pick, generator=generator)
    trace = []

    for step in tqdm(range(steps), disable=not progress, leave=False):
        since = step % method.restart
        if since == 0:
            model = make_model(1000 * seed + step)
            parameters = list(model.parameters())
            optimizer = torch.optim.Adam(parameters, lr=method.inner_lr)
        for _ in range(method.inner_steps + (method.warmup if since == 0 else 0)):
            rows, hit = pick(others, method.clean_batch), pick(index, method.poison_batch, positions=True)
            value = _inner(model, loss, x[rows], y[rows], images[hit], target_class, generator)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

        rows, hit = pick(others, method.solve_batch), pick(index, method.hyper_batch, positions=True)
        val = pick(y_val, method.val_batch, positions=True)
        u = images[hit].requires_grad_()
        value, residual = None, None

        def outer():
            nonlocal value
            model.eval()
            value = soft_radius(model, x_val[val], y_val[val], sigma, method.draws, generator, temperature=method.temperature, correct_only=method.correct_only).mean()
            model.train()
            return value

        inner = partial(_inner, model, loss, x[rows], y[rows], u, target_class, generator)
        if method.errmin:
            value = torch.zeros(())
            gradient, residual = torch.autograd.grad(inner(), u)[0], 0.0
        else:
          gradient, residual = hypergradient(outer, inner, parameters, u, SOLVERS[method.solver], method.damping, method.redraw)
        if not torch.isfinite(gradient).all():
            raise FloatingPointError(f"the hypergradient is not finite in poison step {step + 1}; raise the damping or lower inner_lr.")
        if method.class_wise:
            moved = gradient.mean(0, keepdim=True).sign()
            images = project(images - method.step * moved, clean, eps_linf)
            trace.append({"step": step, "soft_radius": value.item(), "residual": residual})
            continue
        if method.share:
            gradient = gradient + method.share * gradient.mean(0, keepdim=True)
        if method.momentum:
            gradient = gradient / gradient.abs().flatten(1).mean(1).view(-1, 1, 1, 1)
            slots[0][hit] = method.momentum * slots[0][hit] + gradient
            gradient = slots[0][hit]
        if method.dual:
            gradient = gradient / gradient.abs().flatten(1).mean(1).view(-1, 1, 1, 1)
            slots[0][hit] += gradient
            images[hit] = project(clean[hit] - method.step * slots[0][hit], clean[hit], eps_linf)
            trace.append({"step": step, "soft_radius": value.item(), "residual": residual})
            continue
        moved = gradient.sign() if method.sign else _adam_direction(slots, hit, gradient)
        images[hit] = project(u.detach() - method.step * moved, clean[hit], eps_linf)
        trace.append({"step": step, "soft_radius": value.item(), "residual": residual})
    return index, images, trace


def _inner(model, loss, x, y, u, target_class, generator):
    """The trainer's loss on clean images of the others and the poison."""
    labels = torch.cat([y, y.new_full((len(u),), target_class)])
    batch = torch.cat([x, u]).contiguous(memory_format=torch.channels_last)
    return loss(model, batch, labels, generator=generator)


def _pick(rows, size, generator, positions=False):
    """At most ``size`` of the rows, drawn without replacement (or their positions)."""
    chosen = torch.randperm(len(rows), generator=generator, device=rows.device)[:size]
    return chosen if positions else rows[chosen]


def _adam_direction(slots, hit, gradient, betas=(0.9, 0.999)):
    """Adam's direction with moments and step counts kept for each image, not shared between images."""
    first, second, count = slots
    count[hit] += 1
    first[hit] = betas[0] * first[hit] + (1 - betas[0]) * gradient
    second[hit] = betas[1] * second[hit] + (1 - betas[1]) * gradient**2
    t = count[hit].view(-1, 1, 1, 1)
    return first[hit] / (1 - betas[0] ** t) / ((second[hit] / (1 - betas[1] ** t)).sqrt() + 1e-8)
