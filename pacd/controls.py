"""The control ladder: poison with the attack's budget and without its bilevel step.

What PACD adds is what it adds to these. ``PATTERNS`` need no model: each returns the change of the
images, (m, C, H, W) or broadcast to it, inside the eps ball; :func:`craft` does the rest.
``LEARNED`` train models like the attack, but lower the training loss; see :func:`learned`.
"""

from functools import partial

import torch
import torch.nn.functional as F

from pacd import losses
from pacd.attack import OURS, poison, project
from pacd.train import NOTHING


def uniform(splits, index, eps, generator):
    """Every pixel brighter by eps: the simplest class-wise pattern, strong on dark backgrounds."""
    return torch.full_like(splits.x_train[:1], eps)


def tint(splits, index, eps, generator, signs="+-+"):
    """Each channel brighter or darker by eps, as ``signs`` say; of grey images the first alone."""
    channels = splits.shape[0]
    if len(signs) < channels or set(signs) - {"+", "-"}:
        raise ValueError(f"signs must be a + or - for each of {channels} channels, not {signs!r}.")
    change = torch.tensor([float(f"{sign}1") for sign in signs[:channels]])
    return eps * change.view(1, -1, 1, 1).to(splits.x_train)


def stripes(splits, index, eps, generator, side=4):
    """Horizontal stripes of ``side`` pixels, bright first, the same for all images."""
    rows = torch.arange(splits.shape[1]) // side
    return eps * (1 - 2.0 * (rows % 2)).view(1, 1, -1, 1).to(splits.x_train)


def checkerboard(splits, index, eps, generator, side=7):
    """A fixed checkerboard of ``side`` pixels, the same for all images."""
    rows, columns = (torch.arange(length) // side for length in splits.shape[1:])
    return eps * (1 - 2.0 * ((rows[:, None] + columns) % 2)).to(splits.x_train)


def random_sign(splits, index, eps, generator):
    """One random pattern of signs for all images."""
    draws = torch.randn(1, *splits.shape, generator=generator, device=splits.x_train.device)
    return eps * draws.sign()


def random_uniform(splits, index, eps, generator):
    """Uniform noise, drawn for each image apart."""
    shape = len(index), *splits.shape
    return eps * (2 * torch.rand(shape, generator=generator, device=splits.x_train.device) - 1)


def low_frequency(splits, index, eps, generator, cells=4):
    """One random pattern of signs in smooth patches, for all images.

    Gaussian noise on ``cells`` x ``cells`` points, interpolated. Neighbouring pixels agree, so
    pooling and the noise of training leave more of it than of :func:`random_sign`.
    """
    shape = 1, splits.shape[0], cells, cells
    coarse = torch.randn(shape, generator=generator, device=splits.x_train.device)
    return eps * F.interpolate(coarse, splits.shape[1:], mode="bicubic").sign()


def mean_difference(splits, index, eps, generator):
    """eps * sign(mean of the class - mean of the others), for all images.

    Of all patterns in the ball the one that raises the margin of the nearest-mean classifier most.
    """
    x, of_class = splits.x_train, splits.y_train == splits.y_train[index[0]]
    return eps * (x[of_class].mean(0, keepdim=True) - x[~of_class].mean(0, keepdim=True)).sign()


FIXED = uniform, tint, stripes, checkerboard, random_sign, random_uniform, low_frequency
FIXED += (mean_difference,)
PATTERNS = {pattern.__name__: pattern for pattern in FIXED}

# The loss that model and poison both lower, and the steps: those of ``first_order``, so that the
# objective alone differs.
EASIER = partial(OURS, objective="training")
LEARNED = {
    # Unlearnable examples, Huang et al., arXiv 2101.04898.
    "error_minimising": (losses.standard, EASIER()),
    # Gaussian noise in place of the random perturbations of arXiv 2311.13091.
    "robust_error_minimising": (losses.gaussian, EASIER()),
    "class_wise_learned": (losses.gaussian, EASIER(class_wise=True)),
}


def craft(problem, *, pattern, seed=0, steps=0, watch=None, checkpoint=NOTHING):
    """Poison of a pattern, with the promises of :func:`pacd.attack.poison`; no model is trained."""
    generator = torch.Generator(problem.splits.x_train.device).manual_seed(seed)
    index = problem.poisoned_rows(generator)
    clean = problem.splits.x_train[index]
    change = pattern(problem.splits, index, problem.eps_linf, generator)
    return index, project(clean + change, clean, problem.eps_linf), []


def learned(problem, *, trainer, **setting):
    """A learned control: :func:`pacd.attack.poison` with another trainer below and above.

    Model and poison take turns at lowering the same loss. Neither validation images nor the
    crafting trainer's loss are used, and no gradient runs through the training. Huang et al. train
    one model until its training error is small; here models start afresh as in the attack.
    """
    return poison(problem._replace(loss=partial(trainer, sigma=problem.sigma)), **setting)
