"""The control ladder: poison with the attack's budget and without its bilevel step. What PACD adds is what it adds to these.

Each returns the change of the images, (m, C, H, W) or broadcast to it, inside the eps ball; :func:`craft` does the rest.
"""

import torch

from pacd.attack import project, target_rows


def uniform(clean, eps, generator):
    """Every pixel brighter by eps: the simplest class-wise pattern, and a strong one on dark backgrounds."""
    return torch.full_like(clean[:1], eps)


def checkerboard(clean, eps, generator, side=7):
    """A fixed checkerboard of ``side`` pixels, the same for all images."""
    rows, columns = (torch.arange(length, device=clean.device) // side for length in clean.shape[2:])
    return eps * (1 - 2.0 * ((rows[:, None] + columns) % 2))


def random_sign(clean, eps, generator):
    """One random pattern of signs for all images."""
    return eps * torch.randn(clean[:1].shape, generator=generator, device=clean.device).sign()


def random_uniform(clean, eps, generator):
    """Uniform noise, drawn for each image apart."""
    return eps * (2 * torch.rand(clean.shape, generator=generator, device=clean.device) - 1)


BASELINES = {"uniform": uniform, "checkerboard": checkerboard, "random_sign": random_sign, "random_uniform": random_uniform}


def craft(splits, make_model, loss, *, pattern, target_class, eps_linf, fraction=1.0, seed=0, **unused):
    """Poison of a control, with the signature and the promises of :func:`pacd.attack.poison`; no model is trained."""
    generator = torch.Generator(splits.x_train.device).manual_seed(seed)
    index = target_rows(splits.y_train, target_class, fraction, generator)
    clean = splits.x_train[index]
    return index, project(clean + pattern(clean, eps_linf, generator), clean, eps_linf), []
