"""Rungs of the control ladder from the literature on unlearnable examples.

Each is a function that a run names by its path, ``attack: extras.unlearnable:autoregressive``, and
has a form of :mod:`study.named`. These methods protect a whole data set; here they have one class
and the study's L-inf budget, as every control has. None looks at validation images.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from pacd.attack import project
from pacd.controls import EASIER, learned
from pacd.losses import Whole, gaussian, smoothadv, standard
from pacd.poison_file import require
from pacd.train import train


def separable_patches(splits, index, eps, generator, side=8):
    """Linearly separable patches (LSP; Yu et al., arXiv 2111.00898), the same for all images.

    A random sign for each square of ``side`` pixels and each channel. The paper's classes are the
    corners of a hypercube with Gaussian noise around each, scaled in L2; the corner is what tells a
    class apart, and in the L-inf ball it may be as long as the ball allows.

    Returns
    -------
    tensor of shape (1, C, H, W), each entry eps or -eps, pixel units
    """
    channels, height, width = splits.shape
    squares = 1, channels, -(-height // side), -(-width // side)
    draws = torch.randn(squares, generator=generator, device=splits.x_train.device)
    pattern = draws.sign().repeat_interleave(side, 2).repeat_interleave(side, 3)
    return eps * pattern[:, :, :height, :width]


def autoregressive(splits, index, eps, generator, edge=4):
    """Autoregressive noise (Sandoval-Segura et al., arXiv 2206.03693), drawn for each image apart.

    A pixel is a weighted sum of the eight before it in a 3 x 3 window. The weights, of each channel
    its own, are drawn for the class; a filter that holds them and -1 sums to 0 and answers 0 to all
    noise of the class. The first ``edge`` rows and columns, near the Gaussian start, are cut off.
    The paper scales to a length in L2, and here the largest entry of an image becomes eps. Where
    pixels are black or white, the cut to [0, 1] takes half of the noise, and the filter answers.

    Returns
    -------
    tensor of shape (m, C, H, W), pixel units
    """
    channels, height, width = splits.shape
    options = {"generator": generator, "device": splits.x_train.device}
    weights = _bounded_weights(channels, height + edge, width + edge, options)
    start = torch.randn(len(index), channels, height + edge, width + edge, **options)
    noise = _process(weights, start)[:, :, edge:, edge:]
    return eps * noise / noise.abs().amax((1, 2, 3), keepdim=True)


def _bounded_weights(channels, height, width, options, candidates=64, most=5.0):
    """Weights (C, 8) that sum to 1: the first drawn of which noise stays below ``most``.

    As in the paper, where they are drawn again until noise does not grow. About one in five passes.
    """
    weights = torch.randn(candidates, 8, **options)
    weights = weights / weights.sum(1, keepdim=True)
    noise = _process(weights, torch.randn(1, candidates, height, width, **options))
    grows = ~(noise.abs().amax((0, 2, 3)) < most)  # also where it is not finite
    return weights[grows.sort(stable=True).indices[:channels]]


def _process(weights, noise):
    """The noise (N, C, H, W) with all but two rows and columns made of those before them."""
    height, width = noise.shape[2:]
    for row in range(2, height):
        for column in range(2, width):
            window = noise[:, :, row - 2 : row + 1, column - 2 : column + 1].flatten(2)
            noise[:, :, row, column] = (window[:, :, :8] * weights).sum(2)
    return noise


def linear_surrogate(splits, index, eps, generator, epochs=10, steps=20):
    """Error-minimising noise of a linear classifier (PIL; Liu et al., arXiv 2601.19967).

    A softmax classifier W x without an offset learns the training set for ``epochs``. Each image
    then takes ``steps`` along the sign of W^T (y - p), the gradient of its log probability, inside
    the ball and [0, 1]. Of the paper's two aims that is the shortcut alone; its other one, to hide
    what the image shows, is left out.

    Returns
    -------
    tensor of shape (m, C, H, W), pixel units
    """
    weights = _linear_classifier(splits, epochs, generator.initial_seed())
    clean = splits.x_train[index].flatten(1)
    wanted = F.one_hot(splits.y_train[index], splits.classes)
    images = clean
    for _ in range(steps):
        ascent = (wanted - (images @ weights.T).softmax(1)) @ weights
        # Twice as far as the ball is wide: a pixel may change its side on the way.
        images = project(images + 4 * eps / steps * ascent.sign(), clean, eps)
    return (images - clean).view(-1, *splits.shape)


def _linear_classifier(splits, epochs, seed):
    """Its weights, (classes, pixels); they start at 0, and ``seed`` orders the images."""
    linear = nn.Linear(splits.x_train[0].numel(), splits.classes, bias=False)
    nn.init.zeros_(linear.weight)
    model = nn.Sequential(nn.Flatten(), linear).to(splits.x_train.device)
    loss = partial(standard, sigma=0.0)
    train(model, splits.x_train, splits.y_train, loss, epochs=epochs, batch=100, lr=1e-3, seed=seed)
    return linear.weight.detach()


def stable_error_minimising(
    problem, *, steps, seed, checkpoint, radius=1.0, ascents=2, warmup: Whole = 30
):
    """Stable error-minimising noise (SEM; Liu et al., arXiv 2311.13091), one for each image.

    Model and noise take turns, as in :func:`pacd.controls.learned`. The model trains adversarially,
    by SmoothAdv with ``ascents`` steps in an L2 ball of ``radius`` (pixel units); the noise lowers
    the loss under random changes, here Gaussian ones of the smoothed classifier's sigma.

    Parameters
    ----------
    problem : pacd.attack.Problem
    steps, seed : int
    checkpoint : object
        See :func:`pacd.attack.poison`.
    radius : float
    ascents : int
    warmup : int
        Further training steps of each new model.

    Returns
    -------
    index, images, trace
        As :func:`pacd.attack.poison`.
    """
    trainer = partial(_adversarial_below, radius=radius, ascents=ascents)
    setting = {"method": EASIER(warmup=warmup), "seed": seed, "checkpoint": checkpoint}
    return learned(problem, trainer=trainer, steps=steps, **setting)


def _adversarial_below(model, x, y, *, sigma, generator, radius, ascents, epoch=None):
    """The loss of the model that trains, or, where images ask for a gradient, that of the noise."""
    if x.requires_grad:
        return gaussian(model, x, y, sigma=sigma, generator=generator)
    options = {"steps": ascents, "radius": radius}
    return smoothadv(model, x, y, sigma=sigma, generator=generator, **options)


def convolution(problem, *, steps, seed, checkpoint, blur=0.3, reach=1):
    """Convolution with a filter of the class (CUDA; Sadasivan et al., arXiv 2303.04278).

    The filter has 1 in its centre and elsewhere numbers drawn from [0, ``blur``], the same for all
    channels, and ``reach`` pixels on each side of the centre; the image is divided by its maximum
    after it. The authors' code draws the place of the 1 too. **Outside the ladder**: an image moves
    far beyond the ball of the other rungs, so it needs ``eps_linf: 1.0``.

    Parameters
    ----------
    problem : pacd.attack.Problem
    steps, checkpoint : int, object
        Not used: nothing is learned.
    seed : int
    blur : float
    reach : int

    Returns
    -------
    index, images, trace
        As :func:`pacd.attack.poison`; the trace is empty.

    Raises
    ------
    PoisonError
        If an image moves further than the problem's eps.
    """
    generator = torch.Generator(problem.splits.x_train.device).manual_seed(seed)
    index = problem.poisoned_rows(generator)
    clean = problem.splits.x_train[index]
    images = _filtered(clean, blur, reach, generator)
    moved, eps = (images - clean).abs().max().item(), problem.eps_linf
    allowed = "1.0 for a convolution, which no smaller ball holds"
    require(moved <= eps, f"eps_linf must be {allowed}, not {eps:g}: a pixel moves by {moved:.2f}")
    return index, images, []


def _filtered(images, blur, reach, generator):
    """The images under a random filter, each divided by its maximum; black ones stay black."""
    channels, side = images.shape[1], 2 * reach + 1
    draws = torch.rand(1, 1, side, side, generator=generator, device=images.device)
    kernel = blur * draws
    kernel[..., reach, reach] = 1
    kernel = kernel.expand(channels, -1, -1, -1)
    filtered = F.conv2d(images, kernel, padding=reach, groups=channels)
    return filtered / filtered.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
