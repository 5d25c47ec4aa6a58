"""PACD without a hypergradient: the bilevel problem by direct search (method page, sec-direct-search).

The outer objective, the soft radius of validation images once a model has learned from the poison, is evaluated as it stands:
short victims train from scratch. What is searched are smooth patterns for the whole class.
"""

import math
from functools import partial

import torch
from tqdm import tqdm

from pacd.attack import project, target_rows
from pacd.smoothing import soft_radius
from pacd.train import train
from study.checked import Checked, Count, Flag, Positive
from study.checkpoint import NOTHING

SEARCHES = ("direct_search",)


class Search(Checked):
    """What a search may be told.

    order : patterns are signs of random sums of the cosines cos(pi i r) cos(pi j c), i + j < order, of row r and column c in [0, 1].
    strokes : every second pattern brightens the whole background and keeps its signs for the strokes, pixels above 0.5.
    epochs, batch, lr : of the short victims; their step size falls along a cosine.
    draws, temperature : of the soft radius.
    """

    order: Count = 3
    strokes: Flag = False
    epochs: Count = 3
    batch: Count = 100
    lr: Positive = 1e-3
    draws: Count = 16
    temperature: Positive = 16.0


def search(options):
    """The attack with some of the constants of :class:`Search` replaced, ``direct_search(splits, make_model, loss, **setting)``.

    Raises
    ------
    SettingsError
        If an option is unknown or impossible.
    """
    return partial(direct_search, method=Search.check(options, "attack_options of direct_search: "))


def smooth_signs(shape, order, generator):
    """The sign of a random smooth function of the pixel's place, (1, 1, H, W) of -1 and 1; the cosines' coefficients are of N(0, 1)."""
    rows, columns = ((torch.arange(side, dtype=torch.float64) + 0.5) / side for side in shape[1:])
    waves = [[torch.cos(math.pi * k * place) for k in range(order)] for place in (rows, columns)]
    basis = [torch.outer(waves[0][i], waves[1][j]) for i in range(order) for j in range(order - i)]
    weights = torch.randn(
        len(basis), generator=generator, dtype=torch.float64, device=generator.device
    ).cpu()
    return torch.where(torch.tensordot(weights, torch.stack(basis), 1) > 0, 1.0, -1.0)[None, None]


def direct_search(
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
    """The pattern of ``steps`` random ones that leaves short victims the smallest soft radius on validation images.

    Successive halving (Karnin, Koren and Somekh, ICML 2013): in each round every pattern that is left trains one more victim, with the same
    initial weights, order and noise for all, and the half with the larger mean radius goes.

    Parameters and the first two values returned are those of :func:`pacd.attack.poison`, and ``steps`` is the number of patterns.

    Returns
    -------
    index, images
    trace : list of dict
        For each short victim its round and ``soft_radius``; the residual is nan, as nothing is solved.

    Raises
    ------
    FloatingPointError
        If a short victim's loss is not finite.
    """
    generator = torch.Generator(splits.x_train.device).manual_seed(seed)
    index = target_rows(splits.y_train, target_class, fraction, generator)
    clean, mine = splits.x_train[index], splits.y_val == target_class
    left = [smooth_signs(splits.shape, method.order, generator).to(clean) for _ in range(steps)]
    if method.strokes:  # now a pattern for each image
        left[1::2] = [torch.where(clean > 0.5, pattern, 1.0) for pattern in left[1::2]]
    radii, trace = [[] for _ in left], []
    known = [
        line["soft_radius"] for line in checkpoint.resume([], [])
    ]  # of the victims that were trained before a kill

    def victim_radius(images, victim_seed):
        x = splits.x_train.clone()
        x[index] = images
        model = make_model(victim_seed)
        train(
            model,
            x,
            splits.y_train,
            loss,
            epochs=method.epochs,
            batch=method.batch,
            lr=method.lr,
            schedule="cosine",
            seed=victim_seed,
        )
        model.eval()
        noise = torch.Generator(x.device).manual_seed(victim_seed)
        with torch.no_grad():
            return (
                soft_radius(
                    model,
                    splits.x_val[mine],
                    splits.y_val[mine],
                    sigma,
                    method.draws,
                    noise,
                    method.temperature,
                )
                .mean()
                .item()
            )

    for halving in range(max(1, math.ceil(math.log2(steps)))):
        for pattern, own in zip(left, tqdm(radii, disable=not progress, leave=False)):
            images = project(clean + eps_linf * pattern, clean, eps_linf)
            own.append(
                known[len(trace)]
                if len(trace) < len(known)
                else victim_radius(images, 1000 * (seed + 1) + halving)
            )
            trace.append(
                {
                    "step": len(trace),
                    "soft_radius": own[-1],
                    "residual": float("nan"),
                    "round": halving,
                }
            )
            checkpoint.keep([], trace)
        best = sorted(range(len(left)), key=lambda i: sum(radii[i]))[: math.ceil(len(left) / 2)]
        left, radii = [left[i] for i in best], [radii[i] for i in best]
        if watch:
            watch(len(trace) - 1, index, project(clean + eps_linf * left[0], clean, eps_linf))
    return index, project(clean + eps_linf * left[0], clean, eps_linf), trace
