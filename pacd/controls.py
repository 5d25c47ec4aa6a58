"""The control ladder: poison with the attack's budget and without its bilevel step. What PACD adds is what it adds to these.

``PATTERNS`` need no model: each returns the change of the images, (m, C, H, W) or broadcast to it, inside the eps ball;
:func:`craft` does the rest. ``LEARNED`` train models like the attack, but lower the training loss; see :func:`learn`.
"""

from functools import partial

import torch
import torch.nn.functional as F

from pacd import losses
from pacd.attack import METHODS, Method, poison, project, target_rows
from study.checked import SettingsError


def uniform(splits, index, eps, generator):
    """Every pixel brighter by eps: the simplest class-wise pattern, and a strong one on dark backgrounds."""
    return torch.full_like(splits.x_train[:1], eps)


def checkerboard(splits, index, eps, generator, side=7):
    """A fixed checkerboard of ``side`` pixels, the same for all images."""
    rows, columns = (
        torch.arange(length, device=splits.x_train.device) // side for length in splits.shape[1:]
    )
    return eps * (1 - 2.0 * ((rows[:, None] + columns) % 2))


def random_sign(splits, index, eps, generator):
    """One random pattern of signs for all images."""
    return (
        eps
        * torch.randn(1, *splits.shape, generator=generator, device=splits.x_train.device).sign()
    )


def random_uniform(splits, index, eps, generator):
    """Uniform noise, drawn for each image apart."""
    return eps * (
        2 * torch.rand(len(index), *splits.shape, generator=generator, device=splits.x_train.device)
        - 1
    )


def low_frequency(splits, index, eps, generator, cells=4):
    """One random pattern of signs in smooth patches, for all images: Gaussian noise on ``cells`` x ``cells`` points, interpolated.

    Neighbouring pixels agree, so pooling and the noise of training leave more of it than of :func:`random_sign`.
    """
    coarse = torch.randn(
        1, splits.shape[0], cells, cells, generator=generator, device=splits.x_train.device
    )
    return eps * F.interpolate(coarse, splits.shape[1:], mode="bicubic").sign()


def mean_difference(splits, index, eps, generator):
    """eps * sign(mean of the class - mean of the others), for all images.

    Of all patterns in the ball the one that raises the margin of the nearest-mean classifier most.
    """
    x, mine = splits.x_train, splits.y_train == splits.y_train[index[0]]
    return eps * (x[mine].mean(0, keepdim=True) - x[~mine].mean(0, keepdim=True)).sign()


PATTERNS = {
    "uniform": uniform,
    "checkerboard": checkerboard,
    "random_sign": random_sign,
    "random_uniform": random_uniform,
    "low_frequency": low_frequency,
    "mean_difference": mean_difference,
}

# The loss that model and poison both lower, and what sets the method apart from ``first_order``.
LEARNED = {
    "error_minimising": (
        losses.standard,
        {},
    ),  # unlearnable examples, Huang et al., arXiv 2101.04898
    "robust_error_minimising": (
        losses.gaussian,
        {},
    ),  # Gaussian noise for the random perturbations of arXiv 2311.13091
    "class_wise_learned": (losses.gaussian, {"class_wise": True}),
}

BASELINES = PATTERNS | LEARNED


def craft(
    splits, make_model, loss, *, pattern, target_class, eps_linf, fraction=1.0, seed=0, **unused
):
    """Poison of a control, with the signature and the promises of :func:`pacd.attack.poison`; no model is trained."""
    generator = torch.Generator(splits.x_train.device).manual_seed(seed)
    index = target_rows(splits.y_train, target_class, fraction, generator)
    clean = splits.x_train[index]
    return index, project(clean + pattern(splits, index, eps_linf, generator), clean, eps_linf), []


def learn(name, options):
    """A learned control: the loop and the steps of ``first_order``, so that the objective alone differs.

    Model and poison take turns at lowering the same loss. Neither validation images nor the crafting trainer's loss are
    used, and no gradient runs through the training. Huang et al. train one model until its training error is small; here
    models start afresh as in the attack.

    Returns
    -------
    callable
        With the signature of :func:`pacd.attack.poison` less ``method``.

    Raises
    ------
    SettingsError
        If an option is unknown or impossible, or is the objective.
    """
    if "objective" in options:
        raise SettingsError(
            f"attack_options of the control {name!r} may not hold 'objective': it is always 'training'."
        )
    trainer, own = LEARNED[name]
    chosen = Method.check(
        {**METHODS["first_order"].model_dump(), "objective": "training", **own, **options},
        f"attack_options of {name}: ",
    )

    def attack(splits, make_model, loss, *, sigma, **setting):
        return poison(
            splits, make_model, partial(trainer, sigma=sigma), method=chosen, sigma=sigma, **setting
        )

    return attack
