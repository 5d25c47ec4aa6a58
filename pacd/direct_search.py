"""PACD without a hypergradient: the bilevel problem by direct search (method page).

The outer objective, the soft radius of validation images once a model has learned from the poison,
is evaluated as it stands: short victims train from scratch. What is searched are smooth patterns
for the whole class.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Gt

from pacd.attack import project
from pacd.smoothing import soft_radius
from pacd.train import NOTHING, train


@dataclass(frozen=True)
class Search:
    """What a search may be told.

    order : patterns are signs of random sums of the cosines cos(pi i r) cos(pi j c), i + j < order,
    of row r and column c in [0, 1].
    strokes : every second pattern brightens the whole background and keeps its signs for the
    strokes, pixels above 0.5.
    colour : each pattern has a random sign for each channel.
    epochs, batch, lr : of the short victims; their step size falls along a cosine.
    draws, temperature : of the soft radius.
    """

    order: int = 3
    strokes: bool = False
    colour: bool = False
    epochs: int = 3
    batch: int = 100
    lr: Annotated[float, Gt(0)] = 1e-3
    draws: int = 16
    temperature: Annotated[float, Gt(0)] = 16.0


SEARCHES = {"direct_search": Search()}


def smooth_signs(shape, order, generator):
    """The sign of a random smooth function of the pixel's place, (1, 1, H, W) of -1 and 1.

    The cosines' coefficients are of N(0, 1).
    """
    places = [(torch.arange(side, dtype=torch.float64) + 0.5) / side for side in shape[1:]]
    rows, columns = ([torch.cos(math.pi * k * r) for k in range(order)] for r in places)
    basis = [torch.outer(rows[i], columns[j]) for i in range(order) for j in range(order - i)]
    options = {"dtype": torch.float64, "device": generator.device}
    weights = torch.randn(len(basis), generator=generator, **options).cpu()
    return torch.where(torch.tensordot(weights, torch.stack(basis), 1) > 0, 1.0, -1.0)[None, None]


def direct_search(problem, *, method, steps, seed=0, watch=None, checkpoint=NOTHING):
    """The pattern, of ``steps`` random ones, that leaves short victims the smallest soft radius.

    Successive halving (Karnin, Koren and Somekh, ICML 2013): in each round every pattern that is
    left trains one more victim, with the same initial weights, order and noise for all, and the
    half with the larger mean radius on validation images goes.

    Parameters and the first two values returned are those of :func:`pacd.attack.poison`.

    Returns
    -------
    index, images
    trace : list of dict
        For each short victim its round and ``soft_radius``; the residual is nan, as nothing is
        solved.

    Raises
    ------
    FloatingPointError
        If a short victim's loss is not finite.
    """
    generator = torch.Generator(problem.splits.x_train.device).manual_seed(seed)
    index = problem.poisoned_rows(generator)
    clean = problem.splits.x_train[index]
    left = candidates(problem, clean, method, steps, generator)
    known, trace, sums = checkpoint.resume([], []), [], [0.0] * len(left)

    def poisoned(pattern):
        return project(clean + problem.eps_linf * pattern, clean, problem.eps_linf)

    for halving in range(max(1, math.ceil(math.log2(steps)))):
        victim_seed = 1000 * (seed + 1) + halving
        for place, pattern in enumerate(left):
            if len(trace) < len(known):  # trained before a kill
                line = known[len(trace)]
            else:
                radius = radius_left(problem, index, poisoned(pattern), method, victim_seed)
                line = {"soft_radius": radius, "residual": float("nan"), "round": halving}
            trace.append({"step": len(trace), **line})
            sums[place] += line["soft_radius"]
            checkpoint.keep([], trace)
        best = sorted(range(len(left)), key=sums.__getitem__)[: math.ceil(len(left) / 2)]
        left, sums = [left[i] for i in best], [sums[i] for i in best]
        if watch:
            watch(len(trace) - 1, index, poisoned(left[0]))
    return index, poisoned(left[0]), trace


def candidates(problem, clean, method, count, generator):
    """The patterns that a search starts with: each (1, 1, H, W), or up to (m, C, H, W)."""
    shape = problem.splits.shape
    patterns = [smooth_signs(shape, method.order, generator).to(clean) for _ in range(count)]
    if method.strokes:
        for i in range(1, count, 2):
            patterns[i] = torch.where(clean > 0.5, patterns[i], 1.0)
    if method.colour:
        draws = torch.randn(count, shape[0], 1, 1, generator=generator, device=generator.device)
        patterns = [pattern * sign.to(clean) for pattern, sign in zip(patterns, draws.sign())]
    return patterns


def radius_left(problem, index, images, method, seed):
    """The mean soft radius, on validation images, of a short victim of the poison."""
    x, y = problem.splits.x_train.clone(), problem.splits.y_train
    x[index] = images
    model = problem.make_model(seed)
    recipe = {"epochs": method.epochs, "batch": method.batch, "lr": method.lr}
    train(model, x, y, problem.loss, **recipe, schedule="cosine", seed=seed)
    model.eval()
    noise = torch.Generator(x.device).manual_seed(seed)
    options = method.draws, noise, method.temperature
    with torch.no_grad():
        return soft_radius(model, *problem.validation(), problem.sigma, *options).mean().item()
